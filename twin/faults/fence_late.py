"""See ``FenceLate``."""

from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class FenceLate(Fault, frozen=True, kw_only=True):
    """The barrier of the next ``count`` fences asked for by a node takes ``delay_ms`` longer.

    Source: facts/ceph.md section 3 (whole fence 89 to 187 ms; 390 to 1,020 ms with the default proposal interval; 24.2
    s behind a hung daemon).
    """

    count: Count = 1
    delay_ms: PositiveMs = 1_500

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.storage.map.nodes[node].quirks, "fence_late", self.count, self.delay_ms)
