"""See ``ProcessPause``."""

from functools import partial
from typing import TYPE_CHECKING, Literal

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class ProcessPause(Fault, frozen=True, kw_only=True):
    """A whole node freezes and wakes up later as if no time had passed, or only its agent does.

    ``what``: "node" (the machine, its kernel and all deadlines with it) or "agent" (the process).
    """

    what: Literal["node", "agent"] = "node"

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            if self.what == "node":
                world.freeze_node(node)
                strike.undo(partial(world.thaw_node, node))
            else:
                world.agents[node].pause()
                strike.undo(world.agents[node].resume)
