"""See ``CommitLost``."""

from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class CommitLost(Fault, frozen=True, kw_only=True):
    """The connection breaks before a commit of the node arrives, the next ``count`` times: it never happens.

    The client is told nothing but that the connection is lost. Source: ZooKeeper FAQ, "How should I handle the
    CONNECTION_LOSS error?"; facts/zookeeper.md section 3 (calls pending on a drop fail, outcome unknown).
    """

    count: Count = 1

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.ensemble.client(node).link.quirks, "commit_lost", self.count)
