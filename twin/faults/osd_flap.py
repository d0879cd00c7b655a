"""See ``OsdFlap``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class OsdFlap(Fault, frozen=True, kw_only=True):
    """The storage daemons of a node go down and come up again, over and over."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.storage.osd_flap(node, True)
            strike.undo(partial(world.storage.osd_flap, node, False))
