"""The agent's end of the socket to its supervisor: welcome, orders, answers, and what happens when it is gone."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import effects as fx
from core.events import AnyEvent, RightExpired
from core.ids import BootId, DomainId, Epoch, Guid, NodeId, OpId, RackId, ServiceName, VolumeName
from core.records import Instance, MachineRecord
from drivers.supervised import SOCKET, Supervised, SupervisorGone
from drivers.wire import (
    Alive,
    Attach,
    Attached,
    Detach,
    EndServer,
    FromAgent,
    FromSupervisor,
    Hello,
    Leaving,
    Machines,
    Name,
    Order,
    RunServer,
    ServerEnded,
    Told,
    Welcome,
    decode_from_agent,
    encode,
)

DB, VOLUME, EPOCH = ServiceName("db"), VolumeName("vol"), Epoch(3)
WELCOME = Welcome(boot_id=BootId("b1"), incarnation=4)
INSTANCE = Instance(node=NodeId("n1"), boot_id=BootId("b1"), epoch=EPOCH, address="10.0.0.1:0/7")
MACHINE = MachineRecord(
    guid=Guid("1" * 32), bmc="10.0.0.9:623", rack=RackId("r1"), power_domain=DomainId("p1"), node=NodeId("n6"), number=6
)
EXPIRED = RightExpired(at_ms=1, service=DB, epoch=EPOCH)


class Other:
    """The supervisor's end: takes one connection, answers the hello with ``first``."""

    def __init__(self, run_dir: Path, first: bytes = encode(WELCOME)) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(run_dir / SOCKET))
        self._server.listen()
        self._first = first
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    def _accept(self) -> None:
        self.link, _ = self._server.accept()
        self.lines = self.link.makefile("rb")
        assert isinstance(self.heard(), Hello)
        self.link.sendall(self._first)

    def heard(self) -> FromAgent:
        return decode_from_agent(self.lines.readline())

    def say(self, said: FromSupervisor) -> None:
        self.link.sendall(encode(said))

    def close(self) -> None:
        self.thread.join()
        self.lines.close()
        self.link.close()
        self._server.close()


class Pair:
    """Both ends, connected."""

    def __init__(self, run_dir: Path) -> None:
        self.events: list[AnyEvent] = []
        self.gone = threading.Event()
        self.told = threading.Event()
        self.other = Other(run_dir)
        self.agent = Supervised(run_dir)
        assert self.agent.connect() == WELCOME
        self.other.thread.join()
        self.agent.start(self.emit, self.gone.set)

    def emit(self, event: AnyEvent) -> None:
        self.events.append(event)
        self.told.set()

    def close(self) -> None:
        self.agent.close()
        self.other.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.close()


def test_effects_go_out_as_orders_and_events_come_in(pair: Pair) -> None:
    effect = fx.AnnounceAddress(service=DB, epoch=EPOCH)
    pair.agent.submit(effect, pair.emit)
    assert pair.other.heard() == Order(effect=effect)
    pair.other.say(Told(event=EXPIRED))
    assert pair.told.wait(5)
    assert pair.events == [EXPIRED]


def test_small_words_are_passed_on(pair: Pair) -> None:
    pair.agent.run_server(("java",), "/log")
    pair.agent.listen((NodeId("n2"),), pair.emit)
    pair.agent.name(Name(volume=VOLUME, epoch=EPOCH, instance=INSTANCE))
    pair.agent.alive()
    pair.agent.machines((MACHINE,))
    pair.agent.leaving()
    assert [pair.other.heard() for _ in range(6)] == [
        RunServer(argv=("java",), log="/log"),
        Order(effect=fx.ListenTo(nodes=(NodeId("n2"),))),
        Name(volume=VOLUME, epoch=EPOCH, instance=INSTANCE),
        Alive(),
        Machines(records=(MACHINE,)),
        Leaving(),
    ]


def test_the_end_of_the_server_is_told_once(pair: Pair) -> None:
    ended = threading.Event()
    pair.agent.end_server(OpId(5), ended.set)
    assert pair.other.heard() == EndServer(op=OpId(5))
    pair.other.say(ServerEnded(op=OpId(4)))
    pair.other.say(ServerEnded(op=OpId(5)))
    assert ended.wait(5)


def test_an_attachment_waits_for_its_own_answer(pair: Pair) -> None:
    order = Attach(op=OpId(7), service=DB, volume=VOLUME, epoch=EPOCH, ms_max=5_000)
    answers: list[Attached | None] = []
    thread = threading.Thread(target=lambda: answers.append(pair.agent.attach(order)))
    thread.start()
    assert pair.other.heard() == order
    pair.other.say(Attached(op=OpId(6), error="another's"))
    pair.other.say(Attached(op=OpId(7), error="held", refused=True))
    thread.join()
    assert answers == [Attached(op=OpId(7), error="held", refused=True)]


def test_no_answer_within_the_limit_is_none_and_a_late_one_nobodys(pair: Pair) -> None:
    order = Detach(op=OpId(7), volume=VOLUME, epoch=EPOCH, instance=INSTANCE, ms_max=50)
    assert pair.agent.detach(order) is None
    pair.other.say(Told(event=EXPIRED))
    assert pair.told.wait(5)


def test_a_connection_that_breaks_is_told(pair: Pair) -> None:
    pair.other.link.shutdown(socket.SHUT_RDWR)
    assert pair.gone.wait(5)
    pair.agent.alive()  # and nothing more happens


def test_nonsense_from_the_supervisor_is_as_good_as_none(pair: Pair) -> None:
    pair.other.link.sendall(b'{"said":"Whatever"}\n')
    assert pair.gone.wait(5)


def test_closing_ourselves_is_not_a_loss(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.close()
    assert not pair.gone.is_set()


def test_no_supervisor_is_said_in_a_sentence(tmp_path: Path) -> None:
    agent = Supervised(tmp_path)
    with pytest.raises(SupervisorGone, match="cannot be reached: no such file"):
        agent.connect()
    agent.close()


def test_a_supervisor_that_does_not_welcome_is_said_in_a_sentence(tmp_path: Path) -> None:
    other = Other(tmp_path, encode(Told(event=EXPIRED)))
    agent = Supervised(tmp_path)
    with pytest.raises(SupervisorGone, match="did not say welcome"):
        agent.connect()
    agent.close()
    other.close()
