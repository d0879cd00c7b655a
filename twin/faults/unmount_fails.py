"""See ``UnmountFails``."""

from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class UnmountFails(Fault, frozen=True, kw_only=True):
    """Volumes cannot be unmounted when their service stops on a node, the next ``count`` times: the stop is not clean.

    Source: umount(2), EBUSY (open files, working directories, a lost write that makes the last flush fail).
    """

    count: Count = 1

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.chassis[node].quirks, "unmount_fails", self.count)
