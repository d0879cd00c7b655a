"""Outages of years in a world: each strikes at its time, keeps its machine broken, and ends with its repair."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.ids import NodeId
from core.records import Lifecycle, NodeRecord, node_path
from trial.marks import FaultMark
from twin.failures.replay import Replay
from twin.faults import FAULTS
from twin.faults.base import Strike

if TYPE_CHECKING:
    from twin.world.world import World

LOOK_MS = 600_000
LOOKS = 6
"""After a repair the operator looks that often whether the node is quarantined, this far apart."""


class Outages:
    """The outages of one run. ``arm`` once before the run, ``heal_all`` when the heal phase begins.

    A machine that crashed stays broken until its repair: however often a steward power-cycles it, its self test fails.
    After the repair the operator lifts the node's quarantine, and its steward brings it back.
    """

    def __init__(self, world: "World", outages: Sequence[Replay]) -> None:
        self._world = world
        self._outages = outages
        self._active: dict[NodeId, tuple[Replay, Strike, FaultMark]] = {}
        self._over = False

    def arm(self) -> None:
        """Schedule the first outage; each schedules the next, so the queue stays short."""
        self._schedule(0)

    def heal_all(self) -> None:
        """Repair everything that is still broken; nothing strikes any more."""
        self._over = True
        for node in list(self._active):
            self._repair(node)

    def _schedule(self, index: int) -> None:
        if index < len(self._outages):
            at_ms = max(self._outages[index].start_ms, self._world.kernel.now)
            self._world.kernel.at(at_ms, self._strike, index)

    def _strike(self, index: int) -> None:
        if self._over:
            return
        outage = self._outages[index]
        fault = FAULTS[outage.fault](at_ms=outage.start_ms, target=outage.node)
        strike = Strike(nodes=(outage.node,))
        why = f"{outage.cause}: {outage.detail}" if outage.detail else outage.cause
        mark = self._world.fault_begins(outage.fault, why, strike.nodes)
        self._active[outage.node] = (outage, strike, mark)
        fault.apply(self._world, strike)
        self._world.power.chassis[outage.node].broken = outage.fault == "node_crash"
        self._world.kernel.at(max(outage.end_ms, self._world.kernel.now + 1), self._ends, outage)
        self._schedule(index + 1)

    def _ends(self, outage: Replay) -> None:
        active = self._active.get(outage.node)
        if active is not None and active[0] is outage:
            self._repair(outage.node)

    def _repair(self, node: NodeId) -> None:
        _, strike, mark = self._active.pop(node)
        self._world.power.chassis[node].broken = False
        strike.heal()
        self._world.fault_ends(mark)
        self._look(node, LOOKS)

    def _look(self, node: NodeId, looks: int) -> None:
        """Lift the quarantine of a repaired node; it may also come a little after the repair."""
        record = self._world.record(NodeRecord, node_path(node))
        if node in self._active or looks == 0 or (record is not None and record.state is Lifecycle.JOINED):
            return
        if record is not None and record.state is Lifecycle.QUARANTINED:
            self._world.operator.unquarantine(node)
        self._world.kernel.after(LOOK_MS, self._look, node, looks - 1)
