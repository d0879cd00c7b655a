"""Checkers of upgrades: each finds what it is for, and nothing in a run that was right."""

from collections.abc import Callable

from core.ids import DomainId, Epoch, ImageId, NodeId, ServiceName
from core.specs import ServiceSpec, Timing
from trial.marks import NoteMark
from twin import checkers_upgrade as upgrade
from twin.truth import ImageAct, Truth

P1, P2 = DomainId("p1"), DomainId("p2")
NEW, OLD = ImageId("2" * 16), ImageId("1" * 16)
DB = ServiceSpec(name=ServiceName("mariadb"), run="singleton")


def act(at_ms: int, node: str, domain: DomainId = P1, **changes: object) -> ImageAct:
    fields: dict[str, object] = {
        "at_ms": at_ms,
        "node": NodeId(node),
        "domain": domain,
        "action": "restarts",
        "image": NEW,
        "wanted": NEW,
        "state": "running",
        "parallel": 1,
    }
    return ImageAct(**{**fields, **changes})  # type: ignore[arg-type]


def truth(*acts: ImageAct) -> Truth:
    found = Truth()
    found.images += acts
    found.ends(1_000_000)
    return found


def test_one_after_the_other_is_right() -> None:
    found = truth(act(1, "n1"), act(9, "n1", action="came_up"), act(10, "n2", P2), act(20, "n2", P2, action="came_up"))
    assert upgrade.one_domain(found) == ""


def test_two_power_domains_at_once_are_found() -> None:
    assert "n2 of p2 restarted at 5 ms while n1 of p1 was out" in upgrade.one_domain(
        truth(act(1, "n1"), act(5, "n2", P2))
    )


def test_more_nodes_than_may_be_out_at_once_are_found() -> None:
    assert upgrade.one_domain(truth(act(1, "n1", parallel=2), act(2, "n2", parallel=2))) == ""
    assert "2 nodes were out at 2 ms, 1 may be" in upgrade.one_domain(truth(act(1, "n1"), act(2, "n2")))


def test_a_restart_into_the_new_image_long_after_a_halt_is_found() -> None:
    found = truth(act(70_000, "n1", state="halted"))
    found.notes.append(
        NoteMark(
            at_ms=50_000,
            by=NodeId("n2"),
            kind="upgrade_halted",
            service=ServiceName(""),
            node=NodeId(""),
            epoch=Epoch(0),
            detail="",
        )
    )
    assert upgrade.stops_at_halt(found) == f"n1 restarted into {NEW} 20000 ms after the halt"


def test_going_back_after_a_halt_and_restarting_just_then_are_right() -> None:
    found = truth(act(70_000, "n1", state="halted", image=OLD), act(51_000, "n2", state="halted"))
    found.fault_begins("upgrade_halts", "by the operator", (), 50_000)
    assert upgrade.stops_at_halt(found) == ""


def test_a_restart_that_takes_the_ensemble_its_majority_is_found() -> None:
    assert upgrade.keeps_quorum(truth(act(1, "n1", quorum=False, without=False))) == ""
    assert "n1 restarted at 1 ms although" in upgrade.keeps_quorum(truth(act(1, "n1", without=False)))


def test_a_service_that_an_upgrade_alone_keeps_away_for_long_is_found() -> None:
    found = truth(act(100_000, "n1"))
    found.serving.set(DB.name, NodeId("n1"), Epoch(1), True, 1_000)
    found.serving.set(DB.name, NodeId("n1"), Epoch(1), False, 99_000)
    found.serving.set(DB.name, NodeId("n2"), Epoch(2), True, 199_000)
    assert "mariadb was away from 99000 to 199000 ms" in upgrade.is_gentle(found, (DB,), Timing())
    found.fault_begins("power_loss", "n2", (NodeId("n2"),), 98_000)
    assert upgrade.is_gentle(found, (DB,), Timing()) == ""


def test_a_move_of_a_few_seconds_is_gentle() -> None:
    found = truth(act(100_000, "n1"))
    found.serving.set(DB.name, NodeId("n1"), Epoch(1), True, 1_000)
    found.serving.set(DB.name, NodeId("n1"), Epoch(1), False, 99_000)
    found.serving.set(DB.name, NodeId("n2"), Epoch(2), True, 104_000)
    assert upgrade.is_gentle(found, (DB,), Timing()) == ""


# -- one right and one broken history for each, by the names in ``CHECKERS`` -------------------------------------------


def _gap(begin_ms: int, end_ms: int) -> Callable[[Truth], None]:
    def history(found: Truth) -> None:
        found.images.append(act(100_000, "n1"))
        service = ServiceName("db")
        found.serving.set(service, NodeId("n1"), Epoch(1), True, 1_000)
        found.serving.set(service, NodeId("n1"), Epoch(1), False, begin_ms)
        found.serving.set(service, NodeId("n2"), Epoch(2), True, end_ms)

    return history


def _acts(*acts: ImageAct) -> Callable[[Truth], None]:
    def history(found: Truth) -> None:
        found.images += acts

    return history


CASES = (
    ("upgrade_one_domain", _acts(act(1, "n1")), (_acts(act(1, "n1"), act(5, "n2", P2)),)),
    ("upgrade_stops_at_halt", _acts(act(1, "n1")), (_acts(act(70_000, "n1", state="halted")),)),
    ("upgrade_keeps_quorum", _acts(act(1, "n1")), (_acts(act(1, "n1", without=False)),)),
    ("upgrade_is_gentle", _gap(99_000, 104_000), (_gap(99_000, 199_000),)),
)
