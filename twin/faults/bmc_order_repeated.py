"""See ``BmcOrderRepeated``."""

from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BmcOrderRepeated(Fault, frozen=True, kw_only=True):
    """The BMC of a node carries the next ``count`` orders out twice, ``delay_ms`` apart.

    The client repeats what was not answered in time, and the BMC takes it for a new request. Source: ipmitool(1), -R (a
    request is sent again, 4 times by default); kontron/python-ipmi issue 84.
    """

    count: Count = 1
    delay_ms: PositiveMs = 1_000

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.bmc.quirks(node), "bmc_order_repeated", self.count, self.delay_ms)
