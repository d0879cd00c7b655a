"""See ``DiskSlow``."""

from functools import partial
from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class DiskSlow(Fault, frozen=True, kw_only=True):
    """The storage disks of a node take ``delay_ms`` longer for every write."""

    delay_ms: PositiveMs = 300

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.storage.disk_slow(node, self.delay_ms)
            strike.undo(partial(world.storage.disk_slow, node, 0))
