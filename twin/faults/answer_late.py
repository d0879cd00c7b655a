"""See ``AnswerLate``."""

from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class AnswerLate(Fault, frozen=True, kw_only=True):
    """Answers of ZooKeeper to a node come ``delay_ms`` late, but within their limits: the next ``count`` of them.

    Beats of its services count as well. Source: facts/zookeeper.md section 2 (p99 and maxima: 5 to 30 ms of noise on a
    shared machine, more behind an fsync) and ZooKeeper Administrator's Guide, "Things to Avoid" (transaction log on a
    shared disk).
    """

    count: Count = 1
    delay_ms: PositiveMs = 900

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            link = world.ensemble.client(node).link
            strike.arm(link.quirks, "answer_late", self.count, self.delay_ms)
            link.changed()
