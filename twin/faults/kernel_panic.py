"""See ``KernelPanic``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class KernelPanic(Fault, frozen=True, kw_only=True):
    """Every kernel that a node boots panics, as with a bad memory module; its serial console says so."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            chassis = world.power.chassis[node]
            chassis.panics = True
            strike.undo(partial(setattr, chassis, "panics", False))
