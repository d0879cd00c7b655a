"""See ``BmcOrderLate``."""

from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BmcOrderLate(Fault, frozen=True, kw_only=True):
    """The BMC of a node carries the next ``count`` orders out ``delay_ms`` after it took them.

    Source: facts/bmc-and-netboot.md section 4 (sushy-tools: a random 1 to 11 s); xcat2/xcat-core issue 3014 (13 s).
    """

    count: Count = 1
    delay_ms: PositiveMs = 2_000

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.bmc.quirks(node), "bmc_order_late", self.count, self.delay_ms)
