"""See ``PowerOnIgnored``."""

from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class PowerOnIgnored(Fault, frozen=True, kw_only=True):
    """The next ``count`` orders to switch a node on are taken, and it stays off: it needs another one.

    Source: xcat2/xcat-core pull request 5410 (off after a reset, until it was switched on again); ibm-openbmc/openbmc
    issue 261 (power-on failed about each tenth time).
    """

    count: Count = 1

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.chassis[node].quirks, "power_on_ignored", self.count)
