"""See ``MacClone``."""

from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike
from twin.world.gates import Claim, Ticket
from twin.world.identity import identity_of

if TYPE_CHECKING:
    from twin.world.world import World


class MacClone(Fault, frozen=True, kw_only=True):
    """A machine with a copy of a node's network card address asks for a script too, right after the node's next; once.

    ``uuid_too``: it shows the node's UUID as well, which it has heard. Two of them cannot be told apart: both are
    refused, and the node joins with its next boot.
    """

    uuid_too: bool = False

    def apply(self, world: "World", strike: Strike) -> None:
        gates = world.netboot.gates
        left = [world.netboot.machine(node) for node in strike.nodes]

        def heard(claim: Claim, ticket: Ticket) -> None:
            if claim.machine in left:
                left.remove(claim.machine)
                name = f"clone of {claim.machine}"
                uuid = claim.uuid if self.uuid_too else identity_of(name).uuid
                gates.ask(ticket.server, Claim(machine=name, uuid=uuid, mac=claim.mac))

        strike.undo(gates.on_script(heard))
