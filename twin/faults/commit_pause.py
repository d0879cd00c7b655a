"""See ``CommitPause``."""

from functools import partial
from typing import TYPE_CHECKING

from core.ids import NodeId
from formats.load import PositiveMs
from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class CommitPause(Fault, frozen=True, kw_only=True):
    """The agent of a node stands still for ``pause_ms`` just after it has sent a commit, the next ``count`` times.

    Source: facts/zookeeper.md section 2, frozen owner; M. Kleppmann, "How to do distributed locking" (2016): a pause
    between acquiring a lease and using it.
    """

    count: Count = 1
    pause_ms: PositiveMs = 1_500

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            quirks = world.ensemble.client(node).link.quirks
            strike.arm(quirks, "commit_pause", self.count, act=partial(self._pause, world, node))

    def _pause(self, world: "World", node: NodeId) -> None:
        agent = world.agents[node]
        agent.pause()
        world.kernel.after(self.pause_ms, agent.resume)
