"""See ``ZookeeperCut``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class ZookeeperCut(Fault, frozen=True, kw_only=True):
    """A node reaches its peers and the storage, but no ZooKeeper server (its client port is blocked, to itself too)."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.ensemble.client_cut(node)
            strike.undo(partial(world.ensemble.client_mend, node))
