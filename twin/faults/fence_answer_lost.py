"""See ``FenceAnswerLost``."""

from typing import TYPE_CHECKING, Literal

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class FenceAnswerLost(Fault, frozen=True, kw_only=True):
    """Fences asked for by a node take effect, and the answer is ``says``: the next ``count`` of them.

    Source: facts/ceph.md section 5 (commands stall 2.8 to 14 s when the leading monitor dies; what it had committed
    stands).
    """

    count: Count = 1
    says: Literal["failed", "unanswered"] = "unanswered"

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.storage.map.nodes[node].quirks, "fence_answer_lost", self.count, says=self.says)
