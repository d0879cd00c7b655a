"""See ``NodeCrashRepeated``."""

from functools import partial
from typing import TYPE_CHECKING

from core.ids import BootId, NodeId
from formats.load import PositiveMs
from twin.faults.base import Fault, Strike
from twin.faults.node_crash import reset_without_quorum

if TYPE_CHECKING:
    from twin.world.world import World


class NodeCrashRepeated(Fault, frozen=True, kw_only=True):
    """A node's operating system panics, and again ``after_up_ms`` after each boot (bad memory).

    Healing exchanges the memory, and the operator lifts the node's quarantine.
    """

    after_up_ms: PositiveMs = 20_000

    def apply(self, world: "World", strike: Strike) -> None:
        def crash(node: NodeId, boot_id: BootId) -> None:
            chassis = world.power.chassis[node]
            if not strike.healed and chassis.state == "up" and chassis.boot_id == boot_id:
                chassis.crash()

        def booted(node: NodeId, boot_id: BootId) -> None:
            if node in strike.nodes and not strike.healed:
                world.kernel.after(self.after_up_ms, crash, node, boot_id)

        world.power.on_up(booted)
        for node in strike.nodes:
            world.power.chassis[node].crash()
            strike.undo(partial(world.operator.unquarantine, node))
            strike.undo(partial(reset_without_quorum, world, node))
