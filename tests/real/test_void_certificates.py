"""A retired node of the inventory on a real ZooKeeper: its certificate is void, also in a rack of an older version."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

import drivers.ca
from core.ids import DomainId, NodeId, RackId
from core.records import Lifecycle, NodeRecord, node_path
from drivers import retire
from drivers import zookeeper_server as server
from drivers.access import load_access
from drivers.ca import Pair
from drivers.config import Tls, load_config
from drivers.init import Plan, node_folder, operator_file, prepare
from drivers.join import published
from drivers.join.published import Follower, encode, kept_in, make
from drivers.join.revocation import revoked
from drivers.metrics import Metrics, MetricsServer
from drivers.revocable import make_revocable
from drivers.zookeeper_operator import Operator
from drivers.zookeeper_tree import REVOKED
from tests.real.zookeeper_agent import Agent
from tests.real.zookeeper_ensemble import PORT, Ensemble, wait_until
from tests.unit.made_rack import plan, view

pytestmark = [pytest.mark.real]

N1, N2 = NodeId("n1"), NodeId("n2")
METRICS_PORT = 21_091


class Rack:
    """A rack of two that ``rack init`` made, whose first node's server runs on loopback."""

    def __init__(self, folder: Path, subnet: int) -> None:
        tables = {"client_port": PORT, "quorum_port": PORT + 1, "election_port": PORT + 2, "heap_mib": 64}
        address = f"127.{subnet}.0"
        self.plan: Plan = plan(folder, 2, settings={"zookeeper": tables, "metrics": f"{address}.1:{METRICS_PORT}"})
        inventory = folder / "inventory.toml"
        inventory.write_text(inventory.read_text().replace("10.9.0", address), encoding="utf-8")
        (folder / "servers").mkdir()
        self.servers = Ensemble(folder / "servers", 1, subnet=subnet)
        self.shown: MetricsServer | None = None

    def made(self) -> None:
        """``rack init``, then what the node itself has of it."""
        prepare(self.plan)
        self.servers.configs[N1] = load_config(node_folder(self.plan.out, N1) / "node.toml")

    def show(self) -> None:
        """The first node's agent shows itself."""
        config = self.servers.configs[N1]
        metrics = Metrics(N1, "test")
        metrics.show(view("n1"))
        self.shown = MetricsServer(metrics, config.tables.metrics, lambda: server.shows_revocable(config))

    def restart(self) -> None:
        """The first node's server, anew."""
        if self.servers.runs(N1):
            self.servers.kill(N1)
        self.servers.start(N1)

    def serves(self, pair: Pair) -> bool:
        """Whether the server answers whoever shows this certificate."""
        tls = Tls(ca=self.plan.out / "ca" / "ca.pem", cert=pair.cert, key=pair.key)
        return server.status(self.servers.configs[N1].me.address, PORT, server.context(tls)).serves

    def pair(self, node: NodeId) -> Pair:
        """A node's own certificate."""
        return Pair.of(node_folder(self.plan.out, node) / "tls", "node")

    def write(self, node: NodeId, state: Lifecycle) -> None:
        """A node's lifecycle record, as the operator's command leaves it."""
        record = NodeRecord(node=node, rack=RackId("r1"), power_domain=DomainId("p1"), state=state)
        with Operator(load_access(operator_file(self.plan.out)).config) as operator:
            operator.prepare()
            if not operator.create(node_path(node), record):
                assert operator.put(node_path(node), record, operator.read(node_path(node)).version)

    def close(self) -> None:
        """End everything."""
        self.servers.stop()
        if self.shown is not None:
            self.shown.close()


@pytest.fixture
def rack(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rack]:
    """A rack with loopback addresses of its own."""
    one = Rack(tmp_path, request.param)
    yield one
    one.close()


@pytest.mark.parametrize("rack", [35], indirect=True)
def test_the_certificate_of_a_node_that_was_only_listed_is_void_on_every_node(
    rack: Rack, monkeypatch: pytest.MonkeyPatch
) -> None:
    rack.made()
    rack.servers.start(N1)
    rack.write(N2, Lifecycle.RETIRED)
    config, said = rack.servers.configs[N1], list[str]()
    file = server.revoked_file(config)
    monkeypatch.setattr(published, "LOOK_MS", 200)
    with Agent(config) as agent:
        Follower(config, agent.port.loop, agent.port.peek, REVOKED)
        assert rack.serves(rack.pair(N2))
        assert retire.finish(load_access(operator_file(rack.plan.out)), N2, 0, said.append), said
        void = x509.load_pem_x509_certificate(rack.pair(N2).cert.read_bytes()).serial_number
        wait_until(lambda: revoked(file) == {void}, 30, "the node has the list")
        kept = kept_in(config.tables.state_dir)
        assert kept is not None
        assert kept.nodes == (N2,)
        assert said[-1] == "1 certificates of n2 are void within a minute"
        stranger = encode(make(retire_authority(rack, "elsewhere"), ["aa"], [], 1 << 40))
        with Operator(load_access(operator_file(rack.plan.out)).config) as operator:
            assert operator.publish(stranger, operator.published()[1])
            assert REVOKED not in operator.tree(), "it is no record"
        rack.restart()
        assert not rack.serves(rack.pair(N2))
        assert rack.serves(rack.pair(N1)), "nobody else is refused"
    assert revoked(file) == {void}, "what another authority signed is not taken"
    rack.write(N2, Lifecycle.DISCOVERED)
    assert retire.take_back(load_access(operator_file(rack.plan.out)), N2, said.append)
    assert said[-1] == "the certificates of n2 count again within a minute"


def retire_authority(rack: Rack, name: str) -> drivers.ca.Authority:
    """Another authority than the rack's."""
    other = drivers.ca.Authority(rack.plan.out / name)
    other.make()
    return other


@pytest.mark.parametrize("rack", [36], indirect=True)
def test_a_rack_of_an_older_version_comes_to_a_list_without_shutting_anybody_out(
    rack: Rack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(drivers.ca, "_REVOKED_BY", x509.OCSPNoCheck())
        rack.made()
    for file in rack.plan.out.rglob("rack.crl"):
        file.unlink()
    old = Pair.of(rack.plan.out / "old", "node")
    old.cert.parent.mkdir()
    for copied, pair in ((old.cert, rack.pair(N2).cert), (old.key, rack.pair(N2).key)):
        copied.write_bytes(pair.read_bytes())
    rack.restart()
    rack.write(N2, Lifecycle.RETIRED)
    said: list[str] = []
    assert not retire.finish(load_access(operator_file(rack.plan.out)), N2, 0, said.append)
    assert "name no list, so that of n2 still counts" in said[-1]

    assert not make_revocable(rack.plan, said.append), "first the certificates"
    assert not make_revocable(rack.plan, said.append)
    assert said[-1].startswith("  n1: its agent does not answer")
    rack.show()
    assert not make_revocable(rack.plan, said.append)
    assert said[-1] == "  n1: its ZooKeeper server still shows its old certificate: restart the server"
    assert not list(rack.plan.out.rglob("rack.crl"))
    rack.restart()
    assert make_revocable(rack.plan, said.append), said
    assert revoked(server.revoked_file(rack.servers.configs[N1])) == frozenset()
    assert rack.serves(old), "until the server is restarted it takes whoever it took"

    assert retire.finish(load_access(operator_file(rack.plan.out)), N2, 0, said.append), said
    with Operator(load_access(operator_file(rack.plan.out)).config) as operator:
        data, _ = operator.published()
    config = rack.servers.configs[N1]
    with Agent(config) as agent:
        assert Follower(config, agent.port.loop, lambda *_: None, REVOKED).take(data)
    rack.restart()
    assert rack.serves(rack.pair(N1))
    assert not rack.serves(rack.pair(N2)), "revoked"
    assert not rack.serves(old), "it names no list"
    assert make_revocable(rack.plan, said.append), "again is harmless"
    assert (rack.plan.out / "nodes" / "n2" / "tls" / "rack.crl").exists()
