"""See ``BmcReportLate``."""

from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BmcReportLate(Fault, frozen=True, kw_only=True):
    """The BMC of a node reports the old state for ``delay_ms`` after each of the next ``count`` orders.

    Source: siderolabs/sidero issue 257, metal3-io/baremetal-operator issue 290, openbmc/openbmc issue 804 (off for 3
    minutes after power-on).
    """

    count: Count = 1
    delay_ms: PositiveMs = 5_000

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.bmc.quirks(node), "bmc_report_late", self.count, self.delay_ms)
