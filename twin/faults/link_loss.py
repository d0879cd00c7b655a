"""See ``LinkLoss``."""

from functools import partial
from typing import TYPE_CHECKING, Literal

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World

LinkName = Literal["data", "storage", "management"]


class LinkLoss(Fault, frozen=True, kw_only=True):
    """A node's links are down: it hears and reaches nobody on these networks.

    ``networks``: "data" (peers, ZooKeeper, clients), "storage", "management" (its BMC, and it the others').
    """

    networks: tuple[LinkName, ...] = ("data", "storage")

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            for network in self.networks:
                world.fabric.link_down(node, network)
                strike.undo(partial(world.fabric.link_up, node, network))
