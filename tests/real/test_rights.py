"""Rights and addresses on a real wire: reachable only while the right lasts, even when no process moves."""

import signal
from collections.abc import Iterator

import pytest

from drivers.clock import now_ms
from tests.real.netns import Process, Wire
from tests.real.require import require

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("address")]

VIP = "10.254.0.100"
LATE_MS = 50
"""How much longer than asked for a right may last (``drivers.rights.LATE_MS``), and the kernel's own tick."""


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    require("ip", "nft")
    wire = Wire("a", "b", "client")
    wire.run("a", "serve", "a")
    wire.run("b", "serve", "b")
    yield wire
    wire.close()


@pytest.fixture(scope="module")
def client(wire: Wire) -> Process:
    return wire.run("client", "call")


@pytest.fixture
def a(wire: Wire) -> Iterator[Process]:
    holder = wire.run("a", "rights", VIP)
    yield holder
    holder.send(signal.SIGCONT)
    holder.ask("close")


@pytest.fixture
def b(wire: Wire) -> Iterator[Process]:
    holder = wire.run("b", "rights", VIP)
    yield holder
    holder.ask("close")


def last_served(client: Process, name: str) -> int:
    """Call again and again until nobody answers; when the last call began that ``name`` answered."""
    found, limit_ms = -1, now_ms() + 30_000
    while True:
        begun = now_ms()
        assert begun < limit_ms
        answer = client.ask(VIP)
        if answer != name:
            assert answer == ""
            return found
        found = begun


def test_an_address_is_reachable_only_with_a_right(client: Process, a: Process) -> None:
    a.ask("announce", VIP)
    assert client.ask(VIP) == ""
    a.ask("allow", VIP, 60_000)
    assert client.ask(VIP) == "a"
    a.ask("revoke", VIP)
    assert client.ask(VIP) == ""


def test_a_right_without_the_address_reaches_nobody(client: Process, a: Process) -> None:
    a.ask("allow", VIP, 60_000)
    assert client.ask(VIP) == ""
    a.ask("announce", VIP)
    assert client.ask(VIP) == "a"
    a.ask("withdraw", VIP)
    assert client.ask(VIP) == ""


def test_a_right_ends_by_itself_and_not_before(client: Process, a: Process) -> None:
    a.ask("announce", VIP)
    asked = now_ms()
    a.ask("allow", VIP, 1_000)
    armed = now_ms()
    assert asked + 500 <= last_served(client, "a") <= armed + 1_000 + LATE_MS
    assert now_ms() >= asked + 1_000


def test_pushing_a_right_forward_leaves_no_gap(client: Process, a: Process) -> None:
    a.ask("announce", VIP)
    answers = []
    for number in range(200):
        a.ask("allow", VIP, 60_000 + number)
        answers.append(client.ask(VIP))
    assert answers == ["a"] * 200


def test_a_stopped_process_keeps_its_address_no_longer_than_its_right(client: Process, a: Process) -> None:
    a.ask("announce", VIP)
    a.ask("allow", VIP, 1_500)
    armed = now_ms()
    a.send(signal.SIGSTOP)
    assert armed <= last_served(client, "a") <= armed + 1_500 + LATE_MS
    a.send(signal.SIGCONT)
    assert client.ask(VIP) == ""


def test_a_gratuitous_announcement_moves_the_address_away_from_a_stopped_holder(
    client: Process, a: Process, b: Process
) -> None:
    a.ask("announce", VIP)
    a.ask("allow", VIP, 1_500)
    assert client.ask(VIP) == "a"
    a.send(signal.SIGSTOP)
    last_served(client, "a")
    b.ask("allow", VIP, 60_000)
    b.ask("announce", VIP)  # the client's neighbour table still says a
    assert client.ask(VIP) == "b"
    # The old holder still has the address on its interface and must not answer for it.
    assert [client.ask(VIP) for _ in range(20)] == ["b"] * 20


def test_the_next_supervisor_clears_up_after_a_killed_one(wire: Wire, client: Process) -> None:
    killed = wire.run("a", "rights", VIP)
    killed.ask("announce", VIP)
    killed.ask("allow", VIP, 60_000)
    killed.send(signal.SIGKILL)
    assert client.ask(VIP) == "a"  # services die with their supervisor; here one lives on to show what guards it
    fresh = wire.run("a", "rights", VIP)
    assert client.ask(VIP) == ""
    fresh.ask("announce", VIP)
    assert client.ask(VIP) == ""
    fresh.ask("close")


def test_a_flushed_ruleset_is_put_back_with_the_next_push(wire: Wire, client: Process, a: Process) -> None:
    a.ask("announce", VIP)
    a.ask("allow", VIP, 300)
    wire.tables("a", "flush", "ruleset")
    a.ask("allow", VIP, 1_500)
    armed = now_ms()
    assert armed <= last_served(client, "a") <= armed + 1_500 + LATE_MS


def test_nothing_is_left_behind(wire: Wire) -> None:
    a = wire.run("a", "rights", VIP)
    a.ask("announce", VIP)
    a.ask("close")
    assert wire.tables("a", "list", "ruleset") == ""
