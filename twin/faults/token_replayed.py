"""See ``TokenReplayed``."""

from typing import TYPE_CHECKING

import msgspec

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class TokenReplayed(Fault, frozen=True, kw_only=True):
    """Somebody shows the token once more that a node has joined with, under that machine's own name."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            claim, ticket = world.netboot.claim(node), world.netboot.ticket(node)
            if claim is not None and ticket is not None:
                replay = msgspec.structs.replace(claim, machine=f"replay of {claim.machine}")
                world.netboot.gates.redeem(ticket, replay)
