"""See ``BootSlow``."""

from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BootSlow(Fault, frozen=True, kw_only=True):
    """The next ``count`` boots of a node take ``delay_ms`` longer from its boot device to a running system.

    Source: facts/bmc-and-netboot.md section 5 (the same image 7.5 to 51.2 s, by load).
    """

    count: Count = 1
    delay_ms: PositiveMs = 90_000

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.chassis[node].quirks, "boot_slow", self.count, self.delay_ms)
