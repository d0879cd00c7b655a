"""See ``WindowExpired``."""

from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class WindowExpired(Fault, frozen=True, kw_only=True):
    """A node hangs in its boot loader, the next ``count`` times, and asks for its script when its window has closed.

    Source: facts/bmc-and-netboot.md section 5 (iPXE waits 13 s for a router advertisement alone).
    """

    count: Count = 1

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.netboot.quirks(node), "window_expired", self.count)
