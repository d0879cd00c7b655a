"""Worlds that the contract of the power port is asked of: the twin's, a real IPMI server, a real Redfish service."""

import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol
from uuid import UUID

from core.events import Seen
from core.ids import DomainId, Guid, NodeId, RackId
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
