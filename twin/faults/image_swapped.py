"""See ``ImageSwapped``."""

from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class ImageSwapped(Fault, frozen=True, kw_only=True):
    """A node runs another image than its boot server told it to, the next ``count`` boots, and says so when it joins.

    Source: facts/bmc-and-netboot.md section 6 (firmware does not verify what it loads over HTTP).
    """

    count: Count = 1

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.netboot.quirks(node), "image_swapped", self.count)
