"""The coordination port against real servers that are killed, frozen and cut off."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import msgspec
import pytest

from core import effects as fx
from core.events import (
    AnyEvent,
    BeatAnswered,
    Committed,
    OpFailed,
    OpSucceeded,
    RecordsChanged,
    SessionEnded,
    SessionOpened,
)
from core.ids import NO_SESSION, NodeId, OpId
from core.records import MEMBERS, NODES, Change, node_path
from drivers import zookeeper_jute as jute
from drivers.zookeeper_codec import OK
from tests.real.zookeeper_agent import Agent, Picture, record
from tests.real.zookeeper_ensemble import Ensemble, wait_until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("zookeeper")]

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    ensemble = Ensemble(tmp_path_factory.mktemp("three"), 3, subnet=21, session_timeout_ms=4_000)
    try:
        ensemble.start()
        yield ensemble
    finally:
        ensemble.stop()


@pytest.fixture
def ensemble(three: Ensemble) -> Iterator[Ensemble]:
    three.wipe()
    yield three
    for node in three.nodes:
        if three.runs(node):
            three.signal(node, signal.SIGCONT)
    three.start()


def server_of(agent: Agent, ensemble: Ensemble) -> NodeId:
    """Whose server an agent talks to: its own, if that runs (the first test says so)."""
    (node,) = [node for node in ensemble.nodes if ensemble.endpoint(node) == agent.client().server]
    return node


def longest_gap_ms(agent: Agent) -> int:
    """The longest time between two answered beats."""
    return max(later.at_ms - sooner.at_ms for sooner, later in pairwise(agent.ok_beats()))


def test_an_agent_uses_its_own_server_and_the_others_when_that_is_gone(ensemble: Ensemble) -> None:
    with Agent(ensemble.configs[N1]) as agent:
        assert server_of(agent, ensemble) == N1
        path = agent.register()
        ensemble.kill(N1)
        killed = time.monotonic()
        agent.settled(fx.Check(path=path, version=0))
        print(f"its server was killed: a commit goes through {1_000 * (time.monotonic() - killed):.0f} ms later")
        assert server_of(agent, ensemble) != N1
        assert [opened.resumed for opened in agent.of(SessionOpened)] == [False, True]
        assert agent.of(SessionEnded) == []
        assert agent.read(path)[0].owner == agent.session


def test_the_loss_of_the_leader_costs_no_session_and_beats_go_on(ensemble: Ensemble) -> None:
    follower = next(node for node in ensemble.nodes if node != ensemble.leader())
    with Agent(ensemble.configs[follower]) as agent:
        agent.beat(agent.register())
        wait_until(lambda: len(agent.ok_beats()) > 2, 10, "beats")
        before = agent.ok_beats()[-1].asked_ms
        ensemble.kill(ensemble.leader())
        wait_until(lambda: agent.ok_beats()[-1].asked_ms > before + 1_000, 15, "beats after the election")
        print(f"the leader was killed: {longest_gap_ms(agent)} ms without an answered beat")
        assert agent.of(SessionEnded) == []
        assert {beat.outcome for beat in agent.of(BeatAnswered)} <= {"ok", "unanswered"}


def test_mirrors_lose_nothing_and_tell_nothing_twice_while_connections_break(ensemble: Ensemble) -> None:
    picture = Picture()
    with Agent(ensemble.configs[N1]) as writer, Agent(ensemble.configs[N2]) as watcher:
        watcher.send(fx.Mirror(path=NODES, depth="tree"))
        versions: dict[str, int] = {}
        last: dict[str, int] = {}
        for turn in range(240):
            path = f"{NODES}/x{turn % 7}"
            version = versions.get(path)
            data = record(attempts=turn)
            write: fx.Write
            if version is None:
                write, versions[path] = fx.Create(path=path, data=data), 0
            elif turn % 5 == 4:
                write = fx.Remove(path=path, version=versions.pop(path))
            else:
                write, versions[path] = fx.Put(path=path, data=data, version=version), version + 1
            last[path] = writer.settled(write)
            if turn % 20 == 10:
                watcher.port.loop.post(watcher.client().drop)
            if turn == 120:
                ensemble.kill(server_of(watcher, ensemble))
            picture.take(watcher)

        def caught_up() -> bool:
            picture.take(watcher)
            return {path: change.version for path, change in picture.known.items()} == versions

        wait_until(caught_up, 10, f"the mirror shows {versions}")
        assert picture.backwards == []
        assert {path: change.zxid for path, change in picture.known.items()} == {p: last[p] for p in versions}
        assert len([e for e in watcher.of(RecordsChanged) if e.resync]) >= 10
        assert watcher.of(SessionEnded) == []


def test_a_new_agent_takes_the_session_up_and_keeps_its_ephemerals(ensemble: Ensemble) -> None:
    with Agent(ensemble.configs[N1]) as first:
        path = first.register()
    saved = ensemble.configs[N1].tables.run_dir / "session"
    assert saved.stat().st_mode & 0o777 == 0o600
    with Agent(ensemble.configs[N1], resume=True) as second:
        (opened,) = second.of(SessionOpened)
        assert opened.resumed
        assert opened.session == first.session
        assert second.read(path)[0].owner == first.session
        second.committed(fx.Check(path=path, version=0))


def test_a_saved_session_that_ran_out_is_replaced_by_a_new_one(ensemble: Ensemble) -> None:
    with Agent(ensemble.configs[N1]) as first:
        path = first.register()
    with Agent(ensemble.configs[N2]) as other:
        wait_until(lambda: other.read(path)[0].data is None, 10, "the session runs out")
    with Agent(ensemble.configs[N1], resume=True) as second:
        (opened,) = second.of(SessionOpened)
        assert not opened.resumed
        assert opened.session != first.session


def said(process: subprocess.Popen[bytes]) -> AnyEvent:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the agent is gone"
    return msgspec.json.decode(line, type=AnyEvent)  # type: ignore[arg-type]  # a union


def test_a_frozen_agent_learns_of_its_end_and_beats_nothing_in_the_old_session(ensemble: Ensemble) -> None:
    argv = [sys.executable, "-m", "tests.real.zookeeper_agent", str(ensemble.configs[N1].file)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        while not (isinstance(event := said(process), BeatAnswered) and event.outcome == "ok"):
            pass
        process.send_signal(signal.SIGSTOP)
        with Agent(ensemble.configs[N2]) as other:
            wait_until(lambda: other.read(f"{MEMBERS}/r1/n1")[0].data is None, 10, "the session runs out")
        process.send_signal(signal.SIGCONT)
        thawed = time.monotonic()
        seen: list[AnyEvent] = []
        while not isinstance(event := said(process), SessionEnded):
            seen.append(event)
        assert time.monotonic() - thawed < 5
        fresh = [e for e in seen if isinstance(e, BeatAnswered) and e.outcome == "ok"]
        assert len(fresh) <= 4, "only what was answered before it froze may still be read"
        while not isinstance(opened := said(process), SessionOpened):
            assert not (isinstance(opened, BeatAnswered) and opened.outcome == "ok")
        assert not opened.resumed
        assert opened.session != event.session
    finally:
        process.kill()
        process.communicate()


def test_a_server_that_hangs_is_left_although_questions_keep_coming(ensemble: Ensemble) -> None:
    """Kazoo alone never notices: it sends no ping while requests are sent."""
    follower = next(node for node in ensemble.nodes if node != ensemble.leader())
    with Agent(ensemble.configs[follower]) as agent:
        agent.beat(agent.register())
        wait_until(lambda: len(agent.ok_beats()) > 2, 10, "beats")
        ensemble.signal(follower, signal.SIGSTOP)
        frozen_ms = agent.ok_beats()[-1].asked_ms
        wait_until(lambda: agent.ok_beats()[-1].asked_ms > frozen_ms + 500, 15, "beats through another server")
        print(f"a server froze: {longest_gap_ms(agent)} ms without an answered beat")
        assert server_of(agent, ensemble) != follower
        assert agent.of(SessionEnded) == [], "two thirds of a session's time are enough to find another server"


def settle(agent: Agent, before: Change, put: fx.Put, op: OpId) -> bool:
    """Wait for "unanswered", read back whether it happened, and see that what was read holds."""
    answer = agent.answer(op)
    assert isinstance(answer, OpFailed)
    assert answer.reason == "unanswered"
    (after,) = agent.read(put.path)
    happened = after.version == before.version + 1
    assert after.data == (put.data if happened else before.data)
    again = agent.commit(put)
    assert isinstance(again, OpFailed if happened else OpSucceeded)
    return happened


def has_reconnected(agent: Agent, before: int) -> bool:
    return len(agent.of(SessionOpened)) > before


def test_a_commit_that_nobody_answered_is_settled_by_a_read_back(ensemble: Ensemble) -> None:
    follower = next(node for node in ensemble.nodes if node != ensemble.leader())
    path = node_path(N1)
    with Agent(ensemble.configs[follower]) as agent:
        agent.committed(fx.Create(path=path, data=record()))

        def begin(turn: int) -> tuple[Change, fx.Put, OpId]:
            (before,) = agent.read(path)
            put = fx.Put(path=path, data=record(attempts=turn), version=before.version)
            return before, put, agent.begin(fx.Commit, session=agent.session, writes=(put,), ms_max=8_000)

        ensemble.signal(follower, signal.SIGSTOP)
        put = fx.Put(path=path, data=record(attempts=1), version=0)
        op = agent.begin(fx.Commit, session=agent.session, writes=(put,), ms_max=8_000)
        wait_until(lambda: any(request.sent for request in list(agent.port._link.requests._pending)), 10, "it is sent")
        ensemble.kill(follower)
        assert not settle(agent, Change(path=path, zxid=0, data=record()), put, op), "its server never saw it"
        happened = 0
        for turn in range(2, 12):
            before, put, op = begin(turn)
            opened = len(agent.of(SessionOpened))
            agent.port.loop.post(agent.client().drop)  # sent, then the connection breaks before the answer
            wait_until(partial(has_reconnected, agent, opened), 10, "a new connection")
            if isinstance(agent.answer(op), OpFailed):
                happened += settle(agent, before, put, op)
        assert happened > 0, "the servers carry out what nobody waits for"


def test_without_a_server_requests_wait_and_are_answered_at_their_limit(ensemble: Ensemble) -> None:
    with Agent(ensemble.configs[N1]) as agent:
        path = agent.register()
        for node in ensemble.nodes:
            ensemble.kill(node)
        asked = time.monotonic()
        answer = agent.commit(fx.Check(path=path, version=0), ms_max=700)
        assert isinstance(answer, OpFailed)
        assert answer.reason == "unanswered"
        assert time.monotonic() - asked < 2
        agent.send(fx.Mirror(path=NODES, depth="tree"))
        assert agent.of(SessionEnded) == [], "being cut off is never an event"
        ensemble.start()
        wait_until(lambda: len(agent.of(SessionOpened)) > 1 or bool(agent.of(SessionEnded)), 20, "a server again")
        assert agent.of(SessionEnded) == [], "a new leader gives every session its full time"
        agent.settled(fx.Check(path=path, version=0))
        wait_until(lambda: bool(agent.of(RecordsChanged)), 5, "the mirror begins")


def test_closing_anothers_session_is_quick_and_ends_its_ephemerals(ensemble: Ensemble) -> None:
    took: list[float] = []
    with Agent(ensemble.configs[N2]) as steward:
        steward.send(fx.Mirror(path=MEMBERS, depth="tree"))
        for _ in range(5):
            with Agent(ensemble.configs[N1]) as owner:
                path = owner.register()
                wait_until(partial(shown, steward, path), 5, "the member is shown")
                asked = time.monotonic()
                assert isinstance(steward.close_session(owner.session), OpSucceeded)
                wait_until(partial(hidden, steward, path), 5, "the member is gone")
                took.append(time.monotonic() - asked)
                wait_until(partial(owner.of, SessionEnded), 5, "the owner learns of it")
                assert isinstance(steward.close_session(owner.session), OpSucceeded), "over already"
    print(f"closing another's session, until its member record is gone: {[round(1_000 * t) for t in took]} ms")
    assert sorted(took)[2] < 1


def shown(agent: Agent, path: str) -> bool:
    picture = Picture()
    picture.take(agent)
    return path in picture.known


def hidden(agent: Agent, path: str) -> bool:
    return not shown(agent, path)


def test_a_write_too_large_is_refused_here_and_breaks_nothing(ensemble: Ensemble) -> None:
    with Agent(ensemble.configs[N1]) as agent:
        large = fx.Create(path=node_path(N1), data=msgspec.structs.replace(record(), reason="x" * 1_000_001))
        refused = agent.commit(large)
        assert isinstance(refused, OpFailed)
        assert (refused.reason, refused.retryable) == ("refused", False)
        nearly = fx.Create(path=node_path(N1), data=msgspec.structs.replace(record(), reason="x" * 990_000))
        agent.committed(nearly)
        assert len(agent.of(SessionOpened)) == 1, "the connection lasted"


def test_a_field_of_a_newer_version_survives_our_write(ensemble: Ensemble) -> None:
    with Agent(ensemble.configs[N1]) as agent:
        path = node_path(N1)
        agent.committed(fx.Create(path=path, data=record()))
        newer = {"record": "node", "node": "x", "rack": "r1", "power_domain": "p1", "state": "joined", "aura": {"a": 1}}
        with ensemble.brief() as brief:
            assert brief.commit([jute.put(path, msgspec.json.encode(newer), 0)])[0] == OK
        (seen,) = agent.read(path)
        assert seen.data == record()
        agent.committed(fx.Put(path=path, data=record(attempts=3), version=1))
        with ensemble.brief() as brief:
            now = brief.get(path)[1]
        assert now is not None
        assert now.data is not None
        assert msgspec.json.decode(now.data)["aura"] == {"a": 1}
        assert msgspec.json.decode(now.data)["attempts"] == 3


def test_a_beat_is_refused_as_soon_as_what_it_checks_is_gone(ensemble: Ensemble) -> None:
    with Agent(ensemble.configs[N1]) as agent:
        path = agent.register()
        agent.beat(path, every_ms=50)
        wait_until(lambda: len(agent.ok_beats()) > 3, 10, "beats")
        agent.committed(fx.Put(path=path, data=agent.member(), version=0))
        wait_until(lambda: agent.of(BeatAnswered)[-1].outcome == "refused", 5, "a refusal")
        count = len(agent.of(BeatAnswered))
        agent.committed(fx.Check(path=path, version=1))
        assert len(agent.of(BeatAnswered)) == count, "a refused beat asks no more"


def test_everybody_soon_knows_of_a_member(ensemble: Ensemble) -> None:
    watchers = [Agent(ensemble.configs[ensemble.nodes[index % 3]]) for index in range(20)]
    try:
        for watcher in watchers:
            watcher.send(fx.Mirror(path=MEMBERS, depth="tree"))
        wait_until(lambda: all(watcher.of(RecordsChanged) for watcher in watchers), 20, "all mirrors")
        asked = time.monotonic()
        path = watchers[0].register()
        committed = time.monotonic()
        wait_until(lambda: all(shown(watcher, path) for watcher in watchers), 20, "all know")
        print(f"20 clients of one process know of a member {1_000 * (time.monotonic() - committed):.0f} ms after the "
              f"answer of its commit ({1_000 * (committed - asked):.0f} ms)")  # fmt: skip
    finally:
        for watcher in watchers:
            watcher.close_session(watcher.session)
            watcher.port.close()


def test_the_own_session_ends_at_once_when_it_is_closed(ensemble: Ensemble) -> None:
    with Agent(ensemble.configs[N1]) as agent, Agent(ensemble.configs[N2]) as other:
        path = agent.register()
        assert isinstance(agent.close_session(agent.session), OpSucceeded)
        assert other.read(path)[0].data is None
        assert agent.port.saved_session == NO_SESSION
        failed = agent.commit(fx.Check(path=path, version=0))
        assert isinstance(failed, OpFailed)
        assert failed.reason == "session"
        assert not agent.open(NO_SESSION).resumed
        assert isinstance(agent.commit(fx.Create(path=node_path(N1), data=record())).result, Committed)  # type: ignore[union-attr]
