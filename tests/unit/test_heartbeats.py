"""Heartbeats between two nodes on this machine: heard, silent, heard again; forged ones count for nothing."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.events import AnyEvent, PeerHeard, PeerSilent
from core.ids import NodeId
from core.specs import Timing
from drivers.clock import now_ms
from drivers.config import Config, Machine, NodeTables
from drivers.inventory import Machines
from drivers.peers import BEAT, SUBSCRIBE, Datagram, Peers, read
from formats.catalog import Catalog

N1, N2 = NodeId("n1"), NodeId("n2")
SUSPECT_MS = 600
KEY = b"a secret of the rack"


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.2", 0))
        return int(udp.getsockname()[1])


def config(node: NodeId, folder: Path, port: int, key: bytes = KEY) -> Config:
    path = folder / f"key-{node}"
    path.write_bytes(key + b"\n")
    tables = NodeTables(
        node=node,
        inventory=folder,
        catalog=folder,
        state_dir=folder,
        run_dir=folder,
        heartbeat_key=path if key else None,
        heartbeat_port=port,
    )
    machines = {
        N1: Machine(id="n1", number=1, address="127.0.0.2"),
        N2: Machine(id="n2", number=2, address="127.0.0.3"),
    }
    timing = Timing(suspect_ms=SUSPECT_MS)
    return Config(
        file=folder,
        tables=tables,
        timing=timing,
        catalog=Catalog(name="none", services=()),
        machines=Machines(machines),
    )


class Ears:
    """What a listener was told."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self._told = threading.Condition()

    def emit(self, event: AnyEvent) -> None:
        with self._told:
            self.events.append(event)
            self._told.notify_all()

    def kinds(self) -> list[type]:
        return [type(event) for event in self.events]

    def until(self, count: int, ms_max: int = 20_000) -> list[type]:
        """Wait until so many events were told, at most ``ms_max``."""
        with self._told:
            self._told.wait_for(lambda: len(self.events) >= count, ms_max / 1_000)
        return self.kinds()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def peers(tmp_path: Path, port: int) -> Iterator[Callable[..., Peers]]:
    made: list[Peers] = []

    def make(node: NodeId, key: bytes = KEY) -> Peers:
        one = Peers(config(node, tmp_path, port, key))
        one.start()
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


pytestmark = pytest.mark.xdist_group("heartbeats")


def test_a_peer_is_heard_then_silent_then_heard_again(peers: Callable[..., Peers], tmp_path: Path, port: int) -> None:
    ears = Ears()
    speaker = Peers(config(N2, tmp_path, port))
    speaker.start()
    peers(N1).listen((N2,), ears.emit)
    assert ears.until(1) == [PeerHeard]
    gone_ms = now_ms()
    speaker.close()
    assert ears.until(2) == [PeerHeard, PeerSilent]
    assert ears.events[1].at_ms - gone_ms >= SUSPECT_MS * 3 // 4 - 20
    peers(N2)
    assert ears.until(3) == [PeerHeard, PeerSilent, PeerHeard]


def test_a_peer_that_was_never_heard_is_silent_after_the_whole_time(peers: Callable[..., Peers]) -> None:
    ears = Ears()
    begun = now_ms()
    peers(N1).listen((N2,), ears.emit)
    assert ears.until(1) == [PeerSilent]
    assert ears.events[0].at_ms - begun >= SUSPECT_MS


def test_a_healthy_peer_is_told_once_and_nobody_listens_to_itself(peers: Callable[..., Peers]) -> None:
    ears = Ears()
    peers(N2)
    listener = peers(N1)
    listener.listen((N2, N1, NodeId("nobody")), ears.emit)
    ears.until(1)
    listener.listen((N2,), ears.emit)
    assert ears.until(2, 2 * SUSPECT_MS) == [PeerHeard]


def test_who_listens_anew_is_told_anew(peers: Callable[..., Peers]) -> None:
    first, second = Ears(), Ears()
    peers(N2)
    listener = peers(N1)
    listener.listen((N2,), first.emit)
    first.until(1)
    listener.listen((), first.emit)
    listener.listen((N2,), second.emit)
    assert second.until(1) == [PeerHeard]
    assert first.kinds() == [PeerHeard]


def test_another_key_is_not_heard(peers: Callable[..., Peers]) -> None:
    ears = Ears()
    peers(N2, b"another secret")
    peers(N1).listen((N2,), ears.emit)
    assert ears.until(1) == [PeerSilent]


def test_without_a_key_nothing_is_spoken_or_told(peers: Callable[..., Peers]) -> None:
    ears = Ears()
    peers(N2)
    peers(N1, b"").listen((N2,), ears.emit)
    assert ears.until(1, 2 * SUSPECT_MS) == []


def test_a_port_in_use_is_an_error_and_leaves_nothing_open(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        one = Peers(config(N1, tmp_path, other.getsockname()[1]))
        with pytest.raises(OSError, match="in use"):
            one.start()
        one.close()


def test_a_datagram_is_read_only_as_it_was_signed() -> None:
    beat = Datagram(BEAT, 2, 1, b"bootboot", b"noncenon", 7)
    packet = beat.sign(KEY)
    assert read(packet, KEY) == beat
    assert read(packet, b"other") is None
    assert read(packet[:-1], KEY) is None
    assert read(b"", KEY) is None
    for at in range(len(packet)):
        changed = bytearray(packet)
        changed[at] ^= 1
        assert read(bytes(changed), KEY) is None


class Stranger:
    """Somebody who heard everything that was said to ``n2`` and can send what he likes from there."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.3", port))
        self.udp.settimeout(20)

    def asked(self) -> Datagram:
        """The next request for beats."""
        found = read(self.udp.recv(200), KEY)
        assert found is not None
        assert found.kind == SUBSCRIBE
        return found

    def say(self, boot: bytes, nonce: bytes, count: int, receiver: int = 1) -> None:
        self.udp.sendto(Datagram(BEAT, 2, receiver, boot, nonce, count).sign(KEY), ("127.0.0.2", self.port))


def test_replayed_beats_keep_nobody_alive(peers: Callable[..., Peers], port: int) -> None:
    ears = Ears()
    stranger = Stranger(port)
    with stranger.udp:
        peers(N1).listen((N2,), ears.emit)
        nonce = stranger.asked().nonce
        stranger.say(b"boot-one", nonce, 5)
        assert ears.until(1) == [PeerHeard]
        begun = now_ms()
        while len(ears.events) < 2:
            stranger.say(b"boot-one", nonce, 5)  # seen
            stranger.say(b"boot-one", nonce, 4)  # older
            stranger.say(b"boot-one", b"an-other", 9)  # said to another process of the listener
            stranger.say(b"boot-one", nonce, 9, receiver=2)  # said to another node
            ears.until(2, 20)
            assert now_ms() - begun < 20_000
        assert ears.kinds() == [PeerHeard, PeerSilent]


def test_after_another_process_spoke_the_old_ones_beats_count_no_more(peers: Callable[..., Peers], port: int) -> None:
    ears = Ears()
    stranger = Stranger(port)
    with stranger.udp:
        peers(N1).listen((N2,), ears.emit)
        nonce = stranger.asked().nonce
        stranger.say(b"boot-one", nonce, 5)
        stranger.say(b"boot-two", nonce, 1)
        asked = stranger.asked()
        while asked.nonce == nonce:
            asked = stranger.asked()
        begun = now_ms()
        while PeerSilent not in ears.kinds():
            stranger.say(b"boot-one", nonce, 99)
            ears.until(2, 20)
            assert now_ms() - begun < 20_000
        stranger.say(b"boot-two", asked.nonce, 2)
        assert ears.until(3)[-1] is PeerHeard
