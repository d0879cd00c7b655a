"""See ``BmcHung``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BmcHung(Fault, frozen=True, kw_only=True):
    """The BMC of a node accepts connections and then says nothing until the caller gives up."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.power.bmc.set_mode(node, "hung")
            strike.undo(partial(world.power.bmc.set_mode, node, "ok"))
