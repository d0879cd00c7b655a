"""See ``LiftAnswerLost``."""

from typing import TYPE_CHECKING, Literal

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class LiftAnswerLost(Fault, frozen=True, kw_only=True):
    """Blocks lifted by a node are gone, and the answer is ``says``: the next ``count`` of them.

    Source: facts/ceph.md section 5 (commands stall when the leading monitor dies; what it had committed stands).
    """

    count: Count = 1
    says: Literal["failed", "unanswered"] = "unanswered"

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.storage.map.nodes[node].quirks, "lift_answer_lost", self.count, says=self.says)
