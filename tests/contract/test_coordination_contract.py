"""The contract of ``core.ports.CoordinationPort``: the same for every implementation, listed in ``ARMS``.

An arm offers two agents' ports on one empty ensemble of three, and ``settle``, which lets time pass.
"""

import time
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from core import effects as fx
from core.events import (
    AnyEvent,
    Committed,
    OpFailed,
    OpSucceeded,
    ReadBack,
    RecordsChanged,
    SessionEnded,
    SessionOpened,
)
from core.ids import NO_SESSION, BootId, DomainId, NodeId, OpId, RackId, SessionId
from core.ports import CoordinationPort
from core.records import ENSEMBLE, LEASES, EnsembleRecord, Lifecycle, MemberRecord, NodeRecord, member_path, node_path
from core.specs import Timing
from drivers import zookeeper_jute as jute
from drivers import zookeeper_server as server
from drivers.zookeeper_codec import OK, ensemble, member_line
from drivers.zookeeper_port import ZooKeeper
from tests.real.zookeeper_ensemble import Ensemble as RealEnsemble
from tests.real.zookeeper_ensemble import NoServices
from twin.calibration import load
from twin.kernel import Kernel
from twin.streams import Streams
from twin.world.fabric import Fabric
from twin.world.peers import Peers
from twin.world.zookeeper import Ensemble

N1, N2, R1, P1 = NodeId("n1"), NodeId("n2"), RackId("r1"), DomainId("p1")


class Arm(Protocol):
    """One implementation under test."""

    ports: dict[NodeId, CoordinationPort]

    def settle(self, ms: int, done: Callable[[], bool] | None = None) -> None:
        """Let up to ``ms`` pass, or just as long as it takes until ``done``."""
        ...

    def close(self) -> None: ...


class SimulatedArm:
    """The twin's ensemble: one server on each of two nodes and a third."""

    def __init__(self) -> None:
        self.kernel, fabric = Kernel(), Fabric()
        fabric.add_switch("s1")
        nodes = [N1, N2, NodeId("n3")]
        for node in nodes:
            fabric.add_node(node, ["s1"])
        calibration, timing, streams = load(), Timing(), Streams(1)
        peers = Peers(self.kernel, streams, calibration, fabric, lambda _node: True, timing.suspect_ms)
        ensemble = Ensemble(self.kernel, streams, calibration, fabric, timing, peers)
        ensemble.bootstrap(nodes, {})
        self.ports: dict[NodeId, CoordinationPort] = {}
        for node in (N1, N2):
            client = ensemble.client(node)
            client.start()
            self.ports[node] = client

    def settle(self, ms: int, done: Callable[[], bool] | None = None) -> None:
        self.kernel.run(self.kernel.now + ms)

    def close(self) -> None:
        """Nothing is left."""


class RealArm:
    """Three real servers; what other tests wrote and reconfigured is undone first."""

    QUIET_MS = 300
    """Long enough for what must not come: a watch event takes a few milliseconds."""

    def __init__(self, real: RealEnsemble) -> None:
        self.real = real
        self._restore()
        real.wipe()
        self.bugs: list[str] = []
        self._clients = {
            n: ZooKeeper(real.configs[n], NoServices(), lambda: self.bugs.append("died")) for n in (N1, N2)
        }
        self.ports: dict[NodeId, CoordinationPort] = {**self._clients}

    def settle(self, ms: int, done: Callable[[], bool] | None = None) -> None:
        limit_ms = 10 * ms if done is not None else min(ms, self.QUIET_MS)  # the machine may be busy with other tests
        end = time.monotonic() + limit_ms / 1_000
        while time.monotonic() < end and not (done is not None and done()):
            time.sleep(0.005)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        assert self.bugs == []

    def _restore(self) -> None:
        """Let all three vote."""
        config = self.real.configs[N1]
        with self.real.brief() as brief:
            seen = brief.get(ENSEMBLE)[1]
            assert seen is not None
            now = ensemble(seen.data or b"", config.machines)
            assert now is not None
            gone = [config.machines[node] for node in self.real.nodes if node not in now.voters]
            if gone:
                lines = ",".join(member_line(machine, config.tables.zookeeper, tls=False) for machine in gone)
                assert brief.ask(jute.authenticate("digest", f"super:{server.super_password(config)}")) == OK
                assert brief.ask(jute.reconfigure(lines, "", now.config)) == OK
        self.real.await_serving(self.real.nodes)


class Agent:
    """The other side of a port: it opens a session and keeps every event."""

    def __init__(self, arm: Arm, node: NodeId) -> None:
        self.arm, self.port, self.node = arm, arm.ports[node], node
        self.events: list[AnyEvent] = []
        self.op = 0
        self.send(fx.OpenSession(resume=NO_SESSION))
        arm.settle(1_000, lambda: any(isinstance(event, SessionOpened) for event in self.events))
        (opened,) = [event for event in self.events if isinstance(event, SessionOpened)]
        assert not opened.resumed
        self.session = opened.session

    def send(self, effect: fx.AnyEffect) -> None:
        self.port.submit(effect, self.events.append)  # type: ignore[arg-type]

    def next(self) -> OpId:
        self.op += 1
        return OpId(self.op)

    def ask(self, effect: fx.Commit | fx.Read | fx.CloseSession | fx.Reconfigure) -> OpSucceeded | OpFailed:
        self.send(effect)
        answers = (OpSucceeded, OpFailed)
        self.arm.settle(
            effect.ms_max + 50, lambda: any(isinstance(e, answers) and e.op == effect.op for e in self.events)
        )
        (answer,) = [e for e in self.events if isinstance(e, OpSucceeded | OpFailed) and e.op == effect.op]
        return answer

    def commit(self, *writes: fx.Write, session: SessionId | None = None) -> OpSucceeded | OpFailed:
        mine = self.session if session is None else session
        return self.ask(fx.Commit(op=self.next(), session=mine, writes=writes, ms_max=500))

    def read(self, *paths: str) -> ReadBack:
        answer = self.ask(fx.Read(op=self.next(), session=self.session, paths=paths, ms_max=500))
        assert isinstance(answer, OpSucceeded)
        assert isinstance(answer.result, ReadBack)
        return answer.result

    def changes(self) -> list[RecordsChanged]:
        return [event for event in self.events if isinstance(event, RecordsChanged)]

    def await_changes(self, count: int) -> None:
        """Let time pass until so many changes have been told, and a little more."""
        self.arm.settle(500, lambda: sum(len(event.changes) for event in self.changes()) >= count)
        self.arm.settle(100)


@pytest.fixture(scope="module")
def real_ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEnsemble]:
    real = RealEnsemble(tmp_path_factory.mktemp("contract"), 3, subnet=22, session_timeout_ms=4_000)
    try:
        real.start()
        yield real
    finally:
        real.stop()


REAL = pytest.param("real", marks=[pytest.mark.real, pytest.mark.xdist_group("zookeeper")])


@pytest.fixture(params=["simulated", REAL])
def arm(request: pytest.FixtureRequest) -> Iterator[Arm]:
    made: Arm = SimulatedArm() if request.param == "simulated" else RealArm(request.getfixturevalue("real_ensemble"))
    try:
        yield made
    finally:
        made.close()


def node_record(state: Lifecycle = Lifecycle.JOINED) -> NodeRecord:
    return NodeRecord(node=N1, rack=R1, power_domain=P1, state=state)


def member(agent: Agent) -> MemberRecord:
    return MemberRecord(node=agent.node, session=agent.session, boot_id=BootId("b"), rack=R1, power_domain=P1,
                        weight=100, cores=1, memory_bytes=1)  # fmt: skip


def test_a_transaction_is_all_or_nothing_and_names_the_write_that_failed(arm: Arm) -> None:
    agent = Agent(arm, N1)
    done = agent.commit(fx.Create(path=node_path(N1), data=node_record()), fx.Check(path=node_path(N1), version=0))
    assert isinstance(done, OpSucceeded)
    assert isinstance(done.result, Committed)
    assert done.result.zxid > 0
    assert len(done.result.versions) == 2
    failed = agent.commit(
        fx.Put(path=node_path(N1), data=node_record(Lifecycle.DRAINING), version=0),
        fx.Create(path=node_path(N1), data=node_record()),
    )
    assert isinstance(failed, OpFailed)
    assert (failed.reason, failed.index) == ("conflict", 1)
    assert agent.read(node_path(N1)).changes[0].data == node_record()


@pytest.mark.parametrize(
    "write",
    [
        fx.Create(path=node_path(N1), data=node_record()),
        fx.Put(path=node_path(N1), data=node_record(), version=0),
        fx.Remove(path=node_path(N1), version=2),
        fx.Check(path=node_path(N1), version=0),
        fx.Check(path=node_path(N2), version=0),
        fx.Put(path=node_path(N2), data=node_record(), version=0),
        fx.Remove(path=node_path(N2), version=0),
    ],
)
def test_a_write_that_does_not_fit_the_state_is_a_conflict(arm: Arm, write: fx.Write) -> None:
    agent = Agent(arm, N1)
    agent.commit(fx.Create(path=node_path(N1), data=node_record()))
    put = agent.commit(fx.Put(path=node_path(N1), data=node_record(), version=0))
    assert isinstance(put, OpSucceeded)
    assert isinstance(put.result, Committed)
    assert put.result.versions == (1,)
    failed = agent.commit(write)
    assert isinstance(failed, OpFailed)
    assert failed.reason == "conflict"


def test_a_commit_in_another_session_is_refused_before_it_does_anything(arm: Arm) -> None:
    first, second = Agent(arm, N1), Agent(arm, N2)
    failed = first.commit(fx.Create(path=node_path(N1), data=node_record()), session=second.session)
    assert isinstance(failed, OpFailed)
    assert failed.reason == "session"
    assert first.read(node_path(N1)).changes[0].data is None


def test_an_ephemeral_belongs_to_its_session_and_ends_with_it(arm: Arm) -> None:
    first, second = Agent(arm, N1), Agent(arm, N2)
    path = member_path(R1, N1)
    first.commit(fx.Create(path=path, data=member(first), ephemeral=True))
    assert second.read(path).changes[0].owner == first.session
    closed = second.ask(fx.CloseSession(op=second.next(), session=first.session, ms_max=1_000))
    assert isinstance(closed, OpSucceeded)
    assert second.read(path).changes[0].data is None
    arm.settle(1_000, lambda: any(isinstance(event, SessionEnded) for event in first.events))
    assert [event.session for event in first.events if isinstance(event, SessionEnded)] == [first.session]
    again = second.ask(fx.CloseSession(op=second.next(), session=first.session, ms_max=1_000))
    assert isinstance(again, OpSucceeded), "closing a session that is over is no failure"


def test_closing_the_own_session_is_answered(arm: Arm) -> None:
    first, second = Agent(arm, N1), Agent(arm, N2)
    first.commit(fx.Create(path=member_path(R1, N1), data=member(first), ephemeral=True))
    assert isinstance(first.ask(fx.CloseSession(op=first.next(), session=first.session, ms_max=1_000)), OpSucceeded)
    assert second.read(member_path(R1, N1)).changes[0].data is None


def test_a_tree_mirror_starts_with_everything_below_and_goes_on_with_deltas(arm: Arm) -> None:
    first, second = Agent(arm, N1), Agent(arm, N2)
    first.commit(fx.Create(path="/moxie/nodes/n1", data=node_record()))
    second.send(fx.Mirror(path="/moxie/nodes", depth="tree"))
    second.await_changes(1)
    (start,) = second.changes()
    assert start.resync
    assert start.roots == ("/moxie/nodes",)
    assert [c.path for c in start.changes] == ["/moxie/nodes/n1"]
    first.commit(fx.Put(path="/moxie/nodes/n1", data=node_record(Lifecycle.DRAINING), version=0))
    first.commit(fx.Remove(path="/moxie/nodes/n1", version=1))
    first.commit(fx.Create(path="/moxie/other", data=node_record()))
    second.await_changes(3)
    deltas = [change for event in second.changes()[1:] for change in event.changes]
    assert [(c.path, c.data is None) for c in deltas] == [("/moxie/nodes/n1", False), ("/moxie/nodes/n1", True)]
    assert start.changes[0].zxid < deltas[0].zxid < deltas[1].zxid
    second.send(fx.Unmirror(path="/moxie/nodes"))
    count = len(second.changes())
    first.commit(fx.Create(path="/moxie/nodes/n1", data=node_record()))
    arm.settle(500)
    assert len(second.changes()) == count


def test_a_names_mirror_tells_of_creation_and_deletion_only_and_one_of_that_path_only(arm: Arm) -> None:
    first, second = Agent(arm, N1), Agent(arm, N2)
    second.send(fx.Mirror(path=LEASES, depth="names"))
    second.send(fx.Mirror(path="/moxie/nodes/n1", depth="one"))
    arm.settle(500)
    first.commit(fx.Create(path=f"{LEASES}/a", data=node_record()))
    first.commit(fx.Put(path=f"{LEASES}/a", data=node_record(), version=0))
    first.commit(fx.Create(path=f"{LEASES}/a/deep", data=node_record()))
    first.commit(fx.Create(path="/moxie/nodes/n1", data=node_record()))
    first.commit(fx.Create(path="/moxie/nodes/n1/deep", data=node_record()))
    first.commit(fx.Put(path="/moxie/nodes/n1", data=node_record(), version=0))
    first.commit(fx.Remove(path=f"{LEASES}/a/deep", version=0))
    first.commit(fx.Remove(path=f"{LEASES}/a", version=1))
    second.await_changes(4)
    deltas = [(c.path, c.data is None) for e in second.changes() if not e.resync for c in e.changes]
    one = ("/moxie/nodes/n1", False)
    assert deltas == [(f"{LEASES}/a", False), one, one, (f"{LEASES}/a", True)]


def test_the_configuration_of_the_ensemble_is_a_record_that_can_be_mirrored(arm: Arm) -> None:
    agent = Agent(arm, N1)
    agent.send(fx.Mirror(path=ENSEMBLE, depth="one"))
    agent.await_changes(1)
    (start,) = agent.changes()
    record = start.changes[0].data
    assert isinstance(record, EnsembleRecord)
    assert len(record.voters) == 3
    stale = fx.Reconfigure(
        op=agent.next(), joining=(), leaving=(record.voters[0],), config=record.config + 5, ms_max=1_000
    )
    assert isinstance(failed := agent.ask(stale), OpFailed)
    assert failed.reason == "conflict"
    change = fx.Reconfigure(
        op=agent.next(), joining=(), leaving=(record.voters[0],), config=record.config, ms_max=1_000
    )
    assert isinstance(agent.ask(change), OpSucceeded)
    agent.await_changes(2)
    after = agent.changes()[-1].changes[-1].data
    assert isinstance(after, EnsembleRecord)
    assert after.voters == record.voters[1:]
    assert after.config > record.config
