"""See ``CardSwapped``."""

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from twin.faults.base import Fault, Strike
from twin.world.identity import identity_of

if TYPE_CHECKING:
    from twin.world.world import World


class CardSwapped(Fault, frozen=True, kw_only=True):
    """The network card of a node was swapped: the right machine boots with an address that nobody has on record."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            mine, other = world.netboot.identity(node), identity_of(f"another card in {node}")
            if mine is not None:
                world.netboot.be(node, msgspec.structs.replace(mine, macs=other.macs))
                strike.undo(partial(world.netboot.be, node, mine))
