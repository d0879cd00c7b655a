"""One run as those see it who look for situations: notes, claims, losses and voters, put in order once for all."""

from collections.abc import Iterable, Iterator

import msgspec

from core.ids import NO_NODE, Epoch, NodeId, ServiceName
from trial.marks import NoteMark, Span
from trial.measures import end_of
from twin.scenario import Scenario
from twin.truth import Truth

SOON_MS = 100
"""What an agent does so soon after it went on, it had been about to do."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch of one singleton: who claimed it, and when; ``next_ms``, ``next_by``: who claimed the one after.

    ``served_ms``: when it admitted clients, -1 if it never did.
    """

    service: ServiceName
    by: NodeId
    epoch: Epoch
    at_ms: int
    served_ms: int
    next_ms: int
    next_by: NodeId


class Sight:
    """One run, as the situations look at it."""

    def __init__(self, truth: Truth, scenario: Scenario) -> None:
        self.truth = truth
        self.scenario = scenario
        self.volumes = tuple(spec.name for spec in scenario.catalog.specs if spec.run == "singleton" and spec.volume)
        self._notes: dict[str, list[NoteMark]] = {}
        for note in truth.notes:
            self._notes.setdefault(note.kind, []).append(note)
        self.claims = tuple(self._claims())

    def notes(self, kind: str) -> list[NoteMark]:
        """The notes of one kind, in order of time."""
        return self._notes.get(kind, [])

    def said(self, kind: str, by: NodeId, service: ServiceName, epoch: Epoch) -> Iterator[NoteMark]:
        """The notes of one kind that one node made about one epoch of a singleton."""
        return (n for n in self.notes(kind) if n.by == by and n.service == service and n.epoch == epoch)

    def _claims(self) -> Iterable[Claim]:
        claimed: dict[ServiceName, list[NoteMark]] = {}
        for note in self.notes("claimed"):
            claimed.setdefault(note.service, []).append(note)
        for service, notes in claimed.items():
            for index, note in enumerate(notes):
                follower = notes[index + 1] if index + 1 < len(notes) else None
                served = next(self.said("serving", note.by, service, note.epoch), None)
                yield Claim(
                    service=service,
                    by=note.by,
                    epoch=note.epoch,
                    at_ms=note.at_ms,
                    served_ms=served.at_ms if served is not None else -1,
                    next_ms=follower.at_ms if follower is not None else self.truth.end_ms,
                    next_by=follower.by if follower is not None else NO_NODE,
                )

    def power_of(self, node: NodeId, at_ms: int) -> str:
        """The state of a node's chassis at a time."""
        before = [c.state for c in self.truth.nodes if c.node == node and c.axis == "power" and c.at_ms <= at_ms]
        return before[-1] if before else "off"

    def paused_ms(self, node: NodeId, at_ms: int) -> int:
        """How long the agent of a node had been paused when it went on shortly before a time; 0 if it did not."""
        states = [c for c in self.truth.nodes if c.node == node and c.axis == "agent" and c.at_ms <= at_ms][-2:]
        if [change.state for change in states] != ["paused", "up"] or at_ms - states[1].at_ms > SOON_MS:
            return 0
        return states[1].at_ms - states[0].at_ms

    def agent_died_ms(self, node: NodeId, at_ms: int) -> int:
        """When the agent process of a node died last before a time; -1 if it never did."""
        states = [c for c in self.truth.nodes if c.node == node and c.axis == "agent" and c.at_ms <= at_ms]
        return max([change.at_ms for change in states if change.state == "down"], default=-1)

    def lost(self, node: NodeId, from_ms: int, to_ms: int) -> bool:
        """Whether a node, its agent or its session was lost between two times."""
        changes = (c for c in self.truth.nodes if c.node == node and from_ms <= c.at_ms <= to_ms)
        if any(c.state != "up" for c in changes if c.axis in ("power", "agent")):
            return True
        return any(n.by == node and from_ms <= n.at_ms <= to_ms for n in self.notes("session_lost"))

    def voters_at(self, at_ms: int) -> tuple[NodeId, ...]:
        """The voters of the ensemble at a time."""
        before = [change.voters for change in self.truth.leaders if change.at_ms <= at_ms]
        return before[-1] if before else ()

    def holds(self, service: ServiceName, from_ms: int, to_ms: int) -> Iterator[Span]:
        """The spans in which one node served all the time between two times."""
        for span in self.truth.spans:
            ended_ms = end_of(span.to_ms, self.truth.end_ms)
            if span.service == service and span.from_ms < from_ms and ended_ms >= to_ms:
                yield span
