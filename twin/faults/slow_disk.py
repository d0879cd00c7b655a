"""See ``SlowDisk``."""

from functools import partial
from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class SlowDisk(Fault, frozen=True, kw_only=True):
    """The disk under a node's ZooKeeper server takes ``delay_ms`` longer for each sync of the log."""

    delay_ms: PositiveMs = 200

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.ensemble.server_slow(node, self.delay_ms)
            strike.undo(partial(world.ensemble.server_slow, node, 0))
