"""See ``BmcSessionRefused``."""

from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BmcSessionRefused(Fault, frozen=True, kw_only=True):
    """The BMC of a node has no room for the next ``count`` sessions: "insufficient resources for session".

    Source: openbmc/openbmc issue 1241, openshift-kni/baremetal-deploy pull request 481 (gone after some retries).
    """

    count: Count = 1

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.bmc.quirks(node), "bmc_session_refused", self.count)
