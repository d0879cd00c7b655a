"""See ``OperatorUndrain``."""

from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class OperatorUndrain(Fault, frozen=True, kw_only=True):
    """The operator takes nodes back into service, perhaps while they are still draining."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.operator.undrain(node)
