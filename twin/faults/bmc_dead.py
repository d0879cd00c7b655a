"""See ``BmcDead``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BmcDead(Fault, frozen=True, kw_only=True):
    """The BMC of a node answers nothing and obeys nothing."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.power.bmc.set_mode(node, "dead")
            strike.undo(partial(world.power.bmc.set_mode, node, "ok"))
