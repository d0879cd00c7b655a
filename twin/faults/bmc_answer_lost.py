"""See ``BmcAnswerLost``."""

from typing import TYPE_CHECKING, Literal

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BmcAnswerLost(Fault, frozen=True, kw_only=True):
    """The BMC of a node obeys the next ``count`` orders, and the answer is ``says``.

    Source: openbmc/openbmc issue 3728 ("Unable to set Chassis Power Control", now and then); facts/bmc-and-netboot.md
    section 1 (a chassis program that ends with 1 becomes "Unspecified error", whatever it did).
    """

    count: Count = 1
    says: Literal["failed", "unanswered"] = "failed"

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.bmc.quirks(node), "bmc_answer_lost", self.count, says=self.says)
