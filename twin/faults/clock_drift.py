"""See ``ClockDrift``."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World

Ppm = Annotated[int, msgspec.Meta(ge=-500_000, le=1_000_000)]


class ClockDrift(Fault, frozen=True, kw_only=True):
    """The clock of a node runs fast (positive ``ppm``) or slow; the protocol allows for 5 % (50,000 ppm)."""

    ppm: Ppm

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.clocks[node].set_drift(self.ppm)
            strike.undo(partial(world.clocks[node].set_drift, 0))
