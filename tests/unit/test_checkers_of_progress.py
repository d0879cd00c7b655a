"""The checkers of progress and of evidence: each passes a right history and fails the broken one it is there for."""

from collections.abc import Callable

import pytest

from core.ids import BootId, DomainId, Epoch, NodeId, RackId, ServiceName, VolumeName
from core.specs import NodeSpec, ServiceSpec, Timing
from trial.marks import FaultMark, NoteMark
from twin.checkers import CHECKERS, Setup
from twin.truth import LeaderChange, NodeChange, Proof, ServiceChange, Truth, Wrong

DB, JOB = ServiceName("db"), ServiceName("job")
N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
TIMING = Timing()
SETUP = Setup(
    nodes=tuple(NodeSpec(id=n, rack=RackId("r1"), power_domain=DomainId("p1")) for n in (N1, N2, N3)),
    services=(
        ServiceSpec(name=DB, run="singleton", volume=VolumeName("vol")),
        ServiceSpec(name=JOB, run="singleton"),
    ),
    timing=TIMING,
)
History = Callable[[Truth], None]


def noted(
    truth: Truth,
    at_ms: int,
    by: NodeId,
    kind: str,
    service: ServiceName = DB,
    node: str = "",
    epoch: int = 0,
    say: str = "",
) -> None:
    truth.notes.append(
        NoteMark(at_ms=at_ms, by=by, kind=kind, service=service, node=NodeId(node), epoch=Epoch(epoch), detail=say)
    )


def changed(truth: Truth, at_ms: int, node: NodeId, axis: str, state: str) -> None:
    boot = BootId(f"{node}-boot1")
    truth.nodes.append(NodeChange(at_ms=at_ms, node=node, axis=axis, state=state, boot_id=boot))  # type: ignore[arg-type]


def acted(truth: Truth, service: ServiceName, node: NodeId, epoch: int, from_ms: int, to_ms: int = -1) -> None:
    truth.acting.set(service, node, Epoch(epoch), True, from_ms)
    if to_ms >= 0:
        truth.acting.set(service, node, Epoch(epoch), False, to_ms)


def starts(truth: Truth, at_ms: int, node: NodeId, epoch: int) -> None:
    truth.services.append(ServiceChange(at_ms=at_ms, node=node, service=JOB, epoch=Epoch(epoch), action="starting"))


def well(truth: Truth) -> None:
    """Three nodes whose agents run and that reach the storage; n1 leads."""
    truth.leaders.append(LeaderChange(at_ms=0, leader=N1, voters=(N1, N2, N3)))
    for node in (N1, N2, N3):
        for axis, state in (("power", "up"), ("agent", "up"), ("storage", "reachable")):
            changed(truth, 0, node, axis, state)


# -- served_when_possible ---


def both_are_served(truth: Truth) -> None:
    well(truth)
    acted(truth, DB, N1, 1, 2_000)
    acted(truth, JOB, N2, 1, 2_000)


def nobody_takes_over(truth: Truth) -> None:
    well(truth)
    acted(truth, DB, N1, 1, 2_000, 300_000)
    acted(truth, JOB, N2, 1, 2_000)


# -- agent_is_not_its_services ---


def the_agent_is_away(truth: Truth, stops_ms: int) -> None:
    well(truth)
    acted(truth, JOB, N2, 1, 2_000)
    acted(truth, DB, N1, 1, 2_000, stops_ms)
    changed(truth, 100_000, N1, "agent", "down")
    changed(truth, 100_300, N1, "agent", "up")
    truth.faults.append(FaultMark(fault="agent_crash", text="n1", nodes=(N1,), from_ms=100_000, to_ms=100_300))


def it_serves_on(truth: Truth) -> None:
    the_agent_is_away(truth, -1)


def the_successor_stops_it(truth: Truth) -> None:
    the_agent_is_away(truth, 100_350)


# -- unfit_stays_away ---


def the_mark_has_lapsed(truth: Truth) -> None:
    noted(truth, 1_000, N1, "gave_up")
    noted(truth, 1_000 + TIMING.unfit_ms, N1, "claimed", epoch=2)


def it_claims_again_at_once(truth: Truth) -> None:
    noted(truth, 1_000, N1, "gave_up")
    noted(truth, 2_000, N1, "claimed", epoch=2)


# -- gave_up_for_somebody ---


def another_reads_the_volume(truth: Truth) -> None:
    well(truth)
    changed(truth, 50_000, N1, "storage", "cut")
    noted(truth, 60_000, N1, "gave_up", say="no progress while withdrawn")


def nobody_reads_the_volume(truth: Truth) -> None:
    well(truth)
    for node in (N1, N2, N3):
        changed(truth, 20_000, node, "storage", "cut")
    noted(truth, 60_000, N1, "gave_up", say="no progress while withdrawn")


# -- rights_have_evidence, closed_after_mark ---


def nothing_is_wrong(truth: Truth) -> None:
    well(truth)


def a_right_is_too_long(truth: Truth) -> None:
    truth.wrongs.append(Wrong(at_ms=5, node=N1, checker="rights_have_evidence", text="a right 300 ms too long"))


def a_session_is_closed_unmarked(truth: Truth) -> None:
    truth.wrongs.append(Wrong(at_ms=5, node=N1, checker="closed_after_mark", text="session 7 was to be closed"))


def a_service_outlives_its_session(truth: Truth) -> None:
    truth.wrongs.append(Wrong(at_ms=5, node=N1, checker="stopped_before_new_session", text="db: ran on"))


def an_order_is_good_for_too_long(truth: Truth) -> None:
    truth.wrongs.append(Wrong(at_ms=5, node=N1, checker="orders_dated_from_commit", text="an order to n2"))


# -- early_close_has_proof ---


def a_proof_comes_first(truth: Truth) -> None:
    truth.proofs.append(Proof(at_ms=900, node=N2))
    noted(truth, 1_000, N1, "early_close", node="n2")


def no_proof_at_all(truth: Truth) -> None:
    noted(truth, 1_000, N1, "early_close", node="n2")


def the_node_is_back_since(truth: Truth) -> None:
    truth.proofs.append(Proof(at_ms=900, node=N2))
    noted(truth, 950, N2, "joined")
    noted(truth, 1_000, N1, "early_close", node="n2")


# -- waits_after_early_close ---


def closed_early(truth: Truth, starts_ms: int) -> None:
    acted(truth, JOB, N2, 1, 2_000, 9_000)
    noted(truth, 9_500, N1, "early_close", node="n2")
    noted(truth, 9_510, N3, "claimed", JOB, epoch=2)
    starts(truth, starts_ms, N3, 2)


def it_waits(truth: Truth) -> None:
    closed_early(truth, 9_510 + TIMING.no_volume_wait_ms)


def it_does_not_wait(truth: Truth) -> None:
    closed_early(truth, 9_600)


# -- brake_has_reason ---


def most_are_gone(truth: Truth) -> None:
    noted(truth, 5, N1, "brake_engaged", say="2 of 5 members disappeared at once")


def just_a_third_is_gone(truth: Truth) -> None:
    noted(truth, 5, N1, "brake_engaged", say="1 of 3 members disappeared at once")


# -- no_needless_wait ---


def expired(truth: Truth, starts_ms: int) -> None:
    acted(truth, JOB, N2, 1, 2_000, 49_000)
    noted(truth, 49_500, N1, "not_off", node="n2")
    noted(truth, 50_000, N3, "claimed", JOB, epoch=2)
    starts(truth, starts_ms, N3, 2)


def it_starts_at_once(truth: Truth) -> None:
    expired(truth, 50_010)


def it_waits_for_nothing(truth: Truth) -> None:
    expired(truth, 50_000 + TIMING.no_volume_wait_ms)


CASES: tuple[tuple[str, History, tuple[History, ...]], ...] = (
    ("served_when_possible", both_are_served, (nobody_takes_over,)),
    ("agent_is_not_its_services", it_serves_on, (the_successor_stops_it,)),
    ("unfit_stays_away", the_mark_has_lapsed, (it_claims_again_at_once,)),
    ("gave_up_for_somebody", another_reads_the_volume, (nobody_reads_the_volume,)),
    ("rights_have_evidence", nothing_is_wrong, (a_right_is_too_long,)),
    ("closed_after_mark", nothing_is_wrong, (a_session_is_closed_unmarked,)),
    ("stopped_before_new_session", nothing_is_wrong, (a_service_outlives_its_session,)),
    ("orders_dated_from_commit", nothing_is_wrong, (an_order_is_good_for_too_long,)),
    ("early_close_has_proof", a_proof_comes_first, (no_proof_at_all, the_node_is_back_since)),
    ("waits_after_early_close", it_waits, (it_does_not_wait,)),
    ("brake_has_reason", most_are_gone, (just_a_third_is_gone,)),
    ("no_needless_wait", it_starts_at_once, (it_waits_for_nothing,)),
)
BY_NAME = {checker.name: checker for checker in CHECKERS}


def finding(name: str, history: History) -> str:
    truth = Truth({DB: VolumeName("vol")})
    history(truth)
    truth.ends(600_000)
    return BY_NAME[name].find(truth, SETUP)


@pytest.mark.parametrize(("name", "right"), [(name, right) for name, right, _ in CASES])
def test_a_right_history_passes(name: str, right: History) -> None:
    assert finding(name, right) == ""


@pytest.mark.parametrize(("name", "broken"), [(name, broken) for name, _, wrong in CASES for broken in wrong])
def test_a_broken_history_is_found_and_told(name: str, broken: History) -> None:
    assert len(finding(name, broken)) > 20
