"""See ``BmcLying``."""

from functools import partial
from typing import TYPE_CHECKING, Literal

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World

_MODES: dict[str, Literal["lying_off", "lying_on", "contrary"]] = {
    "off": "lying_off",
    "on": "lying_on",
    "contrary": "contrary",
}


class BmcLying(Fault, frozen=True, kw_only=True):
    """The BMC of a node lies about its power.

    ``says``: "off" (whatever the node does; orders are confirmed and not carried out), "on", or "contrary".
    """

    says: Literal["off", "on", "contrary"] = "off"

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.power.bmc.set_mode(node, _MODES[self.says])
            strike.undo(partial(world.power.bmc.set_mode, node, "ok"))
