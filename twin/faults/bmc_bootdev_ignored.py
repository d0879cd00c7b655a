"""See ``BmcBootdevIgnored``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BmcBootdevIgnored(Fault, frozen=True, kw_only=True):
    """The BMC of a node takes the order to boot from the network once, and does not pass it on.

    ``left_over``: its disk holds a system of an earlier life, which boots instead.
    """

    left_over: bool = False

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.power.bmc.set_mode(node, "no_bootdev")
            if self.left_over:
                chassis = world.power.chassis[node]
                chassis.foreign, chassis.certified, chassis.installed = True, False, False
            strike.undo(partial(world.power.bmc.mend, node))
