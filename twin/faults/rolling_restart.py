"""See ``RollingRestart``."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from core.ids import BootId, NodeId
from core.records import Lifecycle, NodeRecord, node_path
from formats.load import PositiveMs
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World

_LOOK_MS = 1_000


class RollingRestart(Fault, frozen=True, kw_only=True):
    """The operator restarts all nodes of the target one after the other: drain, reboot, take back, next.

    Each step of a node may take ``step_ms_max``, then the round goes on anyway; ``pause_ms`` lies between nodes.
    """

    step_ms_max: PositiveMs = 300_000
    pause_ms: PositiveMs = 10_000

    def apply(self, world: "World", strike: Strike) -> None:
        _Round(world, strike, self).next()


class _Round:
    """One round over the nodes; healing takes back the node that is out and ends the round."""

    def __init__(self, world: "World", strike: Strike, fault: RollingRestart) -> None:
        self._world = world
        self._strike = strike
        self._fault = fault
        self._left = list(strike.nodes)
        self._out: NodeId | None = None
        strike.undo(self._take_back)

    def next(self) -> None:
        """Drain the next node, reboot it once it is in maintenance, take it back once it is a member again."""
        if self._left and not self._strike.healed:
            self._out = node = self._left.pop(0)
            self._world.operator.drain(node)
            self._wait(lambda: self._in_maintenance(node), lambda: self._reboot(node), self._fault.step_ms_max)

    def _reboot(self, node: NodeId) -> None:
        chassis = self._world.power.chassis[node]
        before = chassis.boot_id
        chassis.reset()
        self._wait(lambda: self._is_back(node, before), self._go_on, self._fault.step_ms_max)

    def _is_back(self, node: NodeId, before: BootId) -> bool:
        """Whether the node is a member in a new boot; the session of the old one lives on for a moment."""
        chassis = self._world.power.chassis[node]
        return chassis.state == "up" and chassis.boot_id != before and node in self._world.members()

    def _go_on(self) -> None:
        self._take_back()
        self._world.kernel.after(self._fault.pause_ms, self.next)

    def _take_back(self) -> None:
        if self._out is not None:
            self._world.operator.undrain(self._out)
            self._out = None

    def _wait(self, reached: Callable[[], bool], then: Callable[[], None], left_ms: int) -> None:
        """Look every second; go on when ``reached``, or when the time is over."""
        if self._strike.healed:
            return
        if reached() or left_ms <= 0:
            then()
        else:
            self._world.kernel.after(_LOOK_MS, self._wait, reached, then, left_ms - _LOOK_MS)

    def _in_maintenance(self, node: NodeId) -> bool:
        record = self._world.ensemble.data_view(node_path(node))
        return isinstance(record, NodeRecord) and record.state is Lifecycle.MAINTENANCE
