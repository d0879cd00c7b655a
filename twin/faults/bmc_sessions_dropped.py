"""See ``BmcSessionsDropped``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BmcSessionsDropped(Fault, frozen=True, kw_only=True):
    """The BMC of a node drops about every other session before it has answered."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.power.bmc.set_mode(node, "forgetful")
            strike.undo(partial(world.power.bmc.mend, node))
