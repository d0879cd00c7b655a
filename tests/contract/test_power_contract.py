"""What every power port must do, simulated or real. A new implementation adds one line to ``WORLDS``."""

import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol
from uuid import UUID

import pytest

from core import effects as fx
from core.events import AnyEvent, ConsoleSeen, OpFailed, OpSucceeded, PowerSeen, Scanned, Seen
from core.identity import same_machine
from core.ids import DomainId, Guid, NodeId, OpId, RackId
from core.ports import PowerPort
from drivers.clock import now_ms
from drivers.config import BmcTable, Machine
from drivers.console import Consoles
from drivers.inventory import Inventory
from drivers.lab import bmcs, chassis
from drivers.networks import AccessTable, NetworkTable
from drivers.power import Power as RealPort
from drivers.power import open_table
from drivers.scan import Scans
from tests.real.lab_bmc import FileMachine, free_port, password_file
from tests.real.redfish_emulator import UUID as UUID_OF_IT
from tests.real.redfish_emulator import Emulator
from twin.calibration import load
from twin.kernel import Kernel
from twin.streams import Streams
from twin.world.fabric import Fabric
from twin.world.netboot import Netboot
from twin.world.power import ChassisSpec, Power

Mode = Literal["ok", "dead", "hung", "contrary", "locked"]
NETWORK = "mgmt"
STEWARD, WARD = NodeId("n1"), NodeId("n2")


class PowerWorld(Protocol):
    """What the suite needs of a world: a steward's port and clock, the truth about its ward, faults of its BMC.

    ``wait`` lets up to ``ms`` pass; a real world goes on as soon as ``port`` has nothing more to do. ``uuid`` is the
    ward's identity; ``say`` lets it write on its console, False where it has none.
    """

    uuid: str

    def port(self) -> PowerPort: ...

    def clock_ms(self) -> int: ...

    def wait(self, ms: int) -> None: ...

    def is_on(self) -> bool: ...

    def set_bmc(self, mode: Mode) -> None: ...

    def say(self, line: str) -> bool: ...

    def close(self) -> None: ...


class SimulatedPower:
    """The twin's power with two machines, of which the steward runs and the ward is off."""

    uuid = "27946b59-9e44-4fa7-8e91-f3527a1ef094"

    def __init__(self) -> None:
        self.kernel = Kernel()
        fabric = Fabric()
        fabric.add_switch("s1")
        for node in (STEWARD, WARD):
            fabric.add_node(node, ["s1"])
        streams, calibration = Streams(3), load()
        netboot = Netboot(self.kernel, streams, calibration, fabric)
        specs = [ChassisSpec(node=node, pdu=DomainId("p1")) for node in (STEWARD, WARD)]
        self.power = Power(self.kernel, streams, calibration, fabric, netboot, specs)
        self.power.bmc.book = Book(self.uuid)
        self.power.start_up([STEWARD])

    def port(self) -> PowerPort:
        return self.power.port(STEWARD, self.clock_ms)

    def clock_ms(self) -> int:
        return self.kernel.now

    def wait(self, ms: int) -> None:
        self.kernel.run(self.kernel.now + ms)

    def is_on(self) -> bool:
        return self.power.chassis[WARD].on

    def set_bmc(self, mode: Mode) -> None:
        self.power.bmc.set_mode(WARD, mode)

    def say(self, line: str) -> bool:
        self.power.chassis[WARD].says(line)
        return True

    def close(self) -> None:
        pass


class Book:
    """One management network of the twin, with the ward's BMC on it."""

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid

    def listing(self, network: str) -> Sequence[NodeId]:
        return [WARD] if network == NETWORK else []

    def seen(self, node: NodeId, problem: str) -> Seen:
        return Seen(
            bmc="10.200.0.2:623",
            guid=Guid(UUID(self._uuid).hex),
            rack=RackId("r1"),
            power_domain=DomainId("p1"),
            access="" if problem else "admin",
            problem=problem,
        )


class RealPower:
    """What the two real worlds have in common: the driver, and its clock."""

    def __init__(self, ward: Machine) -> None:
        """``ward`` as the inventory would have it; a look does not know of it yet."""
        table = ward.bmc
        assert table.password_file is not None
        assert table.driver != "none"
        self._word = table.password_file
        access = AccessTable(
            name="lab", driver=table.driver, user=table.user, password_file=self._word, port=table.port, tls=table.tls
        )
        network = NetworkTable(name=NETWORK, subnet=f"{table.address}/32", access=(access,))
        scans = Scans(Inventory(machines={}, networks=(network,)), tuple, open_table, now_ms)
        self._consoles = Consoles(now_ms, 30_000)
        self._port = RealPort({WARD: ward}, now_ms, scans=lambda: scans, consoles=self._consoles)

    def lock(self) -> None:
        """Have a wrong password from now on."""
        self._word.write_text("wrong\n", encoding="utf-8")

    def port(self) -> PowerPort:
        return self._port

    def clock_ms(self) -> int:
        return now_ms()

    def wait(self, ms: int) -> None:
        until_ms = now_ms() + ms
        while now_ms() < until_ms and self._port.counts().busy:
            time.sleep(0.005)


class IpmiPower(RealPower):
    """A real IPMI server, with a machine that is a file."""

    def __init__(self, folder: Path) -> None:
        self._serial = Serial()
        self._ward = FileMachine(folder, console=self._serial.place)
        self.uuid = self._ward.bmc.uuid
        super().__init__(self._ward.machine)

    def is_on(self) -> bool:
        return self._ward.is_on

    def set_bmc(self, mode: Mode) -> None:
        match mode:
            case "dead":
                bmcs.stop(self._ward.folder)
            case "hung":
                bmcs.freeze(self._ward.folder)
            case "contrary":
                chassis.break_it(self._ward.folder, "contrary")
            case "locked":
                self.lock()
            case "ok":
                chassis.mend(self._ward.folder, "contrary")

    def say(self, line: str) -> bool:
        return self._serial.say(line)

    def close(self) -> None:
        self._consoles.close()
        self._ward.close()
        self._serial.close()


class Serial:
    """A machine's serial port: whoever connects gets what is said."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(10)
        self.place = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._line: socket.socket | None = None

    def say(self, line: str) -> bool:
        if self._line is None:
            self._line, _ = self._listening.accept()
        self._line.sendall(f"\x1b[1m{line}\x1b[0m\r\n".encode())
        return True

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
        self._listening.close()


class RedfishPower(RealPower):
    """A real Redfish service, whose machines change their state within a second."""

    def __init__(self, folder: Path) -> None:
        self._ward = Emulator(folder, free_port(socket.SOCK_STREAM), "s3cret")
        table = BmcTable(
            driver="redfish",
            address="127.0.0.1",
            port=self._ward.port,
            password_file=password_file(folder, "s3cret"),
            tls=False,
        )
        self.uuid = UUID_OF_IT
        super().__init__(Machine(id=WARD, number=2, address="127.0.0.2", bmc=table))

    def is_on(self) -> bool:
        return self._ward.is_on

    def set_bmc(self, mode: Mode) -> None:
        match mode:
            case "dead":
                self._ward.kill()
            case "hung":
                self._ward.signal(signal.SIGSTOP)
            case "contrary":
                self._ward.be_contrary()
            case "locked":
                self.lock()
            case "ok":
                pass

    def say(self, line: str) -> bool:
        return False  # Redfish has no console that a program could read

    def close(self) -> None:
        self._consoles.close()
        self._ward.close()


REAL = [pytest.mark.real, pytest.mark.xdist_group("power")]
WORLDS = [
    pytest.param(lambda _: SimulatedPower(), id="simulated"),
    pytest.param(IpmiPower, id="ipmi", marks=REAL),
    pytest.param(RedfishPower, id="redfish", marks=REAL),
]


class Steward:
    """Asks for one thing at a time and returns ``on``, ``off`` or the reason why not."""

    def __init__(self, world: PowerWorld) -> None:
        self._world = world
        self._port = world.port()
        self._events: list[AnyEvent] = []
        self._op = 0

    def read(self, ms_max: int = 3_000) -> str:
        self._op += 1
        self._port.submit(fx.ReadPower(op=OpId(self._op), node=WARD, ms_max=ms_max), self._events.append)
        return self._answer(ms_max)

    def order(self, action: Literal["on", "off", "cycle"], within_ms: int = 8_000, generation: int = 1) -> str:
        self._op += 1
        deadline_ms = self._world.clock_ms() + within_ms
        order = fx.PowerOrder(
            op=OpId(self._op), node=WARD, action=action, generation=generation, deadline_ms=deadline_ms
        )
        self._port.submit(order, self._events.append)
        return self._answer(max(within_ms, 0) + 100)

    def look(self, ms_max: int = 6_000) -> tuple[Seen, ...]:
        self._op += 1
        self._port.submit(fx.Scan(op=OpId(self._op), network=NETWORK, ms_max=ms_max), self._events.append)
        event = self._event(ms_max)
        assert isinstance(event, OpSucceeded)
        assert isinstance(event.result, Scanned)
        return event.result.seen

    def console(self, ms_max: int = 3_000) -> str:
        """What was read of the ward's console, or the reason why it could not be after ``!``."""
        self._op += 1
        self._port.submit(fx.ReadConsole(op=OpId(self._op), node=WARD, ms_max=ms_max), self._events.append)
        event = self._event(ms_max)
        if isinstance(event, OpFailed):
            return f"!{event.reason}"
        assert isinstance(event.result, ConsoleSeen)
        return event.result.tail

    def _answer(self, ms: int) -> str:
        event = self._event(ms)
        if isinstance(event, OpFailed):
            return event.reason
        assert isinstance(event.result, PowerSeen)
        return "on" if event.result.on else "off"

    def _event(self, ms: int) -> OpSucceeded | OpFailed:
        before = self._op - 1
        self._world.wait(ms)
        assert len(self._events) == before + 1, "exactly one answer, at the latest at the limit"
        event = self._events[-1]
        assert isinstance(event, OpSucceeded | OpFailed)
        assert event.op == self._op
        return event


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PowerWorld]:
    make: Callable[[Path], PowerWorld] = request.param
    made = make(tmp_path / "bmc")
    yield made
    made.close()


def test_orders_are_obeyed_and_read_back(world: PowerWorld) -> None:
    steward = Steward(world)
    assert steward.read() == "off"
    assert steward.order("on") == "on"
    assert world.is_on()
    assert steward.read() == "on"
    assert steward.order("off") == "off"
    assert not world.is_on()


def test_a_cycled_machine_is_on_again(world: PowerWorld) -> None:
    steward = Steward(world)
    assert steward.order("on") == "on"
    assert steward.order("cycle") == "on"
    world.wait(3_000)
    assert world.is_on()


@pytest.mark.parametrize("mode", ["ok", "contrary"])
def test_already_so_is_success(world: PowerWorld, mode: Literal["ok", "contrary"]) -> None:
    world.set_bmc(mode)
    steward = Steward(world)
    assert steward.order("off") == "off"
    assert steward.order("on") == "on"
    assert steward.order("on") == "on"


@pytest.mark.parametrize("mode", ["dead", "hung"])
def test_silence_is_a_failure_that_may_be_retried_and_never_off(
    world: PowerWorld, mode: Literal["dead", "hung"]
) -> None:
    steward = Steward(world)
    world.set_bmc(mode)
    unknown = {"unanswered"} if mode == "hung" else {"unanswered", "unavailable"}
    assert steward.read(ms_max=1_500) in unknown
    assert steward.order("off", within_ms=1_500) in unknown


def test_an_order_past_its_deadline_is_not_sent(world: PowerWorld) -> None:
    steward = Steward(world)
    assert steward.order("on", within_ms=0) in ("refused", "unanswered")
    assert steward.order("on", within_ms=-5_000) in ("refused", "unanswered")
    world.wait(10_000)
    assert not world.is_on()


def test_an_order_older_than_one_that_was_taken_is_refused(world: PowerWorld) -> None:
    steward = Steward(world)
    assert steward.order("on", generation=5) == "on"
    assert steward.order("off", generation=4) == "refused"
    assert world.is_on()
    assert steward.order("off", generation=5) == "off"


def test_a_look_finds_the_ward_while_it_is_off(world: PowerWorld) -> None:
    (seen,) = Steward(world).look()
    assert same_machine(seen.guid, world.uuid)
    assert (seen.node, seen.number, seen.problem) == ("", 0, "")
    assert seen.access
    assert ":" in seen.bmc
    assert (seen.rack, seen.power_domain) == ("r1", "p1")
    assert not world.is_on()


def test_a_bmc_that_lets_nobody_in_is_told_with_why_not(world: PowerWorld) -> None:
    world.set_bmc("locked")
    for seen in Steward(world).look():
        assert seen.access == ""
        assert seen.problem


@pytest.mark.parametrize("mode", ["dead", "hung"])
def test_a_look_answers_in_time_without_who_is_silent(world: PowerWorld, mode: Literal["dead", "hung"]) -> None:
    steward = Steward(world)
    world.set_bmc(mode)
    assert steward.look(ms_max=4_000) == ()


def test_what_a_machine_wrote_since_its_order_can_be_read(world: PowerWorld) -> None:
    steward = Steward(world)
    assert steward.order("on") == "on"
    if not world.say("Kernel panic - not syncing"):
        assert steward.console().startswith("!")
        return
    text = steward.console()
    for _ in range(20):  # what is written before a real console is being watched is lost
        if text:
            break
        world.say("Kernel panic - not syncing")
        text = steward.console()
    assert text.splitlines()[-1] == "Kernel panic - not syncing"
    assert "\x1b" not in text
    assert len(text.encode()) <= 8 << 10
    assert steward.read() == "on", "a console that is watched keeps no power call waiting"


def test_the_console_of_a_dead_bmc_is_a_failure_in_time(world: PowerWorld) -> None:
    steward = Steward(world)
    world.set_bmc("dead")
    assert steward.console(ms_max=2_000).startswith("!")
