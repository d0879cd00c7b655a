"""See ``SwitchLoss``."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from trial.targets import TargetKind
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class SwitchLoss(Fault, frozen=True, kw_only=True):
    """A switch is dead: nodes that are cabled to no other are off the network."""

    STRIKES: ClassVar[TargetKind] = "switches"

    def apply(self, world: "World", strike: Strike) -> None:
        for switch in strike.switches:
            world.fabric.switch_down(switch)
            strike.undo(partial(world.fabric.switch_up, switch))
