"""See ``MapLate``."""

from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class MapLate(Fault, frozen=True, kw_only=True):
    """The next ``count`` entries of the blocklist reach the storage daemons of a node only after ``delay_ms``.

    Until then they take writes of the fenced instance; the barrier of the fence waits for them. Source: facts/ceph.md
    section 3 (writes accepted up to 93 ms after the monitors' answer, 10 runs).
    """

    count: Count = 1
    delay_ms: PositiveMs = 93

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.storage.map.nodes[node].quirks, "map_late", self.count, self.delay_ms)
