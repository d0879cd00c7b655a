"""See ``WatchRepeated``."""

from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class WatchRepeated(Fault, frozen=True, kw_only=True):
    """After each of the next ``count`` notifications a node is told everything it mirrors once more.

    Whoever sets its watches again, as after each disconnection, reads again what it knows. Source: ZooKeeper
    Programmer's Guide, "What ZooKeeper Guarantees about Watches"; facts/zookeeper.md section 3 (``watch_tree``: lost on
    every disconnect).
    """

    count: Count = 1

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.ensemble.client(node).link.quirks, "watch_repeated", self.count)
