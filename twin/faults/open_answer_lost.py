"""See ``OpenAnswerLost``."""

from typing import TYPE_CHECKING, Literal

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class OpenAnswerLost(Fault, frozen=True, kw_only=True):
    """The next ``count`` volumes that a node opens are open, and the answer is ``says``: nobody knows the instance.

    The driver closes it again after 2 s without having written. Source: ``drivers/storage.py`` (a supervisor that
    answers too late, a client instance that cannot be told); facts/ceph.md section 8 trap 4 (a lock kept by an orphaned
    client).
    """

    count: Count = 1
    says: Literal["failed", "unanswered"] = "unanswered"

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.storage.map.nodes[node].quirks, "open_answer_lost", self.count, says=self.says)
