"""See ``LinkDelay``."""

from functools import partial
from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class LinkDelay(Fault, frozen=True, kw_only=True):
    """Everything to and from a node takes ``delay_ms`` longer (a congested or broken link)."""

    delay_ms: PositiveMs = 200

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.fabric.set_delay(node, self.delay_ms)
            strike.undo(partial(world.fabric.set_delay, node, 0))
