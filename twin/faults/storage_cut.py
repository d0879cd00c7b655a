"""See ``StorageCut``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class StorageCut(Fault, frozen=True, kw_only=True):
    """A node's storage link is down: it reaches its peers and ZooKeeper, but not the storage, nor others its disks."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.fabric.storage_cut(node)
            strike.undo(partial(world.fabric.storage_mend, node))
