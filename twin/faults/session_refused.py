"""See ``SessionRefused``."""

from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class SessionRefused(Fault, frozen=True, kw_only=True):
    """A node's connection to ZooKeeper breaks, and the next ``count`` servers that it turns to refuse its session.

    They are behind what the client has seen; it tries another. Source: ZooKeeper's server ("Refusing session request
    for client ... as it has seen zxid ..., client must try another server"): ClickHouse/ClickHouse pull request 90016.
    """

    count: Count = 1

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            link = world.ensemble.client(node).link
            strike.arm(link.quirks, "session_refused", self.count)
            link.drop()
