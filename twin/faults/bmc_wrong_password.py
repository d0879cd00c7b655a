"""See ``BmcWrongPassword``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BmcWrongPassword(Fault, frozen=True, kw_only=True):
    """The BMC of a node refuses every password: it was reset, or somebody changed them."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.power.bmc.set_mode(node, "locked")
            strike.undo(partial(world.power.bmc.mend, node))
