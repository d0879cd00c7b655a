"""See ``ClockSlew``."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec

from formats.load import PositiveMs
from twin.faults.base import Fault, Strike
from twin.world.clock import Clock

if TYPE_CHECKING:
    from twin.world.world import World


class ClockSlew(Fault, frozen=True, kw_only=True):
    """The clock of a node is slewed: ``ppm`` fast for ``swing_ms``, then as much slow, over and over.

    Source: ntpd, "Clock Discipline Algorithm" (the frequency is corrected by at most 500 ppm); adjtimex(2).
    """

    ppm: Annotated[int, msgspec.Meta(ge=1, le=500)] = 500
    swing_ms: PositiveMs = 10_000

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.undo(partial(world.clocks[node].set_drift, 0))
            self._swing(world, strike, world.clocks[node], self.ppm)

    def _swing(self, world: "World", strike: Strike, clock: Clock, ppm: int) -> None:
        if not strike.healed:
            clock.set_drift(ppm)
            world.kernel.after(self.swing_ms, self._swing, world, strike, clock, -ppm)
