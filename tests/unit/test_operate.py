"""What an operator may do to a node: each wish leads along the lifecycle, and is refused where nothing leads."""

import pytest

from core.errors import InputError
from core.ids import NodeId
from core.lifecycle import TRANSITIONS
from core.records import AnyRecord, Change, Lifecycle, NodeRecord, node_path
from drivers.operate import Wish, next_step, operate
from tests.unit.made_rack import node_record

L = Lifecycle
N3 = NodeId("n3")

STEPS = (
    (Wish.DRAIN, L.JOINED, L.DRAINING, False),
    (Wish.DRAIN, L.SUSPECT, L.DRAINING, False),
    (Wish.DRAIN, L.DRAINING, None, False),
    (Wish.DRAIN, L.MAINTENANCE, None, True),
    (Wish.UNDRAIN, L.DRAINING, L.JOINED, True),
    (Wish.UNDRAIN, L.MAINTENANCE, L.JOINED, True),
    (Wish.UNDRAIN, L.JOINED, None, True),
    (Wish.RETIRE, L.JOINED, L.DRAINING, False),
    (Wish.RETIRE, L.DRAINING, None, False),
    (Wish.RETIRE, L.MAINTENANCE, L.RETIRED, True),
    (Wish.RETIRE, L.LOST, L.RETIRED, True),
    (Wish.RETIRE, L.RETIRED, None, True),
    (Wish.RELEASE, L.QUARANTINED, L.DISCOVERED, True),
    (Wish.RELEASE, L.RETIRED, L.DISCOVERED, True),
    (Wish.RELEASE, L.JOINED, None, True),
)


@pytest.mark.parametrize(("wish", "state", "after", "over"), STEPS, ids=lambda value: str(value))
def test_each_wish_takes_the_next_step(wish: Wish, state: L, after: L | None, over: bool) -> None:
    step = next_step(wish, node_record("n3", state))
    assert (step.record.state if step.record is not None else None, step.over) == (after, over)


@pytest.mark.parametrize(
    ("wish", "state"),
    [(Wish.DRAIN, L.LOST), (Wish.UNDRAIN, L.QUARANTINED), (Wish.RETIRE, L.BOOTING), (Wish.RELEASE, L.DRAINING)],
    ids=lambda value: str(value),
)
def test_a_wish_that_does_not_fit_the_state_is_refused_and_says_what_would(wish: Wish, state: L) -> None:
    with pytest.raises(InputError, match=f"rack {wish} n3: it is {state}; allowed: a node that is"):
        next_step(wish, node_record("n3", state))


def test_every_step_but_retiring_the_absent_is_a_transition_of_the_lifecycle() -> None:
    known = {(before, after) for (before, _), after in TRANSITIONS.items()}
    own = {(L.SUSPECT, L.DRAINING), (L.LOST, L.RETIRED), (L.QUARANTINED, L.RETIRED), (L.DISCOVERED, L.RETIRED)}
    taken = {(state, after) for _, state, after, _ in STEPS if after is not None}
    assert taken - known <= own


class Desk:
    """One node's record; ``meddle`` changes it between a read and the next write, so many times."""

    def __init__(self, state: L, meddle: int = 0) -> None:
        self.record: NodeRecord | None = node_record("n3", state)
        self.version = 0
        self.meddle = meddle
        self.then: list[L] = []

    def read(self, path: str) -> Change:
        assert path == node_path(N3)
        if self.then and self.record is not None:
            self.record, self.version = node_record("n3", self.then.pop(0)), self.version + 1
        return Change(path=path, zxid=1, version=self.version, data=self.record)

    def put(self, path: str, record: AnyRecord, version: int) -> bool:
        if self.meddle:
            self.meddle, self.version = self.meddle - 1, self.version + 1
        if version != self.version:
            return False
        assert isinstance(record, NodeRecord)
        self.record, self.version = record, version + 1
        return True


def test_a_record_that_changed_meanwhile_is_read_again() -> None:
    desk, said = Desk(L.JOINED, meddle=2), list[str]()
    assert not operate(desk, Wish.DRAIN, N3, 0, said.append)
    assert desk.record is not None
    assert desk.record.state is L.DRAINING
    assert said == ["n3: joined → draining"]


def test_a_record_that_never_stands_still_is_given_up() -> None:
    with pytest.raises(InputError, match="its record changed 20 times meanwhile"):
        operate(Desk(L.JOINED, meddle=100), Wish.DRAIN, N3, 0, print)


def test_a_retiring_member_is_drained_first_and_each_step_is_said_once() -> None:
    desk, said = Desk(L.JOINED), list[str]()
    desk.then = [L.JOINED, L.DRAINING, L.DRAINING, L.MAINTENANCE]
    assert operate(desk, Wish.RETIRE, N3, 60_000, said.append)
    assert said == ["n3: joined → draining", "n3 is draining", "n3: maintenance → retired"]


def test_a_node_without_a_record_is_bad_input() -> None:
    desk = Desk(L.JOINED)
    desk.record = None
    with pytest.raises(InputError, match="the rack has no record of it"):
        operate(desk, Wish.DRAIN, N3, 0, print)
