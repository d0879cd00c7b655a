"""See ``MonitorLoss``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class MonitorLoss(Fault, frozen=True, kw_only=True):
    """The storage monitors of the target stop: without their majority nothing can be fenced, but writes go on."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.storage.monitor_down(node)
            strike.undo(partial(world.storage.monitor_up, node))
