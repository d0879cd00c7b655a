"""See ``CommitAnswerLost``."""

from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class CommitAnswerLost(Fault, frozen=True, kw_only=True):
    """The connection breaks after a commit of the node took effect, the next ``count`` times: it does not know.

    Source: ZooKeeper FAQ, "How should I handle the CONNECTION_LOSS error?"; apache/accumulo issue 637 and
    facts/zookeeper.md section 3 (44 sequence nodes returned, 56 exist).
    """

    count: Count = 1

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.ensemble.client(node).link.quirks, "commit_answer_lost", self.count)
