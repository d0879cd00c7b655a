"""What really happened in a simulated rack: append-only records that no machine can see.

The world writes here, checkers, measures and reports read. All times are the kernel's.
"""

from typing import Literal

import msgspec

from core.ids import NO_NODE, BootId, Epoch, NodeId, OpId, ServiceName, VolumeName
from core.records import Instance

Axis = Literal["power", "agent", "server"]
Action = Literal[
    "starting",  # its start was ordered and accepted
    "started",  # healthy
    "announced",  # its address came up
    "withdrawn",  # its address went off, for whatever reason
    "expired",  # its right ran out
    "suspended",  # frozen by its supervisor
    "resumed",
    "refused",  # the storage refused its instance
    "exited",  # it died by itself
    "stopped",  # cleanly
    "killed",  # not cleanly
    "gone",  # its operating system went away
]


class NodeChange(msgspec.Struct, frozen=True, kw_only=True):
    """One aspect of a node changed.

    ``power``: off, firmware, netboot, up, frozen (as the chassis says). ``agent``: up, down, paused.
    ``server``: up, down.
    """

    at_ms: int
    node: NodeId
    axis: Axis
    state: str
    boot_id: BootId = BootId("")


class ServiceChange(msgspec.Struct, frozen=True, kw_only=True):
    """A service changed on a node, as its supervisor did or saw it."""

    at_ms: int
    node: NodeId
    service: ServiceName
    epoch: Epoch
    action: Action


class Span(msgspec.Struct, kw_only=True):
    """``node`` did something for ``service`` under ``epoch``; ``to_ms`` is -1 while it does."""

    service: ServiceName
    node: NodeId
    epoch: Epoch
    from_ms: int
    to_ms: int = -1


class VolumeWrite(msgspec.Struct, frozen=True, kw_only=True):
    """A write that the storage made durable. ``payload`` 0 is a probe or a mount, any other a new register value."""

    at_ms: int
    volume: VolumeName
    instance: Instance
    payload: int


class FirstWrite(msgspec.Struct, frozen=True, kw_only=True):
    """The first write of a client instance that the storage made durable; was it recorded in the term by then?"""

    at_ms: int
    volume: VolumeName
    instance: Instance
    recorded: bool


class BlockChange(msgspec.Struct, frozen=True, kw_only=True):
    """The storage's blocklist changed for one client instance.

    ``blocked``: entered; ``complete``: the barrier passed and the fence was confirmed; ``lifted``: removed on order;
    ``expired``: it ran out, so the instance may write again.
    """

    at_ms: int
    volume: VolumeName
    instance: Instance
    change: Literal["blocked", "complete", "lifted", "expired"]


class PowerAct(msgspec.Struct, frozen=True, kw_only=True):
    """A power order reached a BMC. ``deadline_at_ms`` is by the kernel clock; ``was``: the chassis before."""

    at_ms: int
    node: NodeId
    by: NodeId
    action: Literal["on", "off", "cycle"]
    generation: int
    deadline_at_ms: int
    was: str
    obeyed: bool


class ClientOp(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a client on a service's register, from ``invoked_ms`` to ``answered_ms``.

    ``unknown``: it may have happened, then or later. ``failed``: it surely did not.
    """

    service: ServiceName
    op: OpId
    kind: Literal["read", "write"]
    value: int
    invoked_ms: int
    answered_ms: int
    outcome: Literal["ok", "failed", "unknown"]
    node: NodeId = NO_NODE


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
    """One injected fault. ``nodes``: those it hit; empty: the rack as a whole. ``to_ms`` is -1 until it is healed."""

    fault: str
    text: str
    nodes: tuple[NodeId, ...]
    from_ms: int
    to_ms: int = -1


class Spans:
    """Who did something for which service, and when: at most one open span per service and node."""

    def __init__(self) -> None:
        self.all: list[Span] = []
        self._open: dict[tuple[ServiceName, NodeId], Span] = {}

    def set(self, service: ServiceName, node: NodeId, epoch: Epoch, on: bool, at_ms: int) -> None:
        """Open or close the span of a node; a span of another epoch is closed first."""
        held = self._open.get((service, node))
        if held is not None and (not on or held.epoch != epoch):
            held.to_ms = at_ms
            del self._open[(service, node)]
            held = None
        if on and held is None:
            span = Span(service=service, node=node, epoch=epoch, from_ms=at_ms)
            self._open[(service, node)] = span
            self.all.append(span)

    def open(self, service: ServiceName) -> tuple[NodeId, ...]:
        """The nodes that do it now, in order of their ids."""
        return tuple(sorted(node for name, node in self._open if name == service))


class Truth:
    """All records of one run, each list in order of time.

    ``acting``: a node acted for a singleton, whoever could reach it; ``serving``: and clients could reach it.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeChange] = []
        self.services: list[ServiceChange] = []
        self.acting = Spans()
        self.serving = Spans()
        self.writes: list[VolumeWrite] = []
        self.first_writes: list[FirstWrite] = []
        self.blocks: list[BlockChange] = []
        self.power: list[PowerAct] = []
        self.ops: list[ClientOp] = []
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
