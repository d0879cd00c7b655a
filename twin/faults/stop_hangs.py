"""See ``StopHangs``."""

from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class StopHangs(Fault, frozen=True, kw_only=True):
    """The next ``count`` services that are stopped on a node do not stop, and are killed at their limit.

    Source: systemd.service(5), TimeoutStopSec and FinalKillSignal; facts/ceph.md section 1 ("a stopped process ignores
    TERM").
    """

    count: Count = 1

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.chassis[node].quirks, "stop_hangs", self.count)
