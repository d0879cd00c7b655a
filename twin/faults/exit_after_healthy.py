"""See ``ExitAfterHealthy``."""

from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class ExitAfterHealthy(Fault, frozen=True, kw_only=True):
    """The next ``count`` services that become healthy on a node exit ``delay_ms`` later.

    Source: systemd.service(5), StartLimitBurst (services that crash right after they were ready are why it exists).
    """

    count: Count = 1
    delay_ms: PositiveMs = 50

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.chassis[node].quirks, "exit_after_healthy", self.count, self.delay_ms)
