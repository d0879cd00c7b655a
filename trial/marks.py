"""What a run is judged by in either world: who served when, what clients saw, what went wrong, what machines said.

All times are milliseconds of one clock: the kernel's in the twin, the monotonic one in the lab.
"""

from typing import Literal

import msgspec

from core.ids import NO_NODE, Epoch, NodeId, OpId, ServiceName

NO_EPOCH = Epoch(0)
"""The epoch of an answer that did not say under which one it was given."""


class Span(msgspec.Struct, kw_only=True):
    """``node`` did something for ``service`` under ``epoch``; ``to_ms`` is -1 while it does."""

    service: ServiceName
    node: NodeId
    epoch: Epoch
    from_ms: int
    to_ms: int = -1


class ClientOp(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a client on a service's register, from ``invoked_ms`` to ``answered_ms``.

    ``unknown``: it may have happened, then or later. ``failed``: it surely did not. ``node`` and ``epoch``: who
    answered, as far as the answer said. Every value is written once; 0 is the register's first value.
    """

    service: ServiceName
    op: OpId
    kind: Literal["read", "write"]
    value: int
    invoked_ms: int
    answered_ms: int
    outcome: Literal["ok", "failed", "unknown"]
    node: NodeId = NO_NODE
    epoch: Epoch = NO_EPOCH


class NoteMark(msgspec.Struct, frozen=True, kw_only=True):
    """A fact that the machine of ``by`` stated (``core.effects.Note``)."""

    at_ms: int
    by: NodeId
    kind: str
    service: ServiceName
    node: NodeId
    epoch: Epoch
    detail: str


class FaultMark(msgspec.Struct, kw_only=True):
    """One injected fault. ``nodes``: those it hit; empty: the rack as a whole. ``to_ms`` is -1 until it is healed.

    ``waits``: it did nothing yet when it began, it waits for something else to happen.
    """

    fault: str
    text: str
    nodes: tuple[NodeId, ...]
    from_ms: int
    to_ms: int = -1
    waits: bool = False


class Spans:
    """Who did something for which service, and when: at most one open span per service and node."""

    def __init__(self) -> None:
        self.all: list[Span] = []
        self._open: dict[tuple[ServiceName, NodeId], Span] = {}

    def set(self, service: ServiceName, node: NodeId, epoch: Epoch, on: bool, at_ms: int) -> bool:
        """Open or close the span of a node; a span of another epoch is closed first. Whether anything changed."""
        held = was = self._open.get((service, node))
        if held is not None and (not on or held.epoch != epoch):
            held.to_ms = at_ms
            del self._open[(service, node)]
            held = None
        if on and held is None:
            span = Span(service=service, node=node, epoch=epoch, from_ms=at_ms)
            self._open[(service, node)] = held = span
            self.all.append(span)
        return held is not was

    def epoch(self, service: ServiceName, node: NodeId) -> Epoch:
        """The epoch under which a node does it now; ``NO_EPOCH`` if it does not."""
        held = self._open.get((service, node))
        return held.epoch if held is not None else NO_EPOCH

    def open(self, service: ServiceName) -> tuple[NodeId, ...]:
        """The nodes that do it now, in order of their ids."""
        return tuple(sorted(node for name, node in self._open if name == service))


class Marks:
    """Marks of one run, each list in order of time. ``serving``: a node served clients, who could reach it."""

    def __init__(self) -> None:
        self.serving = Spans()
        self.notes: list[NoteMark] = []
        self.faults: list[FaultMark] = []
        self.start_ms = 0
        self.end_ms = 0

    @property
    def spans(self) -> list[Span]:
        """The times in which nodes served clients, in order of their begin."""
        return self.serving.all

    def serving_nodes(self, service: ServiceName) -> tuple[NodeId, ...]:
        """Nodes that serve clients now, in order of their ids."""
        return self.serving.open(service)

    def fault_begins(self, fault: str, text: str, nodes: tuple[NodeId, ...], at_ms: int) -> FaultMark:
        """Record a fault; the mark is handed back to be closed by ``fault_ends``."""
        mark = FaultMark(fault=fault, text=text, nodes=nodes, from_ms=at_ms)
        self.faults.append(mark)
        return mark

    def fault_ends(self, mark: FaultMark, at_ms: int) -> None:
        """Record that a fault was removed."""
        if mark.to_ms < 0:
            mark.to_ms = at_ms

    def ends(self, at_ms: int) -> None:
        """Record how far the run came."""
        self.end_ms = at_ms
