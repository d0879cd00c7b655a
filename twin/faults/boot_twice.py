"""See ``BootTwice``."""

from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BootTwice(Fault, frozen=True, kw_only=True):
    """A node restarts by itself at the end of its boot, the next ``count`` times, and boots once more.

    Source: UEFI Specification, ResetSystem() (a firmware update or changed settings take effect by one more reset); BMC
    and firmware updates by Redfish, SimpleUpdate ("applied on reset").
    """

    count: Count = 1

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.chassis[node].quirks, "boot_twice", self.count)
