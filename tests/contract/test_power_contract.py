"""What every power port must do, simulated or real. A new implementation adds one line to ``WORLDS``."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from core import effects as fx
from core.events import AnyEvent, ConsoleSeen, OpFailed, OpSucceeded, PowerSeen, Scanned, Seen
from core.identity import same_machine
from core.ids import OpId
from tests.contract.power_worlds import NETWORK, WARD, IpmiPower, PowerWorld, RedfishPower, SimulatedPower

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
