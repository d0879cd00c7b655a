"""See ``CloseHangs``."""

from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class CloseHangs(Fault, frozen=True, kw_only=True):
    """The next ``count`` closings of volumes on a node do not end within their limit: the instance may be open still.

    Source: facts/ceph.md section 4 (a storage daemon that is told to quit flushes first, and waits for its storage).
    """

    count: Count = 1

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.storage.map.nodes[node].quirks, "close_hangs", self.count)
