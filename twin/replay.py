"""``twin replay``: feeds every machine of a journal its events again and compares its effects byte for byte."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from core.effects import AnyEffect
from core.errors import InvariantViolation
from core.events import AnyEvent
from core.ids import NodeId
from core.journal import Line, Opening, decode_event, decode_opening, encode


class Brain(Protocol):
    """What a replay needs of ``core.machine.Machine``."""

    def step(self, event: AnyEvent) -> tuple[AnyEffect, ...]: ...


Make = Callable[[Opening], Brain]
Restore = Callable[[Opening, bytes], Brain]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first line at which a replay departs from its journal; ``line`` counts from 1."""

    line: int
    at_ms: int
    node: NodeId
    incarnation: int
    event: str
    journal: str
    replayed: str


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay did. ``skipped`` counts lines of agents whose opening the journal does not hold."""

    machines: int
    events: int
    effects: int
    skipped: int
    difference: Difference | None = None


class _Agent:
    """One machine under replay: the effects that its last event must still be followed by."""

    def __init__(self, opening: Opening, brain: Brain) -> None:
        self.opening = opening
        self.brain = brain
        self.event = ""
        self.owed: list[bytes] = []


def replay(lines: Iterable[Line], make: Make, restore: Restore) -> Replayed:
    """Replay a journal; stops at the first difference.

    The last event of an agent may be followed by fewer effects than its machine gave: the process or its journal
    ended there.
    """
    run = _Run(make, restore)
    for number, line in enumerate(lines, start=1):
        difference = run.take(number, line)
        if difference is not None:
            return run.result(difference)
    return run.result(None)


class _Run:
    def __init__(self, make: Make, restore: Restore) -> None:
        self._make = make
        self._restore = restore
        self._agents: dict[tuple[NodeId, int], _Agent] = {}
        self._events = 0
        self._effects = 0
        self._skipped = 0

    def result(self, difference: Difference | None) -> Replayed:
        return Replayed(
            machines=len(self._agents),
            events=self._events,
            effects=self._effects,
            skipped=self._skipped,
            difference=difference,
        )

    def take(self, number: int, line: Line) -> Difference | None:
        key = (line.node, line.incarnation)
        if line.kind == "open":
            opening = decode_opening(line.body)
            self._agents[key] = _Agent(opening, self._make(opening))
            return None
        agent = self._agents.get(key)
        if agent is None:
            self._skipped += 1
            return None
        match line.kind:
            case "snapshot":
                agent.brain = self._restore(agent.opening, bytes(line.body))
                agent.owed = []
                return None
            case "event":
                return self._event(number, line, agent)
            case "effect":
                return self._effect(number, line, agent)

    def _event(self, number: int, line: Line, agent: _Agent) -> Difference | None:
        if agent.owed:
            return _difference(number, line, agent, "the next event", _text(agent.owed[0]))
        self._events += 1
        agent.event = _text(bytes(line.body))
        try:
            effects: Sequence[AnyEffect] = agent.brain.step(decode_event(line.body))
        except InvariantViolation as broken:
            return _difference(number, line, agent, "the event", f"broken invariant: {broken}")
        except Exception as error:  # noqa: BLE001 - a machine that crashes on a journal is a finding like any other
            return _difference(number, line, agent, "the event", f"crash: {type(error).__name__}: {error}")
        agent.owed = [encode(effect) for effect in effects]
        return None

    def _effect(self, number: int, line: Line, agent: _Agent) -> Difference | None:
        found = bytes(line.body)
        if not agent.owed:
            return _difference(number, line, agent, _text(found), "nothing more")
        if agent.owed[0] != found:
            return _difference(number, line, agent, _text(found), _text(agent.owed[0]))
        agent.owed.pop(0)
        self._effects += 1
        return None


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _difference(number: int, line: Line, agent: _Agent, journal: str, replayed: str) -> Difference:
    return Difference(
        line=number,
        at_ms=line.at_ms,
        node=line.node,
        incarnation=line.incarnation,
        event=agent.event,
        journal=journal,
        replayed=replayed,
    )
