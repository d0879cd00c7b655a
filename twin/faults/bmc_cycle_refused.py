"""See ``BmcCycleRefused``."""

from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BmcCycleRefused(Fault, frozen=True, kw_only=True):
    """The BMC of a node refuses the next ``count`` power cycles that find the chassis off.

    For orders on and off that are fulfilled already see ``bmc_lying``, "contrary" (apache/cloudstack issue 13376).
    Source: IPMI 2.0 section 28.3 (no action, completion code D5h); bmc-toolbox/bmclib pull request 223,
    siderolabs/sidero issue 145, ClusterLabs/fence-agents issue 596.
    """

    count: Count = 1

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.bmc.quirks(node), "bmc_cycle_refused", self.count)
