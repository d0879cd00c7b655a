"""See ``StartSlow``."""

from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class StartSlow(Fault, frozen=True, kw_only=True):
    """The next ``count`` starts of services on a node take ``delay_ms`` longer.

    Past the limit of the start it has failed. Source: facts/ceph.md section 1 (the same bring-up 6.5 to 12.7 s under
    load); systemd.service(5), TimeoutStartSec.
    """

    count: Count = 1
    delay_ms: PositiveMs = 4_000

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.chassis[node].quirks, "start_slow", self.count, self.delay_ms)
