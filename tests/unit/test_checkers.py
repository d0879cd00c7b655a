"""Every checker passes a right history and fails the broken one that it is there for."""

from collections.abc import Callable
from typing import Literal

import pytest

from core.ids import BootId, DomainId, Epoch, NodeId, OpId, RackId, ServiceName, VolumeName
from core.records import Instance
from core.specs import NodeSpec, ServiceSpec, Timing
from tests.unit.test_checkers_of_progress import CASES as OF_PROGRESS
from tests.unit.test_checkers_of_upgrades import CASES as OF_UPGRADES
from trial.marks import ClientOp, NoteMark
from twin.checkers import CHECKERS, Setup, check_all
from twin.truth import BlockChange, FirstWrite, JoinMark, NodeChange, PowerAct, ServiceChange, Truth

DB, DNS, VOLUME = ServiceName("db"), ServiceName("dns"), VolumeName("vol")
N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
SETUP = Setup(
    nodes=tuple(NodeSpec(id=n, rack=RackId("r1"), power_domain=DomainId("p1")) for n in (N1, N2, N3)),
    services=(ServiceSpec(name=DB, run="singleton", volume=VOLUME), ServiceSpec(name=DNS, run="everywhere")),
    timing=Timing(),
)
OLD = Instance(node=N1, boot_id=BootId("n1-boot1"), epoch=Epoch(1), address="10.0.0.1:0/1")
NEW = Instance(node=N2, boot_id=BootId("n2-boot1"), epoch=Epoch(2), address="10.0.0.2:0/2")

History = Callable[[Truth], None]


def wrote(truth: Truth, at_ms: int, instance: Instance, payload: int = 0) -> None:
    truth.wrote(at_ms, VOLUME, instance, payload)


def blocked(truth: Truth, at_ms: int, change: str) -> None:
    truth.block_changed(BlockChange(at_ms=at_ms, volume=VOLUME, instance=OLD, change=change))  # type: ignore[arg-type]


def asked(truth: Truth, op: int, kind: str, value: int, from_ms: int, to_ms: int, outcome: str = "ok") -> None:
    truth.answered(operation(op, kind, value, from_ms, to_ms, outcome))


def operation(op: int, kind: str, value: int, from_ms: int, to_ms: int, outcome: str = "ok") -> ClientOp:
    return ClientOp(
        service=DB,
        op=OpId(op),
        kind=kind,  # type: ignore[arg-type]
        value=value,
        invoked_ms=from_ms,
        answered_ms=to_ms,
        outcome=outcome,  # type: ignore[arg-type]
    )


def acted(truth: Truth, node: NodeId, epoch: int, from_ms: int, to_ms: int) -> None:
    truth.acting.set(DB, node, Epoch(epoch), True, from_ms)
    truth.acting.set(DB, node, Epoch(epoch), False, to_ms)


def noted(truth: Truth, at_ms: int, by: NodeId, kind: str, node: str = "", epoch: int = 0) -> None:
    service = DB if kind == "claimed" else ServiceName("")
    truth.notes.append(
        NoteMark(at_ms=at_ms, by=by, kind=kind, service=service, node=NodeId(node), epoch=Epoch(epoch), detail="")
    )


def ordered(
    truth: Truth,
    at_ms: int,
    node: NodeId,
    *,
    by: NodeId = N2,
    was: str = "up",
    generation: int = 1,
    late_ms: int = -1_000,
    committed: bool = True,
) -> None:
    truth.power.append(
        PowerAct(
            at_ms=at_ms,
            node=node,
            by=by,
            action="cycle",
            generation=generation,
            deadline_at_ms=at_ms - late_ms,
            was=was,
            obeyed=True,
            committed=committed,
        )
    )


def power(truth: Truth, at_ms: int, node: NodeId, state: str, boot: int = 1) -> None:
    boot_id = BootId(f"{node}-boot{boot}") if state != "off" else BootId("")
    truth.nodes.append(NodeChange(at_ms=at_ms, node=node, axis="power", state=state, boot_id=boot_id))


def up_with_agent(truth: Truth, node: NodeId) -> None:
    power(truth, 0, node, "up")
    truth.nodes.append(NodeChange(at_ms=100, node=node, axis="agent", state="up"))


def ran(truth: Truth, at_ms: int, node: NodeId, action: str) -> None:
    truth.services.append(
        ServiceChange(at_ms=at_ms, node=node, service=DNS, epoch=Epoch(0), action=action)  # type: ignore[arg-type]
    )


# -- single_writer ---


def one_after_the_other(truth: Truth) -> None:
    for at_ms, instance in ((1, OLD), (5, OLD), (9, NEW), (12, NEW)):
        wrote(truth, at_ms, instance)


def an_old_instance_writes_again(truth: Truth) -> None:
    one_after_the_other(truth)
    wrote(truth, 20, OLD)


def two_openings_of_one_epoch_interleave(truth: Truth) -> None:
    second = Instance(node=N1, boot_id=OLD.boot_id, epoch=OLD.epoch, address="10.0.0.1:0/9")
    for at_ms, instance in ((1, OLD), (2, second), (3, OLD)):
        wrote(truth, at_ms, instance)


# -- identity_before_writing, fence_holds, blocked_kept, admission_waits ---


def a_recorded_instance_writes(truth: Truth) -> None:
    truth.first_write(FirstWrite(at_ms=3, volume=VOLUME, instance=OLD, recorded=True))


def an_unrecorded_instance_writes(truth: Truth) -> None:
    truth.first_write(FirstWrite(at_ms=3, volume=VOLUME, instance=OLD, recorded=False))


def the_volume_is_opened_after_the_fence(truth: Truth) -> None:
    a_recorded_instance_writes(truth)
    truth.opening(20, VOLUME, N1, Epoch(1))
    blocked(truth, 100, "complete")
    truth.opening(110, VOLUME, N2, Epoch(2))


def the_volume_is_opened_before_the_fence(truth: Truth) -> None:
    a_recorded_instance_writes(truth)
    blocked(truth, 50, "blocked")
    truth.opening(60, VOLUME, N2, Epoch(2))
    blocked(truth, 100, "complete")


def the_last_write_lands_before_the_barrier(truth: Truth) -> None:
    blocked(truth, 10, "blocked")
    wrote(truth, 50, OLD)
    blocked(truth, 100, "complete")


def a_write_lands_after_the_barrier(truth: Truth) -> None:
    the_last_write_lands_before_the_barrier(truth)
    wrote(truth, 101, OLD)


def a_block_is_lifted_after_a_new_boot(truth: Truth) -> None:
    power(truth, 0, N1, "up", boot=1)
    blocked(truth, 10, "complete")
    power(truth, 20, N1, "off")
    power(truth, 90, N1, "up", boot=2)
    blocked(truth, 100, "lifted")


def a_block_expires_while_its_boot_is_frozen(truth: Truth) -> None:
    power(truth, 0, N1, "up", boot=1)
    blocked(truth, 10, "complete")
    power(truth, 20, N1, "frozen", boot=1)
    blocked(truth, 100, "expired")


def the_successor_waits(truth: Truth) -> None:
    acted(truth, N1, 1, 0, 5_000)
    blocked(truth, 6_000, "complete")
    blocked(truth, 6_500, "complete")  # a claimer that was too late fences it as well
    acted(truth, N2, 2, 6_735, 9_000)
    acted(truth, N2, 2, 9_100, 9_500)


def the_successor_does_not_wait_for_a_new_fence(truth: Truth) -> None:
    acted(truth, N1, 1, 0, 5_000)
    blocked(truth, 5_100, "complete")
    blocked(truth, 5_200, "lifted")
    blocked(truth, 6_000, "complete")
    acted(truth, N2, 2, 6_200, 9_000)


def the_successor_admits_at_once(truth: Truth) -> None:
    acted(truth, N1, 1, 0, 5_000)
    blocked(truth, 6_000, "complete")
    acted(truth, N2, 2, 6_200, 9_000)


# -- what clients saw ---


def reads_follow_writes(truth: Truth) -> None:
    asked(truth, 1, "write", 1, 0, 10)
    asked(truth, 2, "read", 1, 20, 20)
    asked(truth, 4, "read", 1, 40, 40)
    asked(truth, 3, "write", 3, 30, 500, "unknown")
    asked(truth, 5, "read", 3, 600, 600)
    asked(truth, 6, "write", 6, 700, 710, "failed")
    wrote(truth, 5, OLD, 1)
    wrote(truth, 550, OLD, 3)


def a_stale_read(truth: Truth) -> None:
    asked(truth, 1, "write", 1, 0, 10)
    asked(truth, 2, "write", 2, 20, 30)
    asked(truth, 3, "read", 1, 40, 40)


def a_value_comes_back(truth: Truth) -> None:
    asked(truth, 1, "write", 1, 0, 10)
    asked(truth, 3, "read", 2, 20, 20)
    asked(truth, 4, "read", 1, 30, 30)
    asked(truth, 5, "read", 2, 40, 40)
    asked(truth, 2, "write", 2, 0, 500, "unknown")


def a_failed_write_is_read(truth: Truth) -> None:
    asked(truth, 1, "write", 1, 0, 10, "failed")
    asked(truth, 2, "read", 1, 20, 20)


def an_acknowledged_write_never_arrived(truth: Truth) -> None:
    asked(truth, 1, "write", 1, 0, 10)


def an_acknowledged_write_is_overwritten_by_an_older_one(truth: Truth) -> None:
    asked(truth, 1, "write", 1, 0, 10)
    asked(truth, 2, "write", 2, 20, 30)
    wrote(truth, 5, OLD, 1)
    wrote(truth, 25, NEW, 2)
    wrote(truth, 40, OLD, 1)


# -- who serves ---


def one_serves_after_the_other(truth: Truth) -> None:
    noted(truth, 1, N1, "claimed", epoch=1)
    noted(truth, 5_500, N2, "claimed", epoch=2)
    acted(truth, N1, 1, 10, 5_000)
    acted(truth, N2, 2, 6_000, 9_000)


def two_serve_at_once(truth: Truth) -> None:
    acted(truth, N1, 1, 10, 5_000)
    acted(truth, N2, 2, 4_999, 9_000)


def an_old_epoch_serves_again(truth: Truth) -> None:
    acted(truth, N2, 2, 10, 5_000)
    acted(truth, N1, 1, 6_000, 9_000)


def one_epoch_is_claimed_twice(truth: Truth) -> None:
    noted(truth, 1, N1, "claimed", epoch=1)
    noted(truth, 2, N2, "claimed", epoch=1)


def copies_run_everywhere(truth: Truth) -> None:
    for node in (N1, N2, N3):
        up_with_agent(truth, node)
        ran(truth, 400, node, "started")
    ran(truth, 50_000, N2, "exited")
    ran(truth, 55_000, N2, "started")


def a_quarantined_node_runs_nothing(truth: Truth) -> None:
    copies_run_everywhere(truth)
    noted(truth, 99_000, N2, "quarantined", node="n3")
    ran(truth, 100_000, N3, "exited")
    ran(truth, 500_100, N3, "started")
    noted(truth, 500_000, N3, "joined", node="n3")


def a_node_that_was_let_back_runs_nothing(truth: Truth) -> None:
    copies_run_everywhere(truth)
    noted(truth, 99_000, N2, "quarantined", node="n3")
    ran(truth, 100_000, N3, "exited")
    noted(truth, 300_000, N3, "joined", node="n3")


def a_copy_stays_away(truth: Truth) -> None:
    copies_run_everywhere(truth)
    ran(truth, 100_000, N3, "exited")


# -- power ---


def a_lost_node_is_cycled(truth: Truth) -> None:
    power(truth, 0, N1, "up")
    power(truth, 5_000, N1, "frozen")
    noted(truth, 8_000, N2, "power_ordered", node="n1")
    ordered(truth, 8_100, N1, was="frozen")
    noted(truth, 9_000, N2, "power_fence_confirmed", node="n1")
    noted(truth, 9_500, N2, "power_ordered", node="n3")
    ordered(truth, 9_600, N3, was="frozen")


def an_order_is_late(truth: Truth) -> None:
    ordered(truth, 8_100, N1, was="frozen", late_ms=1)


def an_older_order_follows(truth: Truth) -> None:
    ordered(truth, 8_100, N1, was="frozen", generation=5)
    ordered(truth, 9_100, N1, was="frozen", generation=4)


def an_order_nobody_committed(truth: Truth) -> None:
    ordered(truth, 8_100, N1, was="frozen", committed=False)


def one_order_is_carried_out_twice(truth: Truth) -> None:
    ordered(truth, 8_100, N1, was="frozen", generation=3)
    ordered(truth, 9_100, N1, was="frozen", generation=3)


def a_node_that_came_back_is_cycled(truth: Truth) -> None:
    noted(truth, 6_000, N2, "power_ordered", node="n1")
    noted(truth, 6_900, N1, "joined", node="n1")
    ordered(truth, 8_100, N1)


def most_nodes_are_cycled_while_healthy(truth: Truth) -> None:
    ordered(truth, 8_100, N1)
    ordered(truth, 20_100, N3)


def a_braked_node_fences(truth: Truth) -> None:
    noted(truth, 1_000, N2, "brake_engaged")
    ordered(truth, 60_000, N1, was="frozen")


def the_brake_was_released(truth: Truth) -> None:
    noted(truth, 1_000, N2, "brake_engaged")
    ordered(truth, 1_500, N3, was="frozen")
    noted(truth, 50_000, N2, "brake_released")
    ordered(truth, 60_000, N1, was="frozen")


def two_fences_in_one_domain(truth: Truth) -> None:
    noted(truth, 8_000, N2, "power_ordered", node="n1")
    ordered(truth, 8_100, N1, was="frozen")
    noted(truth, 8_200, N2, "power_ordered", node="n3")
    ordered(truth, 8_300, N3, was="frozen")
    noted(truth, 9_000, N2, "power_fence_confirmed", node="n1")
    noted(truth, 9_000, N2, "power_fence_confirmed", node="n3")


def asked_to_join(
    truth: Truth, at_ms: int, machine: str, act: Literal["ask", "redeem"], token: str, node: NodeId, refused: str = ""
) -> None:
    truth.joins.append(
        JoinMark(at_ms=at_ms, server=N1, machine=machine, act=act, token=token, refused=refused, node=node)
    )


def a_found_machine_joins(truth: Truth) -> None:
    truth.founders = (N1,)
    truth.machines = {N1: "n1", N2: "board-2"}
    noted(truth, 100, N1, "joined")
    asked_to_join(truth, 1_000, "thief", "redeem", "t0", NodeId(""), "unknown_token")
    asked_to_join(truth, 1_000, "board-2", "ask", "t1", N2)
    asked_to_join(truth, 2_000, "board-2", "redeem", "t1", N2)
    asked_to_join(truth, 2_100, "thief", "redeem", "t1", N2, "token_spent")
    noted(truth, 3_000, N2, "joined")


def a_thief_joins(truth: Truth) -> None:
    truth.machines = {N1: "n1", N2: "board-2"}
    asked_to_join(truth, 1_000, "board-2", "ask", "t1", N2)
    asked_to_join(truth, 2_000, "thief", "redeem", "t1", N2)


def a_token_is_taken_twice(truth: Truth) -> None:
    a_found_machine_joins(truth)
    asked_to_join(truth, 4_000, "board-2", "redeem", "t1", N2)


def a_node_joins_that_was_refused(truth: Truth) -> None:
    truth.founders = (N1,)
    asked_to_join(truth, 1_000, "board-2", "redeem", "t1", N2, "window_closed")
    noted(truth, 3_000, N2, "joined")


CASES: tuple[tuple[str, History, tuple[History, ...]], ...] = (
    ("single_writer", one_after_the_other, (an_old_instance_writes_again, two_openings_of_one_epoch_interleave)),
    ("identity_before_writing", a_recorded_instance_writes, (an_unrecorded_instance_writes,)),
    (
        "fenced_before_opening",
        the_volume_is_opened_after_the_fence,
        (the_volume_is_opened_before_the_fence,),
    ),
    ("fence_holds", the_last_write_lands_before_the_barrier, (a_write_lands_after_the_barrier,)),
    (
        "acknowledged_writes_survive",
        reads_follow_writes,
        (an_acknowledged_write_never_arrived, an_acknowledged_write_is_overwritten_by_an_older_one),
    ),
    ("linearizable", reads_follow_writes, (a_stale_read, a_value_comes_back, a_failed_write_is_read)),
    ("no_two_serving", one_serves_after_the_other, (two_serve_at_once,)),
    ("epochs_grow", one_serves_after_the_other, (an_old_epoch_serves_again, one_epoch_is_claimed_twice)),
    (
        "admission_waits",
        the_successor_waits,
        (the_successor_admits_at_once, the_successor_does_not_wait_for_a_new_fence),
    ),
    (
        "everywhere_running",
        a_quarantined_node_runs_nothing,
        (a_copy_stays_away, a_node_that_was_let_back_runs_nothing),
    ),
    (
        "power_dated",
        a_lost_node_is_cycled,
        (an_order_is_late, an_older_order_follows, a_node_that_came_back_is_cycled),
    ),
    ("power_committed", a_lost_node_is_cycled, (an_order_nobody_committed, one_order_is_carried_out_twice)),
    ("no_majority_fenced", a_lost_node_is_cycled, (most_nodes_are_cycled_while_healthy,)),
    ("brake_respected", the_brake_was_released, (a_braked_node_fences,)),
    ("one_fence_per_domain", a_lost_node_is_cycled, (two_fences_in_one_domain,)),
    ("identity_is_own", a_found_machine_joins, (a_thief_joins,)),
    ("token_joins_one", a_found_machine_joins, (a_thief_joins, a_token_is_taken_twice)),
    ("members_were_admitted", a_found_machine_joins, (a_node_joins_that_was_refused,)),
    ("blocked_kept", a_block_is_lifted_after_a_new_boot, (a_block_expires_while_its_boot_is_frozen,)),
)
BY_NAME = {checker.name: checker for checker in CHECKERS}


def truth_of(history: History) -> Truth:
    truth = Truth({DB: VOLUME})
    history(truth)
    truth.ends(600_000)
    return truth


def test_every_checker_has_a_right_and_a_broken_history() -> None:
    assert [name for name, _, _ in (*CASES, *OF_PROGRESS, *OF_UPGRADES)] == [checker.name for checker in CHECKERS]


@pytest.mark.parametrize(("name", "right"), [(name, right) for name, right, _ in (*CASES, *OF_UPGRADES)])
def test_a_right_history_passes(name: str, right: History) -> None:
    assert BY_NAME[name].find(truth_of(right), SETUP) == ""


@pytest.mark.parametrize(
    ("name", "broken"), [(name, broken) for name, _, wrong in (*CASES, *OF_UPGRADES) for broken in wrong]
)
def test_a_broken_history_is_found_and_told(name: str, broken: History) -> None:
    detail = BY_NAME[name].find(truth_of(broken), SETUP)
    assert len(detail) > 20


def test_an_empty_run_passes_every_checker() -> None:
    class Run:
        truth = Truth()
        setup = SETUP

    assert all(check.ok for check in check_all(Run()))
