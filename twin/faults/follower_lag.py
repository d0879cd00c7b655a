"""See ``FollowerLag``."""

from typing import TYPE_CHECKING, Annotated

import msgspec

from twin.faults.base import Fault, Strike
from twin.world.quirks import ALWAYS

if TYPE_CHECKING:
    from twin.world.world import World


class FollowerLag(Fault, frozen=True, kw_only=True):
    """A node is moved to a ZooKeeper server that is ``delay_ms`` behind: all it is told is so old, all answers so late.

    A leader drops a follower that is more than ``syncLimit`` ticks behind, hence the bound. Source: ZooKeeper
    Programmer's Guide, "Consistency Guarantees" (timeliness: a bound of tens of seconds, not simultaneous views);
    facts/zookeeper.md section 2, stale side (a follower served reads for 2.0 s and more).
    """

    delay_ms: Annotated[int, msgspec.Meta(ge=1, le=2_000)] = 700

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            link = world.ensemble.client(node).link
            strike.arm(link.quirks, "follower_lag", ALWAYS, self.delay_ms)
            link.drop(move=True)
