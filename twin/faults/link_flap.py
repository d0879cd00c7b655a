"""See ``LinkFlap``."""

from typing import TYPE_CHECKING

from core.ids import NodeId
from formats.load import PositiveMs
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class LinkFlap(Fault, frozen=True, kw_only=True):
    """A node's data link goes down for ``down_ms`` and up for ``up_ms``, over and over."""

    down_ms: PositiveMs = 1_000
    up_ms: PositiveMs = 1_500

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            self._down(world, strike, node)

    def _down(self, world: "World", strike: Strike, node: NodeId) -> None:
        if strike.healed:
            return
        world.fabric.link_down(node)
        up = world.kernel.after(self.down_ms, self._up, world, strike, node)

        def mend() -> None:
            if up.pending:
                up.cancel()
                world.fabric.link_up(node)

        strike.undo(mend)

    def _up(self, world: "World", strike: Strike, node: NodeId) -> None:
        world.fabric.link_up(node)
        world.kernel.after(self.up_ms, self._down, world, strike, node)
