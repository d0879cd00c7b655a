"""See ``ClockJump``."""

from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class ClockJump(Fault, frozen=True, kw_only=True):
    """The monotonic clock of a node jumps ahead by ``by_ms`` (a virtual machine resumed, a broken timer)."""

    by_ms: PositiveMs = 5_000

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.clocks[node].jump(self.by_ms)
