"""See ``WatchLate``."""

from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class WatchLate(Fault, frozen=True, kw_only=True):
    """The next ``count`` notifications of changes reach a node ``delay_ms`` late, in their order.

    Source: ZooKeeper Programmer's Guide, "ZooKeeper Watches" (sent asynchronously; ordered, but with no bound of time);
    facts/zookeeper.md section 2, herd (830 ms until 500 clients know, 5 s for 1,000).
    """

    count: Count = 1
    delay_ms: PositiveMs = 500

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.ensemble.client(node).link.quirks, "watch_late", self.count, self.delay_ms)
