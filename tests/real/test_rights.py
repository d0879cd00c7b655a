"""Rights and addresses on a real wire: reachable only while the right lasts, even when no process moves."""

import signal
from collections.abc import Callable, Iterator

import pytest

from drivers.clock import now_ms
from tests.real.netns import Process, Wire
from tests.real.require import require

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("address")]

VIP = "10.254.0.100"


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


def until(what: Callable[[], bool], ms_max: int = 5_000) -> int:
    """Look again and again until ``what`` holds; how long it took."""
    begun = now_ms()
    while not what():
        assert now_ms() - begun < ms_max
    return now_ms() - begun


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
    begun = now_ms()
    a.ask("allow", VIP, 1_000)
    while client.ask(VIP) == "a":
        pass
    # The last call may have waited for CALL_SECONDS; it began after the right had ended.
    assert 900 <= now_ms() - begun <= 1_600


def test_pushing_a_right_forward_leaves_no_gap(client: Process, a: Process) -> None:
    a.ask("announce", VIP)
    a.ask("allow", VIP, 500)
    begun, answers = now_ms(), []
    while now_ms() - begun < 2_000:
        a.ask("allow", VIP, 500)
        answers.append(client.ask(VIP))
    assert set(answers) == {"a"}
    assert len(answers) > 50


def test_a_stopped_process_keeps_its_address_no_longer_than_its_right(client: Process, a: Process) -> None:
    a.ask("announce", VIP)
    a.ask("allow", VIP, 1_000)
    begun = now_ms()
    a.send(signal.SIGSTOP)
    assert client.ask(VIP) == "a"
    until(lambda: client.ask(VIP) == "")
    assert now_ms() - begun <= 1_600
    a.send(signal.SIGCONT)
    assert client.ask(VIP) == ""


def test_a_gratuitous_announcement_moves_the_address_away_from_a_stopped_holder(
    client: Process, a: Process, b: Process
) -> None:
    a.ask("announce", VIP)
    a.ask("allow", VIP, 700)
    assert client.ask(VIP) == "a"
    a.send(signal.SIGSTOP)
    until(lambda: client.ask(VIP) == "")
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
    a.ask("allow", VIP, 600)
    assert client.ask(VIP) == "a"
    until(lambda: client.ask(VIP) == "")


def test_nothing_is_left_behind(wire: Wire) -> None:
    a = wire.run("a", "rights", VIP)
    a.ask("announce", VIP)
    a.ask("close")
    assert wire.tables("a", "list", "ruleset") == ""
