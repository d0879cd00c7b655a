"""See ``DhcpOfferLost``."""

from typing import TYPE_CHECKING

from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class DhcpOfferLost(Fault, frozen=True, kw_only=True):
    """The next ``count`` requests of a node for an address at boot are not answered; it asks again, each time later.

    Source: RFC 2131 section 4.1 (retransmission with exponential back-off); facts/bmc-and-netboot.md section 5 (a lease
    that is never renewed).
    """

    count: Count = 1

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.netboot.quirks(node), "dhcp_offer_lost", self.count)
