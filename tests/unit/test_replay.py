"""Replaying journals: identical, or the first difference."""

from collections.abc import Callable

import pytest

from core.events import AnyEvent, SessionOpened, Started, TimerFired
from core.ids import BootId, DomainId, NodeId, RackId, ServiceName, SessionId
from core.journal import Line, Opening, encode, read_lines, write_line
from core.machine import Machine
from core.specs import NodeSpec, ServiceSpec, Timing
from twin.replay import Replayed, replay

N1 = NodeId("n1")
OPENING = Opening(
    node=NodeSpec(id=N1, rack=RackId("r1"), power_domain=DomainId("p1")),
    timing=Timing(),
    services=(ServiceSpec(name=ServiceName("mariadb"), run="singleton"),),
)
EVENTS: tuple[AnyEvent, ...] = (
    Started(at_ms=10, boot_id=BootId("b1"), session=SessionId(0)),
    SessionOpened(at_ms=30, session=SessionId(7), resumed=False),
    TimerFired(at_ms=40, timer="ensemble"),
)


def journal(events: tuple[AnyEvent, ...] = EVENTS) -> list[bytes]:
    """What a host writes while a machine takes ``events``."""
    machine = Machine(OPENING)
    lines = [write_line(0, N1, 1, "open", encode(OPENING))]
    for event in events:
        lines.append(write_line(event.at_ms, N1, 1, "event", encode(event)))
        lines += [write_line(event.at_ms, N1, 1, "effect", encode(effect)) for effect in machine.step(event)]
    return lines


def again(raw: list[bytes]) -> Replayed:
    lines: list[Line] = list(read_lines(raw))
    return replay(lines, Machine, Machine.restore)


def effects(raw: list[bytes]) -> list[int]:
    """The positions of the effects."""
    return [number for number, line in enumerate(raw) if b',"effect",' in line]


def test_a_journal_replays_identically() -> None:
    raw = journal()
    found = again(raw)
    assert found.difference is None
    assert (found.machines, found.events, found.effects, found.skipped) == (1, 3, len(effects(raw)), 0)
    assert found.effects >= 2


def drop(raw: list[bytes]) -> None:
    del raw[effects(raw)[0]]


def double(raw: list[bytes]) -> None:
    number = effects(raw)[0]
    raw.insert(number, raw[number])


def alter(raw: list[bytes]) -> None:
    number = effects(raw)[0]
    raw[number] = write_line(10, N1, 1, "effect", b'{"effect":"Exit"}')


@pytest.mark.parametrize("spoil", [drop, double, alter])
def test_an_effect_dropped_doubled_or_altered_is_the_first_difference(spoil: Callable[[list[bytes]], None]) -> None:
    raw = journal()
    first = effects(raw)[0] + 1
    spoil(raw)
    difference = again(raw).difference
    assert difference is not None
    assert difference.line in (first, first + 1)
    assert difference.node == "n1"
    assert '"event":"Started"' in difference.event
    assert difference.journal != difference.replayed


def test_effects_missing_at_the_very_end_are_no_difference_because_the_agent_may_have_died() -> None:
    raw = journal(EVENTS[:2])
    last = effects(raw)[-1]
    assert again(raw[:last]).difference is None


def test_an_event_that_no_host_may_send_is_a_difference_and_no_traceback() -> None:
    raw = journal()
    raw.append(write_line(50, N1, 1, "event", encode(TimerFired(at_ms=5, timer="ensemble"))))
    difference = again(raw).difference
    assert difference is not None
    assert "broken invariant" in difference.replayed


def test_lines_of_an_agent_without_an_opening_are_counted_and_skipped() -> None:
    raw = journal()
    found = again(raw[1:])
    assert (found.machines, found.events, found.skipped) == (0, 0, len(raw) - 1)


def test_a_rotated_journal_goes_on_from_its_snapshot() -> None:
    machine = Machine(OPENING)
    for event in EVENTS[:2]:
        machine.step(event)
    raw = [write_line(30, N1, 1, "open", encode(OPENING)), write_line(30, N1, 1, "snapshot", machine.snapshot())]
    for event in (*EVENTS[2:], TimerFired(at_ms=9_000, timer="ensemble")):
        raw.append(write_line(event.at_ms, N1, 1, "event", encode(event)))
        raw += [write_line(event.at_ms, N1, 1, "effect", encode(effect)) for effect in machine.step(event)]
    found = again(raw)
    assert found.difference is None
    assert found.events == 2
