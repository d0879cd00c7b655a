"""See ``LinkLopsided``."""

from functools import partial
from typing import TYPE_CHECKING, Literal

from formats.load import PositiveMs
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class LinkLopsided(Fault, frozen=True, kw_only=True):
    """All that a node sends (or all that it receives) takes ``delay_ms`` longer, the other direction does not.

    Source: J. Gettys and K. Nichols, "Bufferbloat" (ACM Queue, 2011): one full buffer delays one direction.
    """

    direction: Literal["out", "in"] = "out"
    delay_ms: PositiveMs = 200

    def apply(self, world: "World", strike: Strike) -> None:
        out_ms, in_ms = (self.delay_ms, 0) if self.direction == "out" else (0, self.delay_ms)
        for node in strike.nodes:
            world.fabric.set_delay(node, out_ms, in_ms)
            strike.undo(partial(world.fabric.set_delay, node, 0))
