"""See ``SessionMoved``."""

from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class SessionMoved(Fault, frozen=True, kw_only=True):
    """A node's ZooKeeper session goes on at another server: requests under way fail, whether they happened or not.

    Source: ZooKeeper Programmer's Guide, "ZooKeeper Sessions" (SessionMovedException); apache/zookeeper pull request
    353 (ZOOKEEPER-2886).
    """

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.ensemble.client(node).link.drop(move=True)
