"""Rare but legal behaviours of ZooKeeper and of the storage: each has its effect, as often as it is armed."""

import pytest

from core import effects as fx
from core.events import (
    AnyEvent,
    OpFailed,
    OpSucceeded,
    RecordsChanged,
    SessionOpened,
    VolumeOpened,
)
from core.ids import NO_SESSION, BootId, DomainId, Epoch, NodeId, OpId, RackId, SessionId
from core.records import NODES, Instance, Lifecycle, NodeRecord, node_path
from tests.unit.bare import DB, N1, N2, N3, VOLUME, Bare

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
