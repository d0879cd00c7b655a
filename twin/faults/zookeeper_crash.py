"""See ``ZookeeperCrash``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class ZookeeperCrash(Fault, frozen=True, kw_only=True):
    """The ZooKeeper server process of a node dies; the node and its data live on."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.ensemble.server_down(node)
            strike.undo(partial(world.ensemble.server_up, node))
