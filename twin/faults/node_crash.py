"""See ``NodeCrash``."""

from functools import partial
from typing import TYPE_CHECKING

from core.ids import NodeId
from formats.load import Ms
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class NodeCrash(Fault, frozen=True, kw_only=True):
    """The operating system of a node panics: power stays on, nothing runs any more.

    With ``reboots`` the kernel resets the machine ``reboot_ms`` later (``kernel.panic``); without, it stays dead until
    somebody power-cycles it. Healing leaves that to the rack, unless it has no quorum and so may not order it: then the
    operator resets the machine.
    """

    reboots: bool = False
    reboot_ms: Ms = 10_000

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.power.chassis[node].crash()
            if self.reboots:
                world.kernel.after(self.reboot_ms, _reset, world, node)
            strike.undo(partial(reset_without_quorum, world, node))


def reset_without_quorum(world: "World", node: NodeId) -> None:
    """Have the operator reset a machine that nobody else can: no power order goes out without a quorum (rule 8)."""
    if not world.ensemble.quorum():
        _reset(world, node)


def _reset(world: "World", node: NodeId) -> None:
    if world.power.chassis[node].state == "crashed":
        world.power.chassis[node].reset()
