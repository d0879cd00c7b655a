"""See ``OperatorRetire``."""

from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class OperatorRetire(Fault, frozen=True, kw_only=True):
    """The operator takes nodes out of the rack for good; healing does not bring them back."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.operator.retire(node)
