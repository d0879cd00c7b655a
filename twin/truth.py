"""What really happened in a simulated rack: append-only records that no machine can see.

The world writes here, checkers, measures and reports read. All times are the kernel's.
"""

from typing import Literal

import msgspec

from core.ids import BootId, Epoch, NodeId, ServiceName, VolumeName
from core.records import Instance
from trial.marks import Marks, Spans

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


class Truth(Marks):
    """All records of one run, each list in order of time: what any run is judged by, and what only a world knows.

    ``acting``: a node acted for a singleton, whoever could reach it; ``serving``: and clients could reach it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[NodeChange] = []
        self.services: list[ServiceChange] = []
        self.acting = Spans()
        self.writes: list[VolumeWrite] = []
        self.first_writes: list[FirstWrite] = []
        self.blocks: list[BlockChange] = []
        self.power: list[PowerAct] = []
