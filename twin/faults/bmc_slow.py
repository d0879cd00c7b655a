"""See ``BmcSlow``."""

from functools import partial
from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BmcSlow(Fault, frozen=True, kw_only=True):
    """The BMC of a node takes ``delay_ms`` longer for every answer."""

    delay_ms: PositiveMs = 5_000

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.power.bmc.set_delay(node, self.delay_ms)
            strike.undo(partial(world.power.bmc.set_delay, node, 0))
