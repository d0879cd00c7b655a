"""See ``WrongUuid``."""

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from twin.faults.base import Fault, Strike
from twin.world.identity import identity_of

if TYPE_CHECKING:
    from twin.world.world import World


class WrongUuid(Fault, frozen=True, kw_only=True):
    """The board of a node was swapped: at its next boots it shows a UUID that is not the one of its BMC's record.

    ``card_too``: the network card came with the board, so that nothing of it is known any more.
    """

    card_too: bool = False

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            mine, other = world.netboot.identity(node), identity_of(f"another board in {node}")
            if mine is not None:
                macs = other.macs if self.card_too else mine.macs
                world.netboot.be(node, msgspec.structs.replace(mine, uuid=other.uuid, macs=macs))
                strike.undo(partial(world.netboot.be, node, mine))
