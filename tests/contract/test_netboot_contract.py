"""What every netboot port must do, simulated or real. A new implementation adds one line to ``WORLDS``."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from core import effects as fx
from core.events import AnyEvent, BootSeen, JoinRefused
from core.ids import Guid, NodeId
from core.ports import NetbootPort
from drivers.netboot.port import NetbootPort as RealPort
from tests.real.boot_rack import BootRack
from tests.real.require import require
from tests.unit.boot_server import uuid_of
from twin.calibration import load
from twin.kernel import Kernel
from twin.streams import Streams
from twin.world.fabric import Fabric
from twin.world.identity import Identity
from twin.world.netboot import Netboot

SERVER, WARD = NodeId("n1"), NodeId("n6")
UUID, OTHER_UUID = uuid_of(6), uuid_of(66)
GUID = Guid(UUID.replace("-", ""))
MAC, OTHER_MAC = "52:54:00:98:00:06", "52:54:00:98:00:66"
REAL_S_MAX = 10


class NetbootWorld(Protocol):
    """What the suite needs of a world: the port of a boot server's agent, what it was told, and a machine that boots.

    ``boot`` switches a machine of that UUID and network card on, lets it boot as far as it comes, and says whether it
    got its image. ``wait`` lets ``ms`` pass. ``until`` waits (bounded) for something to be so.
    """

    said: list[AnyEvent]

    def port(self) -> NetbootPort: ...

    def boot(self, uuid: str, mac: str) -> bool: ...

    def wait(self, ms: int) -> None: ...

    def until(self, so: Callable[[], bool]) -> bool: ...

    def close(self) -> None: ...


class SimulatedNetboot:
    """The twin's boot servers, with one that runs and one machine."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.said: list[AnyEvent] = []
        fabric = Fabric()
        fabric.add_switch("s1")
        for node in (SERVER, WARD):
            fabric.add_node(node, ["s1"])
        self.netboot = Netboot(self.kernel, Streams(3), load(), fabric)
        self.netboot.gates.tell = lambda _server, event: self.said.append(event)
        self.netboot.server_up(SERVER)

    def port(self) -> NetbootPort:
        return self.netboot.port(SERVER)

    def boot(self, uuid: str, mac: str) -> bool:
        ended: list[bool] = []
        self.netboot.identify(WARD, "it", Identity(guid=GUID, uuid=uuid, macs=(mac,)))
        self.netboot.boot(WARD, lambda ok, _why: ended.append(ok))
        while not ended:
            self.kernel.run(self.kernel.now + 1_000)
        return ended[0]

    def wait(self, ms: int) -> None:
        self.kernel.run(self.kernel.now + ms)

    def until(self, so: Callable[[], bool]) -> bool:
        return so()

    def close(self) -> None:
        pass


class RealNetboot:
    """The service in a namespace, the agent's port here, and a machine in another namespace on the same wire."""

    def __init__(self, folder: Path) -> None:
        self.rack = BootRack(folder)
        self.said: list[AnyEvent] = []
        try:
            self.rack.start()
        except BaseException:
            self.rack.close()
            raise
        self._port = RealPort(self.rack.config)
        self._port.begin(self.said.append)

    def port(self) -> NetbootPort:
        return self._port

    def boot(self, uuid: str, mac: str) -> bool:
        time.sleep(0.1)  # an order is on its way through two sockets, and DHCP begins anew
        return self.rack.boot(uuid, mac).root > 0

    def wait(self, ms: int) -> None:
        time.sleep(ms / 1_000)

    def until(self, so: Callable[[], bool]) -> bool:
        end = time.monotonic() + REAL_S_MAX
        while not so() and time.monotonic() < end:
            time.sleep(0.01)
        return so()

    def close(self) -> None:
        self._port.close()
        self.rack.close()


def _real(folder: Path) -> NetbootWorld:
    require("dnsmasq", "ip")
    return RealNetboot(folder)


WORLDS: dict[str, Callable[[Path], NetbootWorld]] = {"simulated": lambda _: SimulatedNetboot(), "real": _real}


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.real] if name == "real" else []) for name in WORLDS])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NetbootWorld]:
    made = WORLDS[request.param](tmp_path)
    yield made
    made.close()


def allow(world: NetbootWorld, ms: int = 600_000, macs: tuple[str, ...] = (MAC,)) -> None:
    """Open a window for the ward, as its steward does."""
    world.port().submit(fx.AllowBoot(node=WARD, guid=GUID, macs=macs, ms_max=ms), world.said.append)


def stages(world: NetbootWorld) -> list[str]:
    """How far the ward came, in order."""
    return [event.stage for event in world.said if isinstance(event, BootSeen) and event.node == WARD]


def reasons(world: NetbootWorld) -> list[str]:
    """Why somebody was refused, in order."""
    return [event.reason for event in world.said if isinstance(event, JoinRefused)]


def test_an_expected_machine_boots_and_each_stage_is_told(world: NetbootWorld) -> None:
    allow(world)
    assert world.boot(UUID, MAC)
    assert world.until(lambda: stages(world) == ["offered", "script", "kernel", "image"])
    assert reasons(world) == []


def test_a_machine_whose_cards_are_not_known_yet_boots_by_its_identity(world: NetbootWorld) -> None:
    allow(world, macs=())
    assert world.boot(UUID, OTHER_MAC)


def test_who_comes_a_second_time_in_one_window_gets_nothing(world: NetbootWorld) -> None:
    allow(world)
    assert world.boot(UUID, MAC)
    assert not world.boot(UUID, MAC)
    assert world.until(lambda: reasons(world) == ["asked_twice"])


def test_a_new_window_is_a_new_chance(world: NetbootWorld) -> None:
    allow(world)
    assert world.boot(UUID, MAC)
    allow(world)
    assert world.boot(UUID, MAC)
    assert reasons(world) == []


def test_without_a_window_nobody_boots(world: NetbootWorld) -> None:
    assert not world.boot(UUID, MAC)
    assert stages(world) == []


def test_after_its_window_a_machine_boots_no_more(world: NetbootWorld) -> None:
    allow(world, ms=1_000)
    world.wait(1_600)
    assert not world.boot(UUID, MAC)
    assert stages(world) == []


def test_who_copied_the_network_card_is_refused_and_the_rack_hears_of_it(world: NetbootWorld) -> None:
    allow(world)
    assert not world.boot(OTHER_UUID, MAC)
    assert world.until(lambda: reasons(world) == ["wrong_machine"])


def test_who_copied_the_identity_is_refused_and_the_rack_hears_of_it(world: NetbootWorld) -> None:
    allow(world)
    assert not world.boot(UUID, OTHER_MAC)
    assert world.until(lambda: reasons(world) == ["wrong_mac"])


def test_a_stranger_gets_not_even_an_address(world: NetbootWorld) -> None:
    allow(world)
    assert not world.boot(OTHER_UUID, OTHER_MAC)
    assert stages(world) == []


def test_what_was_refused_does_not_cost_the_right_machine_its_chance(world: NetbootWorld) -> None:
    allow(world)
    assert not world.boot(OTHER_UUID, MAC)
    assert world.boot(UUID, MAC)
