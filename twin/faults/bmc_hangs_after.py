"""See ``BmcHangsAfter``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BmcHangsAfter(Fault, frozen=True, kw_only=True):
    """The BMC of a node answers ``count`` more requests and then hangs, until it is healed or loses its power.

    Source: ibm-openbmc/dev issue 3641 (right at first, then no session until it is rebooted); metal3-io/ironic-image
    issue 688; facts/bmc-and-netboot.md section 2 (a hung BMC costs its caller 5 s a call).
    """

    count: Count = 3

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.undo(partial(world.power.bmc.set_mode, node, "ok"))
            strike.arm(world.power.bmc.quirks(node), "bmc_hangs_after", self.count + 1)
