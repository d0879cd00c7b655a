"""See ``RetiredReturns``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World

ASKED_MAX = 2
"""It asks so many boot servers."""


class RetiredReturns(Fault, frozen=True, kw_only=True):
    """Somebody plugs a retired machine in again and switches it on: it asks to boot, and starts what is on its disk."""

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.power.plug(node)
            claim = world.netboot.claim(node)
            for server in world.netboot.serving()[:ASKED_MAX] if claim is not None else ():
                if claim is not None and server != node:
                    world.netboot.gates.ask(server, claim)
            world.kernel.after(world.power.times.bmc_start_ms.ms_max, world.power.chassis[node].power_on)
            strike.undo(partial(world.power.node_power_off, node, True))
