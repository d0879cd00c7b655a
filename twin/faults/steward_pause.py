"""See ``StewardPause``."""

from typing import TYPE_CHECKING

from core.ids import NO_NODE, NodeId
from twin.faults.base import Fault, Strike
from twin.load import Ms

if TYPE_CHECKING:
    from twin.world.world import World

_LOOK_MS = 50


class StewardPause(Fault, frozen=True, kw_only=True):
    """The steward of a node pauses between deciding and acting: once somebody cares for the target, its agent stops.

    ``delay_ms`` lies between the first sight of a steward and its pause; the pause lasts until the fault is healed.
    """

    delay_ms: Ms = 100

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            _look(world, strike, node, self.delay_ms)

    def text(self, strike: Strike) -> str:
        return f"steward of {', '.join(strike.nodes)}"


def _look(world: "World", strike: Strike, ward: NodeId, delay_ms: int) -> None:
    steward = world.steward_of(ward)
    if strike.healed:
        return
    if steward == NO_NODE:
        world.kernel.after(_LOOK_MS, _look, world, strike, ward, delay_ms)
    else:
        world.kernel.after(delay_ms, _pause, world, strike, steward)


def _pause(world: "World", strike: Strike, steward: NodeId) -> None:
    if not strike.healed:
        world.agents[steward].pause()
        strike.undo(world.agents[steward].resume)
