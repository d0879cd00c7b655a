"""Rare but legal behaviours of BMCs, boots, networks, clocks and services; and what holds for all of them."""

import msgspec
import pytest

from core import effects as fx
from core.events import (
    AnyEvent,
    OpFailed,
    OpSucceeded,
    PowerSeen,
)
from core.ids import OpId
from formats.catalog import load_catalog
from formats.rack import load_rack
from tests.unit.bare import DB, KINDS, N1, N2, N3, ROOT, Bare
from trial.fault import Planned
from trial.measures import failovers
from trial.targets import parse
from twin import checkers
from twin.faults import FAULTS
from twin.faults.base import Fault
from twin.inject import Injector
from twin.swarm.attempt import attempt
from twin.swarm.tape import Tape
from twin.world.evidence import DEAD_MS
from twin.world.quirks import Quirks
from twin.world.world import World

# -- BMCs, power and boots ---------------------------------------------------------------------------------------------


class BarePower(Bare):
    """All chassis off; n1 asks the BMC of n2."""

    def __init__(self, kind: str, **keys: object) -> None:
        super().__init__(kind, node=N2, **keys)
        self.port = self.world.power.port(N1, lambda: self.kernel.now)
        self.chassis = self.world.power.chassis[N2]
        self.generation = 0

    def order(self, action: str, within_ms: int = 8_000) -> OpId:
        self.generation += 1
        table = {"effect": "PowerOrder", "op": self.op(), "node": N2, "action": action}
        order = msgspec.convert(
            {**table, "generation": self.generation, "deadline_ms": self.kernel.now + within_ms}, fx.PowerOrder
        )
        self.port.submit(order, self.emit)
        return order.op

    def read(self) -> OpSucceeded | OpFailed:
        op = self.op()
        self.port.submit(fx.ReadPower(op=op, node=N2, ms_max=2_000), self.emit)
        self.run(2_000)
        return self.answer(op)[1]

    def seen(self) -> bool:
        answer = self.read()
        assert isinstance(answer, OpSucceeded)
        assert isinstance(answer.result, PowerSeen)
        return answer.result.on

    def states(self, ms: int) -> list[str]:
        found = [self.chassis.state]
        for _ in range(ms // 50):
            self.run(50)
            if self.chassis.state != found[-1]:
                found.append(self.chassis.state)
        return found


@pytest.mark.parametrize("says", ["failed", "unanswered"])
def test_an_order_whose_answer_is_lost_is_obeyed(says: str) -> None:
    bare = BarePower("bmc_answer_lost", says=says)
    bare.apply()
    op = bare.order("on")
    bare.run(9_000)
    failed = bare.answer(op)[1]
    assert isinstance(failed, OpFailed)
    assert failed.reason == says
    assert bare.chassis.on


def test_a_cycle_of_a_chassis_that_is_off_is_refused_once() -> None:
    bare = BarePower("bmc_cycle_refused")
    bare.apply()
    op = bare.order("cycle")
    bare.run(9_000)
    assert isinstance(bare.answer(op)[1], OpFailed)
    assert not bare.chassis.on
    again = bare.order("cycle")
    bare.run(9_000)
    assert isinstance(bare.answer(again)[1], OpSucceeded)
    assert bare.chassis.on


def test_a_bmc_hangs_after_so_many_requests_until_it_is_healed() -> None:
    bare = BarePower("bmc_hangs_after", count=2)
    bare.apply()
    assert [type(bare.read()) for _ in range(4)] == [OpSucceeded, OpSucceeded, OpFailed, OpFailed]
    bare.strike.heal()
    assert isinstance(bare.read(), OpSucceeded)


def test_a_late_order_is_carried_out_late_and_read_back() -> None:
    bare = BarePower("bmc_order_late", delay_ms=2_000)
    bare.apply()
    op = bare.order("on")
    bare.run(1_500)
    assert not bare.chassis.on
    bare.run(3_000)
    assert bare.chassis.on
    assert isinstance(bare.answer(op)[1], OpSucceeded)


def test_a_repeated_order_is_carried_out_twice() -> None:
    bare = BarePower("bmc_order_repeated", delay_ms=4_000)
    bare.chassis.start_up()
    bare.apply()
    bare.order("cycle")
    assert bare.states(8_000)[:5] == ["up", "off", "firmware", "off", "firmware"]


def test_a_bmc_reports_the_old_state_for_a_while_after_an_order() -> None:
    bare = BarePower("bmc_report_late", delay_ms=5_000)
    bare.apply()
    bare.order("on")
    bare.run(1_000)
    assert bare.chassis.on
    assert not bare.seen()
    bare.run(3_000)
    assert bare.seen()


def test_a_bmc_without_room_for_a_session_says_so_once() -> None:
    bare = BarePower("bmc_session_refused")
    bare.apply()
    failed = bare.read()
    assert isinstance(failed, OpFailed)
    assert (failed.reason, failed.retryable) == ("failed", True)
    assert isinstance(bare.read(), OpSucceeded)


def test_an_ignored_power_on_needs_another_one() -> None:
    bare = BarePower("power_on_ignored")
    bare.apply()
    op = bare.order("on")
    bare.run(9_000)
    assert isinstance(bare.answer(op)[1], OpFailed)
    assert not bare.chassis.on
    bare.order("on")
    bare.run(1_000)
    assert bare.chassis.on


def booted_ms(kind: str, **keys: object) -> tuple[int, list[str]]:
    """How long n2 takes from its disk to a running system, and its states."""
    bare = BarePower(kind, **keys)
    bare.world.storage.start_up(())
    bare.apply()
    bare.chassis.power_on()
    states: list[str] = []
    bare.world.power.on_state(lambda _node, state, _boot: states.append(state))
    bare.run(600_000)
    ups = [change.at_ms for change in bare.world.truth.nodes if change.axis == "power" and change.state == "up"]
    return ups[-1], states


def test_a_slow_boot_takes_longer_and_a_double_one_goes_through_the_firmware_again() -> None:
    usual_ms, _ = booted_ms("bmc_session_refused")
    slow_ms, _ = booted_ms("boot_slow", delay_ms=90_000)
    assert slow_ms == usual_ms + 90_000
    twice_ms, states = booted_ms("boot_twice")
    assert twice_ms > usual_ms + 10_000
    assert [state for state in states if state in ("firmware", "up")] == ["firmware", "up"]


def test_a_lost_offer_is_asked_for_again() -> None:
    bare = BarePower("dhcp_offer_lost", count=2)
    netboot, done = bare.world.netboot, []
    netboot.server_up(N1)
    netboot.allow(N1, N2, 600_000)
    bare.apply()
    netboot.boot(N2, lambda ok, _: done.append((bare.kernel.now, ok)))
    bare.run(300_000)
    assert netboot.timeouts == 2
    assert [ok for _, ok in done] == [True]
    assert done[0][0] > 4_000 + 8_000


# -- network and clocks ------------------------------------------------------------------------------------------------


def test_lost_heartbeats_silence_one_pair_in_one_direction_only() -> None:
    bare = Bare("heartbeats_lost", of="n2")
    for node in bare.world.nodes:
        bare.world.state[node] = "up"
    others: list[AnyEvent] = []
    bare.world.peers.listen(N1, (N2, N3), bare.emit)
    bare.world.peers.listen(N2, (N1,), others.append)
    bare.run(3_000)
    heard = len(bare.events)
    bare.apply()
    bare.run(5_000)
    assert [(type(e).__name__, e.node) for _, e in bare.events[heard:]] == [("PeerSilent", N2)]  # type: ignore[union-attr]
    bare.strike.heal()
    bare.run(5_000)
    assert type(bare.events[-1][1]).__name__ == "PeerHeard"
    assert len(others) == 1


def test_a_lopsided_link_is_slow_in_one_direction() -> None:
    bare = Bare("link_lopsided", direction="out", delay_ms=200)
    bare.apply()
    fabric = bare.world.fabric
    assert (fabric.latency_ms(N1, N2), fabric.latency_ms(N2, N1), fabric.round_trip_ms(N1, N2)) == (200, 0, 200)
    bare.strike.heal()
    assert fabric.round_trip_ms(N1, N2) == 0


def test_a_slewed_clock_runs_fast_and_slow_within_what_ntp_does() -> None:
    bare = Bare("clock_slew", ppm=500, swing_ms=10_000)
    bare.apply()
    clock, drifts = bare.world.clocks[N1], []
    for _ in range(4):
        bare.run(5_000)
        drifts.append(clock.drift_ppm)
        bare.run(5_000)
    assert drifts == [500, -500, 500, -500]
    assert abs(clock.now() - bare.kernel.now) <= 10
    bare.strike.heal()
    bare.run(20_000)
    assert clock.drift_ppm == 0


# -- services, on a rack that runs -------------------------------------------------------------------------------------


def planned(kind: str, target: str, at_ms: int, **keys: object) -> Planned:
    fault: Fault = msgspec.convert({"target": target, "at_ms": at_ms, **keys}, FAULTS[kind])
    return Planned(kind=kind, fault=fault, terms=parse(target) if target else ())


def rack_with(*plan: Planned, until_ms: int = 60_000) -> World:
    rack, catalog = load_rack(ROOT / "racks/five.toml"), load_catalog(ROOT / "catalog/minimal.toml")
    world = World(rack, catalog, seed=1, fidelity="campaign")
    injector = Injector(world, plan)
    injector.arm()
    world.start()
    world.run_until(until_ms)
    injector.heal_all()
    return world


def actions(world: World, since_ms: int) -> list[tuple[int, str]]:
    return [(c.at_ms, c.action) for c in world.truth.services if c.service == DB and c.at_ms >= since_ms]


def first(world: World, action: str, since_ms: int = 20_000) -> int:
    return next(at_ms for at_ms, what in actions(world, since_ms) if what == action)


DRAIN = planned("operator_drain", "holder-of:mariadb", 20_000)
CRASH = planned("service_crash", "holder-of:mariadb", 20_000, service="mariadb")


def test_an_agent_stands_still_just_after_its_commit() -> None:
    world = rack_with(planned("commit_pause", "holder-of:mariadb", 15_000, pause_ms=1_500), DRAIN)
    changes = [c for c in world.truth.nodes if c.axis == "agent" and c.at_ms >= 15_000]
    assert [c.state for c in changes] == ["paused", "up"]
    assert changes[1].at_ms - changes[0].at_ms == 1_500
    assert checks_fail(world) == []


@pytest.mark.parametrize("kind", ["unmount_fails", "stop_hangs"])
def test_a_stop_that_goes_wrong_is_not_clean(kind: str) -> None:
    usual, odd = rack_with(DRAIN), rack_with(planned(kind, "all", 15_000), DRAIN)
    assert "stopped" in [what for _, what in actions(usual, 20_000)]
    assert "killed" in [what for _, what in actions(odd, 20_000)]
    assert checks_fail(odd) == []
    if kind == "stop_hangs":
        assert first(odd, "killed") - first(usual, "stopped") >= 1_000


@pytest.mark.parametrize(("kind", "later_ms"), [("start_slow", 4_000), ("mount_replay_long", 6_000)])
def test_a_start_takes_longer(kind: str, later_ms: int) -> None:
    usual, odd = (rack_with(*plan) for plan in ((DRAIN,), (planned(kind, "all", 15_000), DRAIN)))
    took = [first(world, "started") - first(world, "starting") for world in (usual, odd)]
    assert took[1] - took[0] >= later_ms - 1_000
    assert checks_fail(odd) == []


def test_a_service_exits_right_after_it_became_healthy() -> None:
    world = rack_with(planned("exit_after_healthy", "all", 15_000, delay_ms=50), DRAIN)
    assert first(world, "exited") - first(world, "started") == 50
    assert checks_fail(world) == []


def test_an_exit_is_told_late() -> None:
    usual, odd = rack_with(CRASH), rack_with(planned("exit_told_late", "all", 15_000, delay_ms=3_000), CRASH)
    assert first(odd, "starting") - first(usual, "starting") >= 2_000
    assert checks_fail(odd) == []


def checks_fail(world: World) -> list[str]:
    return [check.name for check in checkers.check_all(world) if not check.ok]


# -- all of them -------------------------------------------------------------------------------------------------------


def test_nothing_is_armed_on_a_rack_without_them_and_healing_forgets_the_rest() -> None:
    quirks = Quirks()
    assert not quirks.armed
    one, two = quirks.arm("commit_lost", 2), quirks.arm("commit_lost", 1)
    assert quirks.take("commit_answer_lost") is None
    assert [quirks.take("commit_lost") for _ in range(4)] == [one, one, two, None]
    assert not quirks.armed
    three = quirks.arm("commit_lost")
    quirks.disarm(three)
    quirks.disarm(three)
    assert not quirks.armed


def test_every_kind_names_its_source() -> None:
    assert [kind for kind in KINDS if "Source: " not in (FAULTS[kind].__doc__ or "")] == []


def test_a_beat_that_a_late_answer_may_meet_is_not_taken_for_granted() -> None:
    late = planned("answer_late", "holder-of:scheduler", 20_000, count=1_000, delay_ms=900)
    world = rack_with(until_ms=19_000)
    holder = world.holder_of("scheduler")
    assert world.supervisors[holder].evidence.implicit("scheduler")
    world = rack_with(late, until_ms=20_000 + DEAD_MS // 2)
    assert not world.supervisors[world.holder_of("scheduler")].evidence.implicit("scheduler")


INCIDENTS: dict[str, dict[str, object]] = {
    "lose": {"kind": "power_loss", "target": "holder-of:mariadb", "at_ms": 40_000, "for_ms": 30_000},
    "panic": {"kind": "node_crash", "target": "holder-of:scheduler", "at_ms": 150_000},
    "drain": {"kind": "operator_drain", "target": "holder-of:mariadb", "at_ms": 260_000, "for_ms": 40_000},
    "crash": {"kind": "service_crash", "target": "holder-of:mariadb", "at_ms": 340_000, "service": "mariadb"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_rack_with_incidents_passes_with_any_of_them(kind: str) -> None:
    fault = FAULTS[kind]
    keys: dict[str, object] = {"volume": "mariadb"} if kind == "group_slow" else {}
    if fault.STRIKES == "nodes":
        keys["target"] = "all"
    quirk = {"kind": kind, "at_ms": 35_000, "for_ms": 20_000, "times": 5, "every_ms": 100_000, **keys}
    tape = Tape(
        why="a rare behaviour meets incidents",
        seed=3,
        rack="racks/five.toml",
        catalog="catalog/minimal.toml",
        duration_ms=400_000,
        fault=(quirk, *INCIDENTS.values()),
    )
    found = attempt(tape)
    assert (found.verdict, found.broken, found.detail) == ("pass", "", "")


def test_what_only_waits_is_not_taken_for_the_cause_of_a_failover() -> None:
    waits = planned("watch_late", "all", 19_000)
    world = rack_with(planned("power_loss", "holder-of:mariadb", 19_000), waits)
    world.truth.ends(world.kernel.now)
    (move,) = failovers(world.truth, [DB])
    assert (move.cause, move.at_ms) == ("power_loss", 19_000)
