"""See ``InstalledByHand``."""

from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class InstalledByHand(Fault, frozen=True, kw_only=True):
    """Nodes that no image was ever put on, from the beginning: an upgrade leaves them alone."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.slots[node].forget()
