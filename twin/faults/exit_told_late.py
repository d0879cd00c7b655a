"""See ``ExitToldLate``."""

from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class ExitToldLate(Fault, frozen=True, kw_only=True):
    """The next ``count`` exits of services on a node are told to its agent ``delay_ms`` late.

    Source: wait(2) and signal(7) (SIGCHLD is pending while a supervisor is not scheduled, and may be merged with
    others).
    """

    count: Count = 1
    delay_ms: PositiveMs = 3_000

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.chassis[node].quirks, "exit_told_late", self.count, self.delay_ms)
