"""See ``OperatorDrain``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class OperatorDrain(Fault, frozen=True, kw_only=True):
    """The operator drains nodes, all of the target at once: two of them is the classic mistake."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.operator.drain(node)
            strike.undo(partial(world.operator.undrain, node))
