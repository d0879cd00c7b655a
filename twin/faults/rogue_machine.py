"""See ``RogueMachine``."""

from typing import TYPE_CHECKING, ClassVar

from core.ids import NO_IMAGE
from trial.targets import TargetKind
from twin.faults.base import Fault, Strike
from twin.world.gates import Claim, Ticket
from twin.world.identity import identity_of

if TYPE_CHECKING:
    from twin.world.world import World

ASKED_MAX = 4
"""A stranger tries so many boot servers."""


class RogueMachine(Fault, frozen=True, kw_only=True):
    """A machine that nobody expects asks boot servers for a script, and then for a certificate with a made-up token."""

    STRIKES: ClassVar[TargetKind] = "none"

    def apply(self, world: "World", strike: Strike) -> None:
        name = f"rogue@{world.kernel.now}"
        rogue = identity_of(name)
        claim = Claim(machine=name, uuid=rogue.uuid, mac=rogue.mac)
        for server in world.netboot.serving()[:ASKED_MAX]:
            world.netboot.gates.ask(server, claim)
            made_up = Ticket(server=server, token=f"made up/{rogue.guid}", image=NO_IMAGE)
            world.netboot.gates.redeem(made_up, claim)
