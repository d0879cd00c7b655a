"""Faults of ZooKeeper and of the storage: servers, monitors and storage daemons killed, held down, stopped."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from core.ids import NO_NODE, NodeId
from drivers.lab.fault import LabFault, Strike
from trial.targets import TargetKind

if TYPE_CHECKING:
    from drivers.lab.rack import LabRack

FLAP_DOWN_MS, FLAP_UP_MS = 3_000, 5_000

DiskSlot = Annotated[int, msgspec.Meta(ge=0, le=99)]


class ZookeeperCrash(LabFault, frozen=True, kw_only=True):
    """The ZooKeeper server process of a node is killed and not started again while the fault lasts."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.kill_server(strike, node)


class ZookeeperLeaderCrash(LabFault, frozen=True, kw_only=True):
    """The server that leads the ZooKeeper ensemble is killed; the others must elect a new leader."""

    STRIKES: ClassVar[TargetKind] = "none"

    def aim(self, rack: "LabRack") -> tuple[NodeId, ...]:
        leader = rack.leader()
        return (leader,) if leader != NO_NODE else ()

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.kill_server(strike, node)


class QuorumLoss(LabFault, frozen=True, kw_only=True):
    """So many ZooKeeper servers are killed that no quorum is left; nodes, services and data live on."""

    STRIKES: ClassVar[TargetKind] = "none"

    def aim(self, rack: "LabRack") -> tuple[NodeId, ...]:
        voters = rack.voters()
        return tuple(voters[: len(voters) // 2 + 1])

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.kill_server(strike, node)


class SessionExpiry(LabFault, frozen=True, kw_only=True):
    """A node's session is closed under it although the node is healthy and connected."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.close_session(node)


class OsdLoss(LabFault, frozen=True, kw_only=True):
    """The storage daemon of a node is killed and stays down; the node itself goes on."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.kill_daemons(strike, node, "osd.")


class DiskFailure(LabFault, frozen=True, kw_only=True):
    """The disk under a node's storage daemon fails, and the daemon with it. ``disk`` counts them; here there is one."""

    disk: DiskSlot = 0

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.kill_daemons(strike, node, "osd.")


class OsdFlap(LabFault, frozen=True, kw_only=True):
    """The storage daemon of a node is killed and started, over and over."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            self._down(rack, strike, node)

    def _down(self, rack: "LabRack", strike: Strike, node: NodeId) -> None:
        if strike.healed:
            return
        once = Strike(strike.tag)
        strike.undo(once.heal)
        rack.kill_daemons(once, node, "osd.")
        rack.timeline.after(FLAP_DOWN_MS, once.heal)
        rack.timeline.after(FLAP_DOWN_MS + FLAP_UP_MS, partial(self._down, rack, strike, node))


class MonitorLoss(LabFault, frozen=True, kw_only=True):
    """The storage monitors of the target are killed: without their majority nothing can be fenced."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.kill_daemons(strike, node, "mon.")


class StorageStall(LabFault, frozen=True, kw_only=True):
    """Every storage daemon is stopped and goes on where it was."""

    STRIKES: ClassVar[TargetKind] = "none"

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        rack.stop_daemons(strike, "osd.")

    def text(self, strike: Strike) -> str:
        return "the whole storage"
