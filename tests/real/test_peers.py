"""Heartbeats on a real wire: cables pulled, one direction cut, processes stopped and killed."""

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.clock import now_ms
from tests.real.netns import Process, Wire
from tests.real.require import require

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("peers")]

SUSPECT_MS = 1_200
LATE_MS = 2_000
"""What a busy machine may add to a deadline."""


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    require("ip", "nft")
    wire = Wire("a", "b", "c")
    yield wire
    wire.close()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    (tmp_path / "heartbeat.key").write_bytes(b"a secret of this rack\n")
    return tmp_path


class Node:
    """One node's heartbeats."""

    def __init__(self, wire: Wire, name: str, key: Path) -> None:
        self.process: Process = wire.run(name, "peers", name, str(key), str(SUSPECT_MS))

    def listen(self, *nodes: str) -> None:
        self.process.ask("listen", *nodes)

    def told(self) -> list[list[Any]]:
        found = self.process.ask("told")
        assert isinstance(found, list)
        return found

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.told()]

    def await_told(self, *kinds: str) -> int:
        """Wait until exactly this was told; when the last of it was."""
        until(lambda: self.kinds() == list(kinds))
        return int(self.told()[-1][2])


@pytest.fixture
def a(wire: Wire, key: Path) -> Iterator[Node]:
    yield from _node(wire, "a", key)


@pytest.fixture
def b(wire: Wire, key: Path) -> Iterator[Node]:
    yield from _node(wire, "b", key)


def _node(wire: Wire, name: str, key: Path) -> Iterator[Node]:
    node = Node(wire, name, key)
    yield node
    node.process.send(signal.SIGCONT)
    node.process.end()


def until(what: Callable[[], bool], ms_max: int = 60_000) -> None:
    begun, pause = now_ms(), threading.Event()
    while not what():
        assert now_ms() - begun < ms_max
        pause.wait(0.02)


def test_a_pulled_cable_is_noticed_in_time_and_so_is_its_return(wire: Wire, a: Node, b: Node) -> None:
    a.listen("b")
    a.await_told("PeerHeard")
    cut_ms = now_ms()
    wire.cut("b")
    silent_ms = a.await_told("PeerHeard", "PeerSilent")
    assert SUSPECT_MS * 3 // 4 - 30 <= silent_ms - cut_ms <= SUSPECT_MS + LATE_MS
    wire.cut("b", cut=False)
    a.await_told("PeerHeard", "PeerSilent", "PeerHeard")


def test_a_stopped_node_falls_silent_and_a_killed_one_stays_so(wire: Wire, a: Node, b: Node, key: Path) -> None:
    a.listen("b")
    a.await_told("PeerHeard")
    b.process.send(signal.SIGSTOP)
    a.await_told("PeerHeard", "PeerSilent")
    b.process.send(signal.SIGCONT)
    a.await_told("PeerHeard", "PeerSilent", "PeerHeard")
    killed_ms = now_ms()
    b.process.send(signal.SIGKILL)
    silent_ms = a.await_told("PeerHeard", "PeerSilent", "PeerHeard", "PeerSilent")
    assert silent_ms - killed_ms <= SUSPECT_MS + LATE_MS


def test_only_the_direction_that_is_cut_falls_silent(wire: Wire, a: Node, b: Node) -> None:
    a.listen("b")
    b.listen("a")
    a.await_told("PeerHeard")
    b.await_told("PeerHeard")
    wire.tables("a", "add table inet cut; add chain inet cut out { type filter hook output priority 0; policy drop; }")
    b.await_told("PeerHeard", "PeerSilent")
    until_ms = now_ms() + 3 * SUSPECT_MS
    until(lambda: now_ms() > until_ms)
    assert a.kinds() == ["PeerHeard"]  # though a cannot ask any more, b goes on telling
    wire.tables("a", "delete table inet cut")
    b.await_told("PeerHeard", "PeerSilent", "PeerHeard")


def test_who_was_stopped_itself_suspects_nobody_on_waking(a: Node, b: Node) -> None:
    a.listen("b")
    a.await_told("PeerHeard")
    a.process.send(signal.SIGSTOP)
    until_ms = now_ms() + 3 * SUSPECT_MS
    until(lambda: now_ms() > until_ms)
    a.process.send(signal.SIGCONT)
    until_ms = now_ms() + 2 * SUSPECT_MS
    until(lambda: now_ms() > until_ms)
    assert a.kinds() == ["PeerHeard"]


def test_a_node_of_another_rack_is_not_heard(wire: Wire, a: Node, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "heartbeat.key").write_bytes(b"the secret of another rack\n")
    foreign = Node(wire, "b", other)
    a.listen("b")
    a.await_told("PeerSilent")
    foreign.process.end()


def test_heartbeats_cost_next_to_nothing(wire: Wire, a: Node, b: Node) -> None:
    a.listen("b")
    b.listen("a")
    a.await_told("PeerHeard")
    begun, before = now_ms(), a.process.cpu_ms()
    until(lambda: now_ms() - begun > 4_000)
    assert (a.process.cpu_ms() - before) / (now_ms() - begun) < 0.02
