"""See ``OsdLoss``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class OsdLoss(Fault, frozen=True, kw_only=True):
    """The storage daemons of a node stop; the node itself goes on."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.storage.osd_down(node)
            strike.undo(partial(world.storage.osd_up, node))
