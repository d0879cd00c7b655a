"""Rare but legal behaviours: each kind has its effect, on a rack that is not started or on one with an incident."""

from pathlib import Path

import msgspec
import pytest

from core import effects as fx
from core.events import (
    AnyEvent,
    OpFailed,
    OpSucceeded,
    PowerSeen,
    RecordsChanged,
    SessionOpened,
    VolumeOpened,
)
from core.ids import NO_SESSION, BootId, DomainId, Epoch, NodeId, OpId, RackId, ServiceName, SessionId, VolumeName
from core.records import NODES, Instance, Lifecycle, NodeRecord, node_path
from formats.catalog import load_catalog
from formats.rack import load_rack
from trial.fault import Planned
from trial.measures import failovers
from trial.targets import parse
from twin import checkers
from twin.faults import FAULTS
from twin.faults.base import Fault, Strike
from twin.inject import Injector
from twin.swarm.attempt import attempt
from twin.swarm.tape import Tape
from twin.world.evidence import DEAD_MS
from twin.world.quirks import Quirks
from twin.world.world import World

ROOT = Path(__file__).parents[2]
N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
DB, VOLUME = ServiceName("mariadb"), VolumeName("mariadb")
KINDS = (
    "answer_late", "bmc_answer_lost", "bmc_cycle_refused", "bmc_hangs_after", "bmc_order_late", "bmc_order_repeated",
    "bmc_report_late", "bmc_session_refused", "boot_slow", "boot_twice", "clock_slew", "close_hangs",
    "commit_answer_lost",
    "commit_lost", "commit_pause", "dhcp_offer_lost", "ephemeral_late", "exit_after_healthy", "exit_told_late",
    "fence_answer_lost", "fence_late", "follower_lag", "group_slow", "heartbeats_lost", "lift_answer_lost",
    "link_lopsided", "map_late", "mount_replay_long", "open_answer_lost", "power_on_ignored", "session_moved",
    "session_refused", "start_slow", "stop_hangs", "unmount_fails", "watch_late", "watch_repeated",
)  # fmt: skip


class Bare:
    """A rack whose parts run and whose machines do not; effects go to the ports of one node by hand."""

    def __init__(self, kind: str = "", node: NodeId = N1, **keys: object) -> None:
        rack, catalog = load_rack(ROOT / "racks/five.toml"), load_catalog(ROOT / "catalog/minimal.toml")
        self.world = World(rack, catalog, seed=1)
        self.kernel = self.world.kernel
        self.events: list[tuple[int, AnyEvent]] = []
        self.ops = 0
        self.strike = Strike(nodes=(node,))
        self.fault: Fault | None = msgspec.convert({"at_ms": 0, **keys}, FAULTS[kind]) if kind else None

    def apply(self) -> None:
        assert self.fault is not None
        self.fault.apply(self.world, self.strike)

    def emit(self, event: AnyEvent) -> None:
        self.events.append((self.kernel.now, event))

    def op(self) -> OpId:
        self.ops += 1
        return OpId(self.ops)

    def run(self, ms: int) -> None:
        self.kernel.run(self.kernel.now + ms)

    def answer(self, op: OpId) -> tuple[int, OpSucceeded | OpFailed]:
        found = [(at, e) for at, e in self.events if isinstance(e, OpSucceeded | OpFailed) and e.op == op]
        assert len(found) == 1, f"answered {len(found)} times"
        return found[0]


# -- ZooKeeper ---------------------------------------------------------------------------------------------------------


def a_record(node: NodeId) -> NodeRecord:
    return NodeRecord(node=node, rack=RackId("r1"), power_domain=DomainId("p1"), state=Lifecycle.DISCOVERED)


class BareEnsemble(Bare):
    """An ensemble on all five nodes; n1 has a session and mirrors the nodes, n2 writes."""

    def __init__(self, kind: str, **keys: object) -> None:
        super().__init__(kind, **keys)
        self.world.ensemble.bootstrap(self.world.nodes, {})
        self.client, self.other = self.world.ensemble.client(N1), self.world.ensemble.client(N2)
        self.others: list[AnyEvent] = []
        for client, emit in ((self.client, self.emit), (self.other, self.others.append)):
            client.start()
            client.submit(fx.OpenSession(resume=NO_SESSION), emit)
        self.run(1_000)
        self.client.submit(fx.Mirror(path=NODES, depth="tree"), self.emit)
        self.run(100)
        self.apply()

    def session(self, client: str = "client") -> SessionId:
        return getattr(self, client).link.session

    def commit(self, node: NodeId, ms_max: int = 3_000) -> OpId:
        op = self.op()
        write = fx.Create(path=node_path(node), data=a_record(node))
        self.client.submit(fx.Commit(op=op, session=self.session(), writes=(write,), ms_max=ms_max), self.emit)
        return op

    def write_elsewhere(self, node: NodeId) -> int:
        write = fx.Create(path=node_path(node), data=a_record(node))
        effect = fx.Commit(op=self.op(), session=self.session("other"), writes=(write,), ms_max=3_000)
        self.other.submit(effect, self.others.append)
        return self.kernel.now

    def told(self) -> list[tuple[int, RecordsChanged]]:
        return [(at, e) for at, e in self.events if isinstance(e, RecordsChanged) and at > 1_100]

    def there(self, node: NodeId) -> bool:
        return self.world.ensemble.data_view(node_path(node)) is not None


def test_a_commit_that_is_lost_never_happens_and_the_session_goes_on() -> None:
    bare = BareEnsemble("commit_lost")
    first, second = bare.commit(N1), bare.commit(N2)
    bare.run(3_000)
    for op in (first, second):
        failed = bare.answer(op)[1]
        assert isinstance(failed, OpFailed)
        assert failed.reason == "unanswered"
    assert not bare.there(N1)
    assert not bare.there(N2), "what was sent behind it on the same connection overtook it"
    assert isinstance(bare.events[-1][1], RecordsChanged)
    third = bare.commit(N3)
    bare.run(100)
    assert isinstance(bare.answer(third)[1], OpSucceeded)


def test_a_commit_whose_answer_is_lost_has_happened_once() -> None:
    bare = BareEnsemble("commit_answer_lost")
    zxid, op = bare.world.ensemble.zxid(), bare.commit(N1)
    bare.run(3_000)
    failed = bare.answer(op)[1]
    assert isinstance(failed, OpFailed)
    assert failed.reason == "unanswered"
    assert bare.there(N1)
    assert bare.world.ensemble.zxid() == zxid + 1
    assert [e.resumed for _, e in bare.events if isinstance(e, SessionOpened)] == [False, True]


def test_a_late_answer_keeps_its_limit_and_the_order() -> None:
    bare = BareEnsemble("answer_late", delay_ms=900)
    asked_ms, late, behind = bare.kernel.now, bare.commit(N1), bare.commit(N2)
    bare.run(2_000)
    assert 900 <= bare.answer(late)[0] - asked_ms < 950
    assert bare.answer(late)[0] <= bare.answer(behind)[0]
    bare.apply()
    asked_ms, tight = bare.kernel.now, bare.commit(N3, ms_max=400)
    bare.run(2_000)
    assert bare.answer(tight)[0] - asked_ms < 400
    assert isinstance(bare.answer(tight)[1], OpSucceeded)


def test_an_answer_behind_a_late_one_that_misses_its_limit_is_unanswered_once() -> None:
    bare = BareEnsemble("answer_late", delay_ms=900)
    bare.commit(N1)
    asked_ms, tight = bare.kernel.now, bare.commit(N2, ms_max=300)
    bare.run(2_000)
    at_ms, failed = bare.answer(tight)
    assert at_ms - asked_ms == 300
    assert isinstance(failed, OpFailed)
    assert failed.reason == "unanswered"
    assert bare.there(N2)


def test_a_late_notification_keeps_its_place_in_the_order() -> None:
    bare = BareEnsemble("watch_late", delay_ms=500)
    at_ms = bare.write_elsewhere(N1)
    bare.run(100)
    bare.write_elsewhere(N2)
    bare.run(1_000)
    (first_ms, first), (second_ms, second) = bare.told()
    assert 500 <= first_ms - at_ms < 520
    assert second_ms >= first_ms
    assert [change.path for event in (first, second) for change in event.changes] == [node_path(N1), node_path(N2)]


def test_a_held_notification_is_void_after_a_break_and_read_anew() -> None:
    bare = BareEnsemble("watch_late", delay_ms=5_000)
    bare.write_elsewhere(N1)
    bare.run(100)
    bare.client.link.drop()
    bare.run(3_000)
    assert [event.resync for _, event in bare.told()] == [True]
    bare.run(5_000)
    assert len(bare.told()) == 1


def test_after_a_repeated_notification_everything_is_read_anew() -> None:
    bare = BareEnsemble("watch_repeated")
    bare.write_elsewhere(N1)
    bare.run(100)
    bare.write_elsewhere(N2)
    bare.run(100)
    assert [event.resync for _, event in bare.told()] == [False, True, False]


def test_a_moved_session_goes_on_at_another_server() -> None:
    bare = BareEnsemble("session_moved")
    assert bare.client.link.server != N1
    bare.run(3_000)
    assert bare.client.link.server not in ("", N1)
    assert [e.resumed for _, e in bare.events if isinstance(e, SessionOpened)] == [False, True]


def test_a_refused_session_takes_the_next_server() -> None:
    usual, refused = BareEnsemble("session_moved"), BareEnsemble("session_refused", count=2)
    for bare in (usual, refused):
        bare.run(4_000)
    once, late = (
        next(at for at, e in b.events if isinstance(e, SessionOpened) and e.resumed) for b in (usual, refused)
    )
    assert late - once >= 100
    assert not refused.client.link.quirks.armed


def test_a_lagging_server_tells_and_answers_late_but_in_order() -> None:
    bare = BareEnsemble("follower_lag", delay_ms=700)
    bare.run(3_000)
    bare.events.clear()
    at_ms = bare.write_elsewhere(N1)
    op = bare.commit(N2)
    bare.run(3_000)
    assert bare.told()[0][0] - at_ms >= 700
    assert bare.answer(op)[0] - at_ms >= 700
    bare.strike.heal()
    asked_ms, again = bare.kernel.now, bare.commit(N3)
    bare.run(100)
    assert bare.answer(again)[0] - asked_ms < 50


def test_late_ephemerals_outlive_an_ordered_close_and_an_expiry() -> None:
    bare = BareEnsemble("ephemeral_late", count=2, delay_ms=1_500)
    ensemble, other = bare.world.ensemble, bare.session("other")
    close, asked_ms = bare.op(), bare.kernel.now
    bare.client.submit(fx.CloseSession(op=close, session=other, ms_max=5_000), bare.emit)
    bare.run(1_000)
    assert ensemble.sessions.live(other)
    bare.run(2_000)
    assert not ensemble.sessions.live(other)
    assert bare.answer(close)[0] - asked_ms >= 1_500
    timeout_ms = bare.world.timing.session_timeout_ms
    session, died_ms = bare.session(), bare.kernel.now
    bare.client.agent_died()
    while ensemble.sessions.live(session) and bare.kernel.now < died_ms + 60_000:
        bare.run(10)
    assert bare.kernel.now - died_ms >= timeout_ms * 2 // 3 + 1_500
    assert not ensemble.sessions.quirks.armed


# -- storage -----------------------------------------------------------------------------------------------------------


class BareStorage(Bare):
    """The storage of all five nodes; n1 opens, fences and lifts."""

    def __init__(self, kind: str = "", **keys: object) -> None:
        super().__init__(kind, **keys)
        self.world.storage.start_up(self.world.nodes)
        self.port = self.world.storage.port(N1, lambda: self.kernel.now)
        if kind:
            self.apply()

    def fence(self, ms_max: int = 10_000) -> tuple[int, OpSucceeded | OpFailed]:
        victim = Instance(node=N2, boot_id=BootId("n2.1"), epoch=Epoch(1), address="10.99.0.9:0/9")
        op, asked_ms = self.op(), self.kernel.now
        self.port.submit(
            fx.FenceInstance(op=op, volume=VOLUME, instance=victim, block_ms=3_600_000, ms_max=ms_max), self.emit
        )
        self.run(ms_max)
        at_ms, answer = self.answer(op)
        assert self.world.storage.fenced(victim)
        return at_ms - asked_ms, answer

    def open(self, node: NodeId = N1) -> OpSucceeded | OpFailed:
        op = self.op()
        port = self.port if node == N1 else self.world.storage.port(node, lambda: self.kernel.now)
        port.submit(fx.OpenVolume(op=op, service=DB, volume=VOLUME, epoch=Epoch(1), ms_max=1_500), self.emit)
        self.run(1_500)
        return self.answer(op)[1]


@pytest.mark.parametrize("says", ["failed", "unanswered"])
def test_a_fence_whose_answer_is_lost_has_taken_effect(says: str) -> None:
    bare = BareStorage("fence_answer_lost", says=says)
    failed = bare.fence()[1]
    assert isinstance(failed, OpFailed)
    assert failed.reason == says
    assert isinstance(bare.fence()[1], OpSucceeded)


def test_a_late_fence_and_a_late_map_hold_the_barrier() -> None:
    usual_ms = BareStorage().fence()[0]
    late_ms, answer = BareStorage("fence_late", delay_ms=1_500).fence()
    assert isinstance(answer, OpSucceeded)
    assert late_ms >= usual_ms + 1_000
    late_ms, answer = BareStorage("map_late", delay_ms=2_000).fence()
    assert isinstance(answer, OpSucceeded)
    assert late_ms >= 2_000


@pytest.mark.parametrize("says", ["failed", "unanswered"])
def test_an_opening_nobody_knows_is_there_for_a_while_and_then_closed(says: str) -> None:
    bare = BareStorage("open_answer_lost", says=says)
    failed = bare.open()
    assert isinstance(failed, OpFailed)
    assert failed.reason == says
    assert VOLUME in bare.world.storage.owners
    held = bare.open(N2)
    assert isinstance(held, OpFailed)
    assert held.reason == "refused"
    opened = bare.open(N2)
    assert isinstance(opened, OpSucceeded)
    assert isinstance(opened.result, VolumeOpened)


def test_a_lift_whose_answer_is_lost_has_taken_effect() -> None:
    bare = BareStorage("lift_answer_lost", says="failed")
    victim = Instance(node=N2, boot_id=BootId("n2.1"), epoch=Epoch(1), address="10.99.0.9:0/9")
    bare.fence()
    op = bare.op()
    bare.port.submit(fx.LiftBlock(op=op, volume=VOLUME, instance=victim), bare.emit)
    bare.run(5_000)
    assert isinstance(bare.answer(op)[1], OpFailed)
    assert not bare.world.storage.fenced(victim)


def test_a_close_that_hangs_is_given_up_and_proves_nothing() -> None:
    bare = BareStorage("close_hangs")
    opened = bare.open()
    assert isinstance(opened, OpSucceeded)
    assert isinstance(opened.result, VolumeOpened)
    op = bare.op()
    bare.port.submit(fx.CloseVolume(op=op, volume=VOLUME, instance=opened.result.instance, ms_max=2_000), bare.emit)
    bare.run(5_000)
    assert isinstance(bare.answer(op)[1], OpFailed)
    assert VOLUME in bare.world.storage.owners


@pytest.mark.parametrize("what", ["probes", "data"])
def test_a_slow_group_slows_what_lies_there_and_nothing_else(what: str) -> None:
    bare = BareStorage("group_slow", volume="mariadb", what=what, delay_ms=800)
    opened = bare.open()
    assert isinstance(opened, OpSucceeded)
    assert isinstance(opened.result, VolumeOpened)
    instance, took, storage = opened.result.instance, {}, bare.world.storage
    assert not storage.probe_healthy(instance, VOLUME), "an implicit beat would never notice"
    for name, payload in (("probes", 0), ("data", 7)):
        asked_ms = bare.kernel.now
        storage.write(
            instance, VOLUME, payload, lambda _, n=name, a=asked_ms: took.update({n: bare.kernel.now - a}), 5_000
        )
        bare.run(2_000)
    slow, quick = (took["probes"], took["data"]) if what == "probes" else (took["data"], took["probes"])
    assert slow >= 800 > quick
    bare.strike.heal()
    assert storage.probe_healthy(instance, VOLUME)


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
        bare.world._state[node] = "up"
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
