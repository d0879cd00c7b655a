"""See ``SessionExpiry``."""

from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class SessionExpiry(Fault, frozen=True, kw_only=True):
    """ZooKeeper expires a node's session although the node is healthy (a long pause that nobody saw).

    The node has to be connected, so that it learns it at once: ZooKeeper never expires a silent session early, and a
    service without a volume relies on that (rule 7).
    """

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.ensemble.expire(node)
