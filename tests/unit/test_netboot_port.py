"""The agent's end of the netboot socket, with a service that the test plays."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from core.effects import AllowBoot
from core.events import AnyEvent, BootSeen
from core.ids import Guid, NodeId
from core.specs import Timing
from drivers.clock import now_ms
from drivers.config import Config, NodeTables
from drivers.inventory import Machine, Machines
from drivers.netboot.port import NetbootPort
from drivers.netboot.wire import SOCKET, Allow, Heard, Told, Welcome, decode_from_agent, encode
from formats.catalog import Catalog

N6 = NodeId("n6")
UUID = "11223344-5566-7788-9900-aabbccdd0006"


class Service:
    """The other end: listens, and talks to one agent at a time."""

    def __init__(self, folder: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        (folder / SOCKET).unlink(missing_ok=True)
        self._listener.bind(str(folder / SOCKET))
        self._listener.listen(1)
        self._listener.settimeout(10)
        self._link: socket.socket | None = None
        self._reader: IO[bytes] | None = None

    def accept(self) -> None:
        """Wait for the agent."""
        self._link, _ = self._listener.accept()
        self._link.settimeout(10)
        self._reader = self._link.makefile("rb")
        self.say(encode(Welcome(pid=1, node="n1")))

    def say(self, line: bytes) -> None:
        """Send a line."""
        assert self._link is not None
        self._link.sendall(line)

    def hear(self) -> Allow | Heard:
        """What the agent says next."""
        assert self._reader is not None
        return decode_from_agent(self._reader.readline())

    def close(self) -> None:
        """Hang up and listen no more."""
        for one in (self._reader, self._link, self._listener):
            if one is not None:
                one.close()


@pytest.fixture
def port(tmp_path: Path) -> Iterator[tuple[NetbootPort, list[AnyEvent]]]:
    tables = NodeTables(node="n1", inventory=tmp_path, catalog=tmp_path, state_dir=tmp_path, run_dir=tmp_path)
    machines = Machines({N6: Machine(id="n6", number=6, address="10.98.0.6", uuid=UUID)})
    catalog = Catalog(name="none", services=())
    made = NetbootPort(Config(file=tmp_path, tables=tables, timing=Timing(), catalog=catalog, machines=machines))
    said: list[AnyEvent] = []
    made.begin(said.append)
    yield made, said
    made.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[[], Service]]:
    made: list[Service] = []

    def make() -> Service:
        made.append(Service(tmp_path))
        made[-1].accept()
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_an_order_carries_address_and_identity_from_the_inventory(
    port: tuple[NetbootPort, list[AnyEvent]], service: Callable[[], Service]
) -> None:
    end = service()
    port[0].submit(AllowBoot(node=N6, ms_max=60_000), port[1].append)
    order = end.hear()
    assert isinstance(order, Allow)
    assert (order.address, order.effect.guid) == ("10.98.0.6", UUID.replace("-", ""))


def test_what_the_core_knows_of_a_machine_is_not_overruled(
    port: tuple[NetbootPort, list[AnyEvent]], service: Callable[[], Service]
) -> None:
    end = service()
    port[0].submit(AllowBoot(node=N6, ms_max=60_000, guid=Guid("aa" * 16)), port[1].append)
    order = end.hear()
    assert isinstance(order, Allow)
    assert order.effect.guid == "aa" * 16


def test_orders_that_live_are_told_to_a_service_that_comes_back_with_the_same_key(
    port: tuple[NetbootPort, list[AnyEvent]], service: Callable[[], Service]
) -> None:
    port[0].submit(AllowBoot(node=NodeId("n7"), ms_max=1), port[1].append)
    port[0].submit(AllowBoot(node=N6, ms_max=1_000), port[1].append)
    port[0].submit(AllowBoot(node=N6, ms_max=600_000), port[1].append)
    over_ms = now_ms() + 1
    while now_ms() <= over_ms:  # until the first order has no time left
        time.sleep(0.001)
    first = service()
    order = first.hear()
    first.close()
    second = service()
    again = second.hear()
    assert isinstance(order, Allow)
    assert order.effect.ms_max == 600_000
    assert again == order


def test_events_are_handed_on_and_acknowledged(
    port: tuple[NetbootPort, list[AnyEvent]], service: Callable[[], Service]
) -> None:
    end = service()
    event = BootSeen(at_ms=5, node=N6, stage="script")
    end.say(encode(Told(number=17, event=event)))
    assert end.hear() == Heard(number=17)
    assert port[1] == [event]


def test_a_service_that_talks_nonsense_is_left_and_tried_again(
    port: tuple[NetbootPort, list[AnyEvent]], service: Callable[[], Service]
) -> None:
    end = service()
    end.say(b'{"said": "Surprise"}\n')
    end.close()
    service()
    assert port[1] == []


def test_a_service_that_hangs_never_holds_up_the_agent(
    port: tuple[NetbootPort, list[AnyEvent]], service: Callable[[], Service]
) -> None:
    service()
    begin = time.monotonic()
    for _ in range(5_000):
        port[0].submit(AllowBoot(node=N6, ms_max=600_000), port[1].append)
    assert time.monotonic() - begin < 5
