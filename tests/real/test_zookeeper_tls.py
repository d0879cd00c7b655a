"""An ensemble as a rack runs it: grown from one server by the port itself, mutual TLS everywhere, access lists."""

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core import effects as fx
from core.events import OpFailed, OpSucceeded, RecordsChanged
from core.ids import NO_SESSION, NodeId, OpId, ServiceName
from core.records import (
    CLUSTER,
    ENSEMBLE,
    LEASES,
    MEMBERS,
    ClusterRecord,
    EnsembleRecord,
    LeaseRecord,
    ServiceRecord,
    node_path,
    service_path,
)
from core.specs import ServiceSpec
from drivers import zookeeper_jute as jute
from drivers import zookeeper_server as server
from drivers.ca import Authority, Pair
from drivers.clock import now_ms
from drivers.config import Tls
from drivers.zookeeper import Brief
from drivers.zookeeper_codec import DENIED, OK, encode
from drivers.zookeeper_port import ZooKeeper
from drivers.zookeeper_tree import READ, Grant, session_path
from tests.real.zookeeper_agent import Agent, record
from tests.real.zookeeper_ensemble import PORT, Ensemble, NoServices, wait_until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("zookeeper")]

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


class Services(NoServices):
    """A node's supervisor as far as its server is concerned."""

    def __init__(self, ensemble: Ensemble, node: NodeId) -> None:
        self.ensemble, self.node = ensemble, node

    def run_server(self, argv: tuple[str, ...], log: str) -> None:
        self.ensemble.run(self.node, argv)

    def end_server(self, op: OpId, done: Callable[[], None]) -> None:
        self.ensemble.kill(self.node)
        done()


def serving_agent(ensemble: Ensemble, node: NodeId) -> Agent:
    """An agent that can start and stop its node's server."""
    agent = Agent(ensemble.configs[node], start=False)
    agent.port.close()
    agent.port = ZooKeeper(ensemble.configs[node], Services(ensemble, node), agent._died)
    return agent


def start_server(agent: Agent, *members: NodeId) -> OpSucceeded | OpFailed:
    return agent.answer(agent.begin(fx.StartServer, members=members))


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """Three servers of four nodes, grown from the first."""
    ensemble = Ensemble(tmp_path_factory.mktemp("tls"), 4, tls=True, subnet=23, session_timeout_ms=4_000)
    (ensemble.configs[N1].file.parent / server.FIRST_SERVER).touch()
    agents = {node: serving_agent(ensemble, node) for node in ensemble.nodes}
    try:
        begin = now_ms()
        assert isinstance(start_server(agents[N1]), OpSucceeded)
        print(f"the first server serves after {now_ms() - begin} ms")
        for node in (N1, N2, N3):
            agents[node].open(NO_SESSION)
        refused = start_server(agents[N2])
        assert isinstance(refused, OpFailed)
        assert refused.reason == "refused", "a second ensemble would be a second rack"
        begin = now_ms()
        assert isinstance(start_server(agents[N2], N1), OpSucceeded)
        assert isinstance(start_server(agents[N3], N1), OpSucceeded)
        print(f"two more have caught up after {now_ms() - begin} ms")
        grow(agents[N1])
        yield ensemble
    finally:
        for agent in agents.values():
            agent.port.close()
        ensemble.stop()


def grow(agent: Agent) -> None:
    """Let n2 and n3 vote, and see the mirror say so."""
    agent.send(fx.Mirror(path=ENSEMBLE, depth="one"))
    wait_until(lambda: voters(agent) == (N1,), 10, "the first configuration")
    now = configuration(agent)
    assert now is not None
    absent = agent.answer(
        agent.begin(fx.Reconfigure, joining=(NodeId("n4"),), leaving=(), config=now.config, ms_max=4_000)
    )
    assert isinstance(absent, OpFailed)
    assert absent.reason == "unavailable", "a server that does not run is not taken in"
    begin = now_ms()
    reconfigure(agent, joining=(N2, N3))
    print(f"reconfigured after {now_ms() - begin} ms")
    wait_until(lambda: voters(agent) == (N1, N2, N3), 10, "the new configuration")
    stale = agent.answer(agent.begin(fx.Reconfigure, joining=(), leaving=(N3,), config=now.config, ms_max=4_000))
    assert isinstance(stale, OpFailed)
    assert stale.reason == "conflict"


def configuration(agent: Agent) -> EnsembleRecord | None:
    found = [c.data for e in agent.of(RecordsChanged) for c in e.changes if isinstance(c.data, EnsembleRecord)]
    return found[-1] if found else None


def voters(agent: Agent) -> tuple[NodeId, ...]:
    found = configuration(agent)
    return found.voters if found is not None else ()


def operator(ensemble: Ensemble) -> Tls:
    pair = Pair.of(ensemble.folder / "tls", "operator")
    return Tls(ca=ensemble.folder / "ca" / "ca.pem", cert=pair.cert, key=pair.key)


def test_clients_follow_the_grown_ensemble_and_outlive_its_first_server(grown: Ensemble) -> None:
    with Agent(grown.configs[NodeId("n4")]) as agent:
        path = agent.register()
        grown.kill(N1)
        agent.settled(fx.Check(path=path, version=0))
        assert agent.port._link.kept.voters() == (N1, N2, N3), "the next agent knows where to look"
    again = serving_agent(grown, N1)
    try:
        assert isinstance(start_server(again), OpSucceeded), "a server that has its files needs no members"
        wait_until(lambda: grown.status(N1).serves, 20, "n1 serves")
    finally:
        again.port.close()


def test_nobody_without_a_certificate_of_the_rack_gets_an_answer(grown: Ensemble) -> None:
    address = grown.configs[N1].me.address
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.load_verify_locations(grown.folder / "ca" / "ca.pem")
    assert server.status(address, PORT, server.context(grown.configs[N2].tables.tls)).serves
    assert server.status(address, PORT, nobody).mode == ""
    assert server.status(address, PORT, None).mode == ""
    with Brief([f"127.0.0.1:{PORT + 1}"], None, 2_000) as plain:
        assert plain.get("/moxie")[0] != OK, "the plain port that ZooKeeper insists on lets nobody do anything"
    foreign = Authority(grown.folder / "other-ca")
    foreign.make()
    pair = Pair.of(grown.folder / "other", "n1")
    foreign.issue(pair, "n1", (address,))
    with pytest.raises(TimeoutError):
        Brief([grown.endpoint(N1)], Tls(ca=grown.folder / "ca" / "ca.pem", cert=pair.cert, key=pair.key), 1_500)


def test_a_record_of_one_node_is_written_by_no_other(grown: Ensemble) -> None:
    with Agent(grown.configs[N1]) as owner, Agent(grown.configs[N2]) as other:
        path = owner.register()
        lease = f"{LEASES}/db"
        held = LeaseRecord(node=N1, session=owner.session, epoch=1)  # type: ignore[arg-type]  # an epoch
        owner.committed(fx.Create(path=lease, data=held, ephemeral=True))
        spec = ServiceRecord(spec=ServiceSpec(name=ServiceName("db"), run="singleton"))
        denied: list[fx.Write] = [
            fx.Put(path=path, data=other.member(), version=0),
            fx.Remove(path=path, version=0),
            fx.Remove(path=session_path(owner.session), version=0),
            fx.Put(path=lease, data=held, version=0),
            fx.Create(path=service_path(ServiceName("db")), data=spec),
        ]
        for write in denied:
            answer = other.commit(fx.Check(path=path, version=0), write)
            assert isinstance(answer, OpFailed), write
            assert (answer.reason, answer.index, answer.retryable) == ("refused", 1, False)
        owner.committed(fx.Put(path=path, data=owner.member(), version=0), fx.Remove(path=lease, version=0))
        other.committed(
            fx.Create(path=node_path(N1), data=record()), fx.Put(path=node_path(N1), data=record(), version=0)
        )
        owner.committed(
            fx.Put(path=node_path(N1), data=record(), version=1), fx.Create(path=CLUSTER, data=ClusterRecord())
        )
        with Brief([grown.endpoint(N1)], operator(grown), 4_000) as brief:
            error, outcome = brief.commit([jute.create(service_path(ServiceName("db")), encode(spec), _readable())])
            assert (error, outcome and outcome.errors) == (OK, (OK,)), "the operator may"
        put = fx.Put(path=service_path(ServiceName("db")), data=spec, version=0)
        assert isinstance(refused := other.commit(put), OpFailed)
        assert refused.reason == "refused"
        with Brief([grown.endpoint(N1)], grown.configs[N2].tables.tls, 4_000) as brief:
            config = ensemble_of(owner).config
            assert brief.ask(jute.reconfigure("", "3", config)) == DENIED, "a certificate alone changes no ensemble"


def _readable() -> tuple[Grant, ...]:
    return (Grant(READ, "world", "anyone"),)


def test_a_steward_closes_anothers_session_over_tls(grown: Ensemble) -> None:
    took: list[int] = []
    with Agent(grown.configs[N2]) as steward:
        for _ in range(5):
            with Agent(grown.configs[N1]) as owner:
                path = owner.register()
            begin = now_ms()
            assert isinstance(steward.close_session(owner.session), OpSucceeded)
            took.append(now_ms() - begin)
            assert steward.read(path)[0].data is None
    print(f"closing a session over TLS: {took} ms")


def test_a_server_that_is_stopped_puts_its_files_aside_and_joins_anew(grown: Ensemble) -> None:
    with Agent(grown.configs[N1]) as first, serving_agent(grown, N3) as third:
        third.open(NO_SESSION)
        reconfigure(first, leaving=(N3,))
        assert isinstance(third.answer(third.begin(fx.StopServer)), OpSucceeded)
        assert not server.configured(grown.configs[N3])
        assert isinstance(start_server(third, *ensemble_of(first).voters), OpSucceeded)
        reconfigure(first, joining=(N3,))


def reconfigure(agent: Agent, joining: tuple[NodeId, ...] = (), leaving: tuple[NodeId, ...] = ()) -> None:
    """Change the voters, again until it shows: if the leader is taken away, or the machine is busy, nobody answers."""

    def done() -> bool:
        now = ensemble_of(agent)
        if all(node in now.voters for node in joining) and not any(node in now.voters for node in leaving):
            return True
        change = {"joining": joining, "leaving": leaving, "config": now.config}
        answer = agent.answer(agent.begin(fx.Reconfigure, **change, ms_max=8_000))
        assert isinstance(answer, OpSucceeded) or answer.reason in ("unanswered", "unavailable", "conflict"), answer
        return False

    wait_until(done, 60, "reconfigured")


def ensemble_of(agent: Agent) -> EnsembleRecord:
    (change,) = agent.read(ENSEMBLE)
    assert isinstance(change.data, EnsembleRecord)
    return change.data


def test_an_agent_with_beats_four_times_a_second_costs_little(grown: Ensemble) -> None:
    argv = [sys.executable, "-m", "tests.real.zookeeper_agent", str(grown.configs[N1].file)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        with Agent(grown.configs[N2]) as other:
            wait_until(lambda: other.read(f"{MEMBERS}/r1/n1")[0].data is not None, 20, "the agent runs")
        before, begin = used_ms(process.pid), time.monotonic()
        wait_until(lambda: time.monotonic() > begin + 5, 10)
        share = (used_ms(process.pid) - before) / (time.monotonic() - begin) / 10
        print(f"an agent with TLS and beats uses {share:.2f} % of a core")
        assert share < 3, "the figure on a quiet machine is below 1"
    finally:
        process.kill()
        process.wait()


def used_ms(pid: int) -> float:
    """Processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000 / os.sysconf("SC_CLK_TCK")
