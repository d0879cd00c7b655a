"""See ``TokenStolen``."""

from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike
from twin.world.gates import Claim, Ticket
from twin.world.identity import identity_of

if TYPE_CHECKING:
    from twin.world.world import World


class TokenStolen(Fault, frozen=True, kw_only=True):
    """A thief on the boot network reads the next boot script of a node and is faster with its token; once.

    Then neither the thief nor the machine itself gets anything for it. A thief who forges the machine's UUID and its
    network card as well is not told from it: only a secret in the machine, as a TPM holds, could do that.
    """

    def apply(self, world: "World", strike: Strike) -> None:
        gates = world.netboot.gates
        left = [world.netboot.machine(node) for node in strike.nodes]

        def heard(claim: Claim, ticket: Ticket) -> None:
            if claim.machine in left:
                left.remove(claim.machine)
                name = f"thief of {claim.machine}"
                thief = identity_of(name)
                gates.redeem(ticket, Claim(machine=name, uuid=thief.uuid, mac=thief.mac))

        strike.undo(gates.on_script(heard))
