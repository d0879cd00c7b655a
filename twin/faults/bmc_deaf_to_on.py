"""See ``BmcDeafToOn``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BmcDeafToOn(Fault, frozen=True, kw_only=True):
    """The BMC of a node confirms every order to switch on and does nothing."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.power.bmc.set_mode(node, "deaf_to_on")
            strike.undo(partial(world.power.bmc.mend, node))
