"""See ``BadImage``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BadImage(Fault, frozen=True, kw_only=True):
    """The image that a node boots from the network is damaged: it loads and does not come up."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.netboot.fail(node, "bad_image")
            strike.undo(partial(world.netboot.fail, node, "ok"))
