"""See ``DiskFailure``."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World

DiskSlot = Annotated[int, msgspec.Meta(ge=0, le=99)]


class DiskFailure(Fault, frozen=True, kw_only=True):
    """A disk that carries storage fails on each node of the target; healing replaces it.

    ``disk`` counts the storage disks of the node from 0.
    """

    disk: DiskSlot = 0

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.storage.disk_fail(node, self.disk)
            strike.undo(partial(world.storage.disk_replace, node, self.disk))
