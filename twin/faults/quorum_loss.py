"""See ``QuorumLoss``."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from core.ids import NodeId
from trial.targets import TargetKind
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class QuorumLoss(Fault, frozen=True, kw_only=True):
    """So many ZooKeeper servers die that no quorum is left; nodes, services and data live on."""

    STRIKES: ClassVar[TargetKind] = "none"

    def aim(self, world: "World") -> tuple[NodeId, ...]:
        voters = world.ensemble.voters
        return tuple(voters[: len(voters) // 2 + 1])

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.ensemble.server_down(node)
            strike.undo(partial(world.ensemble.server_up, node))
