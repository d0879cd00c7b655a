"""See ``ZookeeperLeaderCrash``."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from core.ids import NodeId
from trial.targets import TargetKind
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class ZookeeperLeaderCrash(Fault, frozen=True, kw_only=True):
    """The server that leads the ZooKeeper ensemble dies; the others must elect a new leader."""

    STRIKES: ClassVar[TargetKind] = "none"

    def aim(self, world: "World") -> tuple[NodeId, ...]:
        leader = world.ensemble.leader
        return (leader,) if leader else ()

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.ensemble.server_down(node)
            strike.undo(partial(world.ensemble.server_up, node))
