"""What operators do, right or wrong: drains, returns, retirements, and a restart of every node in turn."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from core.ids import NodeId
from core.records import Lifecycle
from drivers.lab import power
from drivers.lab.fault import LabFault, Strike
from formats.load import PositiveMs

if TYPE_CHECKING:
    from drivers.lab.rack import LabRack

_LOOK_MS = 500


class OperatorDrain(LabFault, frozen=True, kw_only=True):
    """The operator drains nodes, all of the target at once: two of them is the classic mistake."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.operator.drain(node)
            strike.undo(partial(rack.operator.undrain, node))


class OperatorUndrain(LabFault, frozen=True, kw_only=True):
    """The operator takes nodes back into service, perhaps while they are still draining."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.operator.undrain(node)


class OperatorRetire(LabFault, frozen=True, kw_only=True):
    """The operator takes nodes out of the rack for good; healing does not bring them back."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.operator.retire(node)


class RollingRestart(LabFault, frozen=True, kw_only=True):
    """The operator restarts all nodes of the target one after the other: drain, reboot, take back, next.

    Each step of a node may take ``step_ms_max``, then the round goes on anyway; ``pause_ms`` lies between nodes.
    """

    step_ms_max: PositiveMs = 300_000
    pause_ms: PositiveMs = 10_000

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        _Round(rack, strike, self).next()


class _Round:
    """One round over the nodes; healing takes back the node that is out and ends the round."""

    def __init__(self, rack: "LabRack", strike: Strike, fault: RollingRestart) -> None:
        self._rack = rack
        self._strike = strike
        self._fault = fault
        self._left = list(strike.nodes)
        self._out: NodeId | None = None
        strike.undo(self._take_back)
        rack.busy = True

    def next(self) -> None:
        """Drain the next node, reboot it once it is in maintenance, take it back once it is a member again."""
        self._rack.busy = bool(self._left) and not self._strike.healed
        if self._rack.busy:
            self._out = node = self._left.pop(0)
            self._rack.operator.drain(node)
            self._wait(lambda: self._in_maintenance(node), lambda: self._reboot(node), self._fault.step_ms_max)

    def _reboot(self, node: NodeId) -> None:
        power.reset(self._rack.layout, node)
        before = self._rack.boot_of(node)
        self._wait(lambda: self._back(node, before), self._go_on, self._fault.step_ms_max)

    def _back(self, node: NodeId, before: str) -> bool:
        """Whether the node is a member under another boot than before."""
        return self._rack.boot_of(node) not in ("", before)

    def _go_on(self) -> None:
        self._take_back()
        self._rack.timeline.after(self._fault.pause_ms, self.next)

    def _take_back(self) -> None:
        if self._out is not None:
            self._rack.operator.undrain(self._out)
            self._out = None

    def _wait(self, reached: Callable[[], bool], then: Callable[[], None], left_ms: int) -> None:
        """Look again and again; go on when ``reached``, or when the time is over."""
        if self._strike.healed:
            return
        if reached() or left_ms <= 0:
            then()
        else:
            self._rack.timeline.after(_LOOK_MS, partial(self._wait, reached, then, left_ms - _LOOK_MS))

    def _in_maintenance(self, node: NodeId) -> bool:
        return self._rack.lifecycle_of(node) is Lifecycle.MAINTENANCE
