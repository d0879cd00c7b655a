"""The power of a rack: PDUs with their breakers, what they feed, and who is told when machines come up and go down."""

from collections import deque
from collections.abc import Callable, Iterable

from core.ids import BootId, DomainId, NodeId
from twin.calibration import Calibration
from twin.kernel import Kernel
from twin.streams import Stream, Streams
from twin.world.bmc import Bmcs, OrderTaken, PowerClient
from twin.world.chassis import Chassis, ChassisSpec, ChassisState, PowerTimes
from twin.world.fabric import Fabric
from twin.world.netboot import Netboot

__all__ = ["Chassis", "ChassisSpec", "ChassisState", "Power"]


class Pdu:
    """One power distribution unit with its breaker."""

    __slots__ = ("id", "on", "outlets", "recent", "tripped")

    def __init__(self, pdu: DomainId) -> None:
        self.id = pdu
        self.on = True
        self.tripped = False
        self.outlets: list[Chassis] = []
        self.recent: deque[int] = deque()


class Power:
    """All PDUs, chassis and BMCs of a rack."""

    def __init__(
        self,
        kernel: Kernel,
        streams: Streams,
        calibration: Calibration,
        fabric: Fabric,
        netboot: Netboot,
        specs: Iterable[ChassisSpec],
        pdus: Iterable[DomainId] = (),
    ) -> None:
        self.kernel, self.netboot = kernel, netboot
        self.times = calibration.section("power", PowerTimes)
        self._streams = streams
        self._on_up: list[Callable[[NodeId, BootId], None]] = []
        self._on_down: list[Callable[[NodeId], None]] = []
        self._on_state: list[Callable[[NodeId, ChassisState, BootId], None]] = []
        self._on_trip: list[Callable[[DomainId, int], None]] = []
        self.chassis = {spec.node: Chassis(self, spec) for spec in specs}
        self.pdus: dict[DomainId, Pdu] = {pdu: Pdu(pdu) for pdu in pdus}
        for chassis in self.chassis.values():
            self.pdus.setdefault(chassis.spec.pdu, Pdu(chassis.spec.pdu)).outlets.append(chassis)
        self.bmc = Bmcs(kernel, streams, calibration, fabric, self.chassis)

    def port(self, node: NodeId, clock: Callable[[], int]) -> PowerClient:
        """Return the power port of a node's agent; deadlines are judged by ``clock``, the node's own."""
        return PowerClient(self.bmc, node, clock)

    def on_up(self, fn: Callable[[NodeId, BootId], None]) -> None:
        """Call ``fn(node, boot_id)`` when an operating system runs."""
        self._on_up.append(fn)

    def on_down(self, fn: Callable[[NodeId], None]) -> None:
        """Call ``fn(node)`` when an operating system is gone: power lost, reset or crash; once a boot."""
        self._on_down.append(fn)

    def on_state(self, fn: Callable[[NodeId, ChassisState, BootId], None]) -> None:
        """Call ``fn(node, state, boot_id)`` at every change of a chassis' state."""
        self._on_state.append(fn)

    def on_order(self, fn: Callable[[OrderTaken], None]) -> None:
        """Call ``fn`` for every power order that reaches a BMC, before the BMC acts on it."""
        self.bmc.on_order(fn)

    def on_trip(self, fn: Callable[[DomainId, int], None]) -> None:
        """Call ``fn(pdu, at_ms)`` when a breaker trips."""
        self._on_trip.append(fn)

    def start_up(self, nodes: Iterable[NodeId]) -> None:
        """Let these chassis be on and their operating systems run at once (a world that starts warm)."""
        for node in nodes:
            self.chassis[node].start_up()

    def rename(self, old: NodeId, new: NodeId) -> None:
        """A machine got the name of a node."""
        chassis = self.chassis[new] = self.chassis.pop(old)
        chassis.node = new
        self.bmc.rename(old, new)
        self.netboot.rename(old, new)

    # -- faults --------------------------------------------------------------------------------------------------------

    def pdu_off(self, pdu: DomainId) -> None:
        """Take the power from everything a PDU feeds, BMCs included."""
        self.pdus[pdu].on = False
        for chassis in self.pdus[pdu].outlets:
            chassis.feed = False
            chassis.feed_changed()

    def pdu_on(self, pdu: DomainId) -> None:
        """Feed again, one outlet after the other; resets a tripped breaker."""
        unit = self.pdus[pdu]
        if unit.on:
            return
        unit.on, unit.tripped = True, False
        for number, chassis in enumerate(unit.outlets):
            self.kernel.after(number * self.times.outlet_step_ms, self._outlet_on, unit, chassis)

    def node_power_off(self, node: NodeId, standby_too: bool = False) -> None:
        """Fail the main power of one machine; with ``standby_too`` pull its cord, so that its BMC is silent as well."""
        chassis = self.chassis[node]
        chassis.main = False
        if standby_too:
            chassis.cord = False
        chassis.feed_changed()

    def node_power_on(self, node: NodeId) -> None:
        """Undo ``node_power_off``."""
        chassis = self.chassis[node]
        chassis.main = True
        self._connect(chassis)

    def plug(self, node: NodeId) -> None:
        """Cable a machine that was carried in: its BMC starts, it stays off until it is ordered on."""
        self._connect(self.chassis[node])

    # -- used by the chassis -------------------------------------------------------------------------------------------

    def stream(self, node: NodeId) -> Stream:
        """Return the random stream of one chassis."""
        return self._streams.get(f"power/{node}")

    def bmc_restarted(self, node: NodeId) -> None:
        """Take up that a BMC had lost its power."""
        self.bmc.restarted(node)

    def inrush(self, chassis: Chassis) -> bool:
        """Count one more power-on at a PDU; False if that was too many at once and the breaker tripped."""
        unit, now = self._recent(chassis), self.kernel.now
        unit.recent.append(now)
        if len(unit.recent) <= self.times.inrush_slots:
            return True
        unit.recent.clear()
        unit.tripped = True
        self.pdu_off(unit.id)
        for listener in self._on_trip:
            listener(unit.id, now)
        return False

    def restore_room(self, chassis: Chassis) -> bool:
        """Whether a machine that restores itself may switch on now: these keep apart, and leave room for orders."""
        return len(self._recent(chassis).recent) < self.times.restore_slots

    def came_up(self, chassis: Chassis) -> None:
        """Tell everybody that an operating system runs."""
        if chassis.identity is None:
            self.netboot.server_up(chassis.node)
        for listener in self._on_up:
            listener(chassis.node, chassis.boot_id)

    def went_down(self, chassis: Chassis) -> None:
        """Tell everybody that an operating system is gone."""
        self.netboot.server_down(chassis.node)
        for listener in self._on_down:
            listener(chassis.node)

    def tell_state(self, chassis: Chassis) -> None:
        """Tell everybody a chassis' new state."""
        for listener in self._on_state:
            listener(chassis.node, chassis.state, chassis.boot_id)

    def _recent(self, chassis: Chassis) -> Pdu:
        unit, now = self.pdus[chassis.spec.pdu], self.kernel.now
        while unit.recent and unit.recent[0] <= now - self.times.inrush_window_ms:
            unit.recent.popleft()
        return unit

    def _outlet_on(self, unit: Pdu, chassis: Chassis) -> None:
        if unit.on and not chassis.feed:
            chassis.feed = True
            if chassis.cord:
                chassis.standby_returned()
            chassis.feed_changed()

    def _connect(self, chassis: Chassis) -> None:
        if not chassis.cord:
            chassis.cord = True
            if chassis.feed:
                chassis.standby_returned()
        chassis.feed_changed()
