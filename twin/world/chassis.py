"""One machine's power and boot: from power-on through firmware and boot device to a running operating system."""

from typing import Literal, Protocol

import msgspec

from core.ids import BootId, DomainId, ImageId, NodeId
from twin.calibration import Sampled
from twin.kernel import Handle, Kernel
from twin.streams import Stream
from twin.world.identity import Identity
from twin.world.netboot import Netboot
from twin.world.quirks import Quirks

Restore = Literal["on", "off", "last"]
ChassisState = Literal["off", "firmware", "netboot", "up", "frozen", "crashed", "no_boot"]
NO_BOOT = BootId("")
CONSOLE_LINES = 50
PANIC_MS = 30_000
"""A machine whose disk says nothing else restarts so long after a panic (``panic=30`` on the command line)."""


class PowerTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of section ``power``; times in ms."""

    firmware_ms: Sampled
    disk_boot_ms: Sampled
    image_boot_ms: Sampled
    netboot_retry_ms: int
    netboot_tries_max: int
    bmc_start_ms: Sampled
    outlet_step_ms: int
    inrush_window_ms: int
    inrush_slots: int
    restore_slots: int


class ChassisSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One chassis. ``restore``: what it does when power comes back; ``plugged``: cabled from the beginning.

    ``installed``: its local disk can boot. ``watchdog_ms``: a hardware watchdog resets it that long after its operating
    system froze or crashed; 0: it has none. ``identity``: what it shows itself as where machines must be admitted.
    """

    node: NodeId
    pdu: DomainId
    restore: Restore = "last"
    plugged: bool = True
    installed: bool = True
    watchdog_ms: int = 0
    identity: Identity | None = None


class BootLoader(Protocol):
    """The slots on a machine's disk (``twin.world.slots``): what boots, and whether that comes up."""

    @property
    def boots(self) -> bool: ...

    @property
    def panic_ms(self) -> int: ...

    def from_disk(self) -> None: ...

    def from_network(self, image: ImageId) -> None: ...


class Feeder(Protocol):
    """What a chassis needs of the rack around it."""

    kernel: Kernel
    times: PowerTimes
    netboot: Netboot

    def stream(self, node: NodeId) -> Stream: ...

    def bmc_restarted(self, node: NodeId) -> None: ...

    def inrush(self, chassis: "Chassis") -> bool: ...

    def restore_room(self, chassis: "Chassis") -> bool: ...

    def came_up(self, chassis: "Chassis") -> None: ...

    def went_down(self, chassis: "Chassis") -> None: ...

    def tell_state(self, chassis: "Chassis") -> None: ...


class Chassis:
    """One machine's power and boot state.

    ``state`` is ``crashed`` when its operating system died under power, ``no_boot`` when it found nothing to boot from.
    While it is ``broken`` its self test fails at every power-on, so it ends in ``no_boot``.
    ``boot_id`` is empty unless an operating system runs, is frozen or crashed. ``console`` is what it has written since
    it was last switched on. ``certified``: its disk holds a certificate of this rack; ``foreign``: it holds another
    system, which boots if the network is not asked for; ``panics``: every kernel that boots here panics.
    """

    __slots__ = (
        "_power",
        "_timer",
        "_tries",
        "bmc_ready_ms",
        "boot_id",
        "boots",
        "broken",
        "certified",
        "console",
        "cord",
        "feed",
        "foreign",
        "from_network",
        "identity",
        "installed",
        "loader",
        "main",
        "network_once",
        "node",
        "panics",
        "quirks",
        "spec",
        "state",
        "wanted_on",
        "why",
    )  # fmt: skip

    def __init__(self, power: Feeder, spec: ChassisSpec) -> None:
        self._power = power
        self.spec = spec
        self.node = spec.node
        self.state: ChassisState = "off"
        self.boot_id = NO_BOOT
        self.boots = 0
        self.quirks = Quirks()
        self.loader: BootLoader | None = None
        self.broken = False
        self.panics = False
        self.foreign = False
        self.identity = spec.identity
        self.installed = spec.installed
        self.certified = spec.installed
        self.from_network = False
        self.console: list[str] = []
        self.network_once = False
        self.wanted_on = False
        self.why = ""
        self.feed = True
        self.cord = spec.plugged
        self.main = True
        self.bmc_ready_ms = 0
        self._timer: Handle | None = None
        self._tries = 0

    @property
    def standby(self) -> bool:
        """Whether the standby rail, and with it the BMC, has power."""
        return self.feed and self.cord

    @property
    def fed(self) -> bool:
        """Whether it can be switched on."""
        return self.standby and self.main

    @property
    def bmc_powered(self) -> bool:
        """Whether its BMC has power and has started."""
        return self.standby and self._power.kernel.now >= self.bmc_ready_ms

    @property
    def on(self) -> bool:
        """Whether the chassis has its main power on, whatever runs on it."""
        return self.state != "off"

    def power_on(self) -> bool:
        """Switch on and boot; already on is success. False without power, or if the breaker trips over it."""
        if not self.fed:
            return False
        self.wanted_on = True
        if self.state == "off":
            if self.quirks.armed and self.quirks.take("power_on_ignored"):
                return False
            if not self._power.inrush(self):
                return False
            self._cancel()
            self.console = []
            self._firmware()
        return True

    def power_off(self) -> None:
        """Cut the main power on order; it stays off, also when power comes back after a loss."""
        self.wanted_on = False
        self._cut()

    def reset(self) -> None:
        """Restart without cutting the power; an off chassis stays off."""
        if self.on:
            self._leave()
            self._firmware()

    def crash(self) -> None:
        """Let the operating system die; the power stays on and nothing restarts it but a watchdog or an order."""
        if self.state in ("up", "frozen"):
            self._leave(keep_boot_id=True)
            self._enter("crashed")
            self._arm_watchdog()

    def freeze(self) -> None:
        """Stop the operating system and everything on it, without ending it."""
        if self.state == "up":
            self._enter("frozen")
            self._arm_watchdog()

    def thaw(self) -> None:
        """Let a frozen operating system go on."""
        if self.state == "frozen":
            self._cancel()
            self._enter("up")

    def start_up(self) -> None:
        """Be on, with the operating system running, at once."""
        self.wanted_on = True
        self.installed = True
        self._running()

    def feed_changed(self) -> None:
        """Take up a loss or return of power: without it everything stops, with it the restore policy acts."""
        power = self._power
        if not self.fed:
            self._cut()
            return
        if self.state == "off" and self._timer is None:
            wait = max(0, self.bmc_ready_ms - power.kernel.now)
            self._timer = power.kernel.after(wait, self._restore)

    def standby_returned(self) -> None:
        """Start the BMC, which takes its time."""
        power = self._power
        self.bmc_ready_ms = power.kernel.now + power.times.bmc_start_ms.draw(power.stream(self.node))
        power.bmc_restarted(self.node)

    def says(self, line: str) -> None:
        """Write a line to the serial console, which keeps the last of them."""
        self.console = [*self.console[1 - CONSOLE_LINES :], line]

    # -- booting -------------------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        self._timer = None
        if self.spec.restore == "off" or (self.spec.restore == "last" and not self.wanted_on):
            return
        if self._power.restore_room(self):
            self.power_on()
        else:
            self._timer = self._power.kernel.after(self._power.times.inrush_window_ms, self._restore)

    def _firmware(self) -> None:
        power = self._power
        self._tries = 0
        self._enter("firmware")
        self._timer = power.kernel.after(power.times.firmware_ms.draw(power.stream(self.node)), self._choose_device)

    def _choose_device(self) -> None:
        self._timer = None
        if self.broken:
            self.why = "the self test fails"
            self.says("POST code 0x55: no usable memory. System halted.")
            self._enter("no_boot")
        elif self.network_once or not (self.installed or self.foreign):
            self.network_once = False
            self._enter("netboot")
            self._from_network()
        else:
            self._from_disk()

    def _from_disk(self) -> None:
        self.from_network = False
        if self.loader is not None and not self.foreign:
            self.loader.from_disk()
        self._load(self._power.times.disk_boot_ms)

    def _from_network(self) -> None:
        self._timer = None
        self._tries += 1
        self._power.netboot.boot(self.node, self._netbooted)

    def _netbooted(self, ok: bool, why: str) -> None:
        power = self._power
        self.why = why
        self.from_network = ok
        if not ok:
            self.says(f"PXE: {why}")
        if ok:
            self.installed = self.installed or self.identity is None  # where machines are admitted, with that
            if self.loader is not None:
                self.loader.from_network(power.netboot.image_of(self.node))
            self._load(power.times.image_boot_ms)
        elif self.installed or self.foreign:
            self._from_disk()
        elif self._tries < power.times.netboot_tries_max:
            self._timer = power.kernel.after(power.times.netboot_retry_ms, self._from_network)
        else:
            self._enter("no_boot")

    def _load(self, duration: Sampled) -> None:
        power = self._power
        slow = self.quirks.take("boot_slow") if self.quirks.armed else None
        wait = duration.draw(power.stream(self.node)) + (slow.ms if slow is not None else 0)
        comes_up = not self.panics and (self.loader is None or self.foreign or self.loader.boots)
        self._timer = power.kernel.after(wait, self._running if comes_up else self._panicked)

    def _panicked(self) -> None:
        """The kernel came to nothing; it restarts the machine after a while."""
        self.says("Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)")
        panic_ms = self.loader.panic_ms if self.loader is not None else PANIC_MS
        self._timer = self._power.kernel.after(panic_ms, self._firmware)

    def _running(self) -> None:
        self._timer = None
        if self.quirks.armed and self.quirks.take("boot_twice"):
            self._firmware()
            return
        self.says("Debian GNU/Linux 10 left-over ttyS0 login:" if self.foreign else f"{self.node} login:")
        self.boots += 1
        self.boot_id = BootId(f"{self.node}.{self.boots}")
        self._enter("up")
        self._power.came_up(self)

    # -- stopping ------------------------------------------------------------------------------------------------------

    def _arm_watchdog(self) -> None:
        if self.spec.watchdog_ms:
            self._timer = self._power.kernel.after(self.spec.watchdog_ms, self._watchdog)

    def _watchdog(self) -> None:
        self._timer = None
        self.reset()

    def _cut(self) -> None:
        if self.on:
            self._leave()
            self._enter("off")
        else:
            self._cancel()

    def _leave(self, keep_boot_id: bool = False) -> None:
        """Stop whatever goes on: a timer, a network boot, a running operating system."""
        self._cancel()
        was = self.state
        if was == "netboot":
            self._power.netboot.abort(self.node)
        if not keep_boot_id:
            self.boot_id = NO_BOOT
        if was in ("up", "frozen"):
            self.state = "crashed"
            self._power.went_down(self)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _enter(self, state: ChassisState) -> None:
        self.state = state
        self._power.tell_state(self)
