"""The socket between agent and supervisor: one agent, the last one; bounded; nobody else."""

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.events import RightExpired
from core.ids import Epoch, ServiceName
from drivers.door import BACKLOG_MAX, SLOW_BYTES, Door
from drivers.loop import Loop
from drivers.wire import Alive, FromAgent, Hello, Told, decode_from_supervisor, encode

TOLD = Told(event=RightExpired(at_ms=1, service=ServiceName("db"), epoch=Epoch(1)))


class Entrance:
    """A door, what was heard at it, and how often the agent left."""

    def __init__(self, path: Path) -> None:
        self.loop = Loop()
        self.heard: list[FromAgent] = []
        self.gone = 0
        self.path = path
        self.door = Door(self.loop, path, self.heard.append, self.on_gone)
        self.links: list[socket.socket] = []

    def on_gone(self) -> None:
        self.gone += 1

    def knock(self, *records: FromAgent) -> socket.socket:
        link = socket.socket(socket.AF_UNIX)
        link.connect(str(self.path))
        link.settimeout(5)
        self.links.append(link)
        for record in records:
            link.sendall(encode(record))
        self.turn()
        return link

    def turn(self) -> None:
        for _ in range(5):
            self.loop.turn(20)


@pytest.fixture
def entrance(tmp_path: Path) -> Iterator[Entrance]:
    made = Entrance(tmp_path / "sock")
    yield made
    for link in made.links:
        link.close()
    made.door.close()
    made.loop.close()


def test_only_the_owner_may_use_the_socket(entrance: Entrance) -> None:
    assert stat.S_IMODE(entrance.path.stat().st_mode) == 0o600


def test_records_come_in_order_also_in_pieces(entrance: Entrance) -> None:
    link = entrance.knock(Hello(pid=7, version="1"))
    line = encode(Alive())
    for byte in (line[:3], line[3:] + line[:5], line[5:]):
        link.sendall(byte)
        entrance.turn()
    assert entrance.heard == [Hello(pid=7, version="1"), Alive(), Alive()]


def test_a_second_agent_replaces_the_first_and_answers_for_the_first_reach_nobody(entrance: Entrance) -> None:
    first = entrance.knock(Hello(pid=1, version="1"))
    say = entrance.door.voice()
    second = entrance.knock(Hello(pid=2, version="1"))
    assert first.recv(10) == b""
    assert entrance.gone == 0, "an agent is there all the time"
    say(TOLD)
    entrance.door.say(Told(event=RightExpired(at_ms=2, service=ServiceName("x"), epoch=Epoch(1))))
    said = decode_from_supervisor(second.recv(4_096).splitlines()[0])
    assert isinstance(said, Told)
    assert said.event.at_ms == 2


def test_who_does_not_say_hello_or_talks_nonsense_is_shown_out(entrance: Entrance) -> None:
    assert entrance.knock(Alive()).recv(10) == b""
    nonsense = entrance.knock(Hello(pid=1, version="1"))
    nonsense.sendall(b"nonsense\n")
    entrance.turn()
    assert nonsense.recv(10) == b""
    assert entrance.gone == 1


def test_an_agent_that_does_not_read_is_slow_and_finally_cut_off(entrance: Entrance) -> None:
    entrance.knock(Hello(pid=1, version="1"))
    told = 0
    while not entrance.door.slow:
        entrance.door.say(TOLD)
        told += 1
    assert told * len(encode(TOLD)) > SLOW_BYTES
    while entrance.door.occupied:
        entrance.door.say(TOLD)
        told += 1
        assert told * len(encode(TOLD)) < 2 * BACKLOG_MAX
    assert entrance.gone == 1


def test_what_could_not_be_sent_at_once_is_sent_when_it_can_be(entrance: Entrance) -> None:
    link = entrance.knock(Hello(pid=1, version="1"))
    while not entrance.door.slow:
        entrance.door.say(TOLD)
    heard = b""
    while entrance.door.slow:
        heard += link.recv(1 << 20)
        entrance.turn()
    assert set(heard.splitlines(keepends=True)[:-1]) == {encode(TOLD)}
