"""What really happened in a simulated rack, which no machine can see.

The world writes here, checkers, measures and reports read. What changes is recorded: lists, one record for a change.
What happens all the time while nothing changes (operations of clients, writes of volumes) is judged as it comes in and
not recorded, so that a run's memory grows with what happens in it, not with its length. All times are the kernel's.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from core.ids import NO_IMAGE, BootId, DomainId, Epoch, ImageId, NodeId, ServiceName, VolumeName
from core.records import Instance
from trial.marks import ClientOp, Marks, Spans
from trial.seen import Seen
from twin.survival import Survival
from twin.volumes import Change, Volumes

Axis = Literal["power", "agent", "server", "storage"]
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
    ``server``: up, down. ``storage``: reachable, cut, as the node could see if its agent looked.
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


class FirstWrite(msgspec.Struct, frozen=True, kw_only=True):
    """The first write of a client instance that the storage made durable; was it recorded in the term by then?"""

    at_ms: int
    volume: VolumeName
    instance: Instance
    recorded: bool


class BlockChange(msgspec.Struct, frozen=True, kw_only=True):
    """The storage's blocklist changed for one client instance."""

    at_ms: int
    volume: VolumeName
    instance: Instance
    change: Change


class PowerAct(msgspec.Struct, frozen=True, kw_only=True):
    """A power order reached a BMC. ``deadline_at_ms`` is by the kernel clock; ``was``: the chassis before.

    ``committed``: the node's record had this generation by then, so that every later steward knows of the order.
    """

    at_ms: int
    node: NodeId
    by: NodeId
    action: Literal["on", "off", "cycle"]
    generation: int
    deadline_at_ms: int
    was: str
    obeyed: bool
    committed: bool = True


class LeaderChange(msgspec.Struct, frozen=True, kw_only=True):
    """From now on ``leader`` can commit for the ensemble of these voters; ``NO_NODE``: nobody can."""

    at_ms: int
    leader: NodeId
    voters: tuple[NodeId, ...]


class ImageAct(msgspec.Struct, frozen=True, kw_only=True):
    """A machine left to restart into ``image`` on its own agent's order, or came up with it.

    ``wanted`` and ``state`` are those of the upgrade on record then ("": there is none), ``parallel`` how many nodes
    of one power domain may be out at once. ``quorum``, ``without``: whether the ZooKeeper servers that ran were enough,
    with this node's and without it.
    """

    at_ms: int
    node: NodeId
    domain: DomainId
    action: Literal["restarts", "came_up"]
    image: ImageId
    wanted: ImageId = NO_IMAGE
    state: str = ""
    parallel: int = 0
    quorum: bool = True
    without: bool = True


class Wrong(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the agent on ``node`` that cannot be right, for the checker of that name (``twin.world.auditor``)."""

    at_ms: int
    node: NodeId
    checker: str
    text: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """A BMC told some agent that ``node`` is off, whether or not it was."""

    at_ms: int
    node: NodeId


class JoinMark(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody asked a boot server for a script, or for a certificate with a token.

    ``machine``: who it really was. ``refused``: why not ("": it got what it asked for), ``node``: as whom, if anybody.
    """

    at_ms: int
    server: NodeId
    machine: str
    act: Literal["ask", "redeem"]
    token: str
    refused: str
    node: NodeId


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """A node asked to open a volume; ``open`` are the instances of earlier epochs that could still write to it then.

    They were recorded in the term, have written, and were neither closed nor fenced; whether their node has power does
    not matter.
    """

    at_ms: int
    volume: VolumeName
    node: NodeId
    epoch: Epoch
    open: tuple[Instance, ...]


class Truth(Marks):
    """All records of one run, each list in order of time: what any run is judged by, and what only a world knows.

    ``acting``: a node acted for a singleton, whoever could reach it; ``serving``: and clients could reach it.
    ``machines``: which machine was found and named as a node, the only one that may join as it; ``founders`` were there
    before anybody had to be admitted.
    ``clients``, ``volumes``, ``survival``: judged as it comes in, by ``answered``, ``wrote`` and ``block_changed``.
    """

    def __init__(self, volumes: Mapping[ServiceName, VolumeName] | None = None) -> None:
        """``volumes``: where each service that keeps a register keeps it, no two in one volume."""
        super().__init__()
        self.nodes: list[NodeChange] = []
        self.services: list[ServiceChange] = []
        self.acting = Spans()
        self.first_writes: list[FirstWrite] = []
        self.blocks: list[BlockChange] = []
        self.openings: list[Opening] = []
        self.wrongs: list[Wrong] = []
        self.proofs: list[Proof] = []
        self.joins: list[JoinMark] = []
        self.machines: dict[NodeId, str] = {}
        self.founders: tuple[NodeId, ...] = ()
        self._able: dict[VolumeName, dict[Instance, None]] = {}
        self.power: list[PowerAct] = []
        self.leaders: list[LeaderChange] = []
        self.images: list[ImageAct] = []
        self.clients = Seen()
        self.volumes = Volumes()
        self.survival = {service: Survival() for service in sorted(volumes or {})}
        self._in_volume = {volume: self.survival[service] for service, volume in (volumes or {}).items()}

    def answered(self, op: ClientOp) -> None:
        """A client was answered, or gave up."""
        self.clients.feed(op)
        survival = self.survival.get(op.service)
        if survival is not None:
            survival.answered(op)

    def wrote(self, at_ms: int, volume: VolumeName, instance: Instance, payload: int) -> bool:
        """The storage made a write durable; say whether it is the instance's first one in this volume.

        ``payload`` 0 is a probe or a mount, any other a new register value.
        """
        if payload and volume in self._in_volume:
            self._in_volume[volume].accepted(payload, at_ms)
        return self.volumes.wrote(at_ms, volume, instance)

    def first_write(self, first: FirstWrite) -> None:
        """A client instance has written for the first time."""
        self.first_writes.append(first)
        if first.recorded:
            self._able.setdefault(first.volume, {})[first.instance] = None

    def opening(self, at_ms: int, volume: VolumeName, node: NodeId, epoch: Epoch) -> None:
        """A node asks to open a volume."""
        able = tuple(one for one in self._able.get(volume, ()) if one.epoch < epoch)
        self.openings.append(Opening(at_ms=at_ms, volume=volume, node=node, epoch=epoch, open=able))

    def closed(self, instance: Instance) -> None:
        """A client instance was closed: it never writes again."""
        for able in self._able.values():
            able.pop(instance, None)

    def block_changed(self, change: BlockChange) -> None:
        """The storage's blocklist changed."""
        self.blocks.append(change)
        if change.change == "complete":
            self.closed(change.instance)
        self.volumes.blocked(change.at_ms, change.volume, change.instance, change.change)

    def kept(self) -> int:
        """How many records are held of the run."""
        lists = [len(records) for records in vars(self).values() if isinstance(records, list)]
        spans = len(self.serving.all) + len(self.acting.all)
        fed = self.clients.kept() + self.volumes.kept() + sum(one.kept() for one in self.survival.values())
        return sum(lists) + spans + fed
