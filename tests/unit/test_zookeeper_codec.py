"""Bytes of records, the ensemble's configuration, errors, requests: what ZooKeeper and we say to each other."""

import struct
from pathlib import Path

import msgspec
import pytest

from core import effects as fx
from core.ids import DomainId, Epoch, Guid, NodeId, RackId, ServiceName, SessionId
from core.records import (
    CLUSTER,
    ENSEMBLE,
    LEASES,
    MEMBERS,
    NODES,
    SERVICES,
    UPGRADE,
    AnyRecord,
    ClusterRecord,
    EnsembleRecord,
    LeaseRecord,
    Lifecycle,
    NodeRecord,
    ServiceRecord,
    TermRecord,
    machine_path,
)
from core.specs import ServiceSpec
from drivers import zookeeper_jute as jute
from drivers.config import Machine, ZooKeeperTable
from drivers.zookeeper_codec import (
    DATA_BYTES_MAX,
    Failure,
    decode,
    encode,
    ensemble,
    failed_write,
    failure,
    member_line,
    server_number,
)
from drivers.zookeeper_mirrors import Seen
from drivers.zookeeper_records import Operations, Problem, Records
from drivers.zookeeper_session import Credential, Kept
from drivers.zookeeper_tree import (
    ALL,
    DELETE,
    READ,
    WRITE,
    containers,
    grants,
    servers_in_order,
    session_path,
    window,
)

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
MACHINES = {NodeId(f"n{n}"): Machine(id=f"n{n}", number=n, address=f"10.0.0.{n}") for n in range(1, 6)}
TABLE = ZooKeeperTable()
NODE = NodeRecord(node=N1, rack=RackId("r1"), power_domain=DomainId("p1"), state=Lifecycle.JOINED)


@pytest.mark.parametrize(
    "record",
    [
        NODE,
        ClusterRecord(joining=(N2, N3)),
        TermRecord(epoch=Epoch(3), holder=N1),
        LeaseRecord(node=N1, session=SessionId(-(1 << 63)), epoch=Epoch(1)),
        ServiceRecord(spec=ServiceSpec(name=ServiceName("db"), run="singleton")),
    ],
)
def test_a_record_reads_as_it_was_written(record: AnyRecord) -> None:
    read = decode(encode(record))
    assert read is not None
    assert read.record == record
    assert read.unknown == {}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"record": "from-the-future"}', b'{"record": "node"}'])
def test_bytes_that_are_no_record_of_ours_are_none(data: bytes) -> None:
    assert decode(data) is None


def test_fields_of_a_newer_version_survive_a_write_of_the_version_that_was_read_and_no_other() -> None:
    records = Records(N1, MACHINES, tls=False)
    built = msgspec.to_builtins(ServiceRecord(spec=ServiceSpec(name=ServiceName("db"), run="singleton")))
    built["aura"], built["spec"]["glow"] = {"a": [1]}, 7
    change = records.change(f"{SERVICES}/db", Seen(zxid=5, data=msgspec.json.encode(built), version=3))
    assert change is not None
    assert isinstance(change.data, ServiceRecord)
    put = fx.Put(path=f"{SERVICES}/db", data=change.data, version=3)
    assert written(records, put)["aura"] == {"a": [1]}
    assert written(records, put)["spec"]["glow"] == 7  # type: ignore[index]  # parsed JSON
    assert "aura" not in written(records, msgspec.structs.replace(put, version=4))


def written(records: Records, put: fx.Put) -> dict[str, object]:
    made = records.operations((put,))
    assert isinstance(made, Operations)
    (op,) = made.ops
    size = struct.unpack_from("!i", op.body)[0]
    length = struct.unpack_from("!i", op.body, 4 + size)[0]
    return msgspec.json.decode(op.body[8 + size : 8 + size + length], type=dict[str, object])


def test_a_transaction_that_cannot_succeed_is_not_sent() -> None:
    records = Records(N1, MACHINES, tls=False)
    any_version = records.operations((fx.Check(path="/a", version=0), fx.Remove(path="/b", version=-1)))
    assert isinstance(any_version, Problem)
    assert (any_version.failure.reason, any_version.index) == ("conflict", 1)
    large = msgspec.structs.replace(NODE, reason="x" * DATA_BYTES_MAX)
    too_large = records.operations((fx.Create(path="/a", data=large),))
    assert isinstance(too_large, Problem)
    assert (too_large.failure.reason, too_large.failure.retryable) == ("refused", False)


def test_versions_are_what_each_write_leaves() -> None:
    writes = (
        fx.Check(path="/a", version=4),
        fx.Create(path="/b", data=NODE),
        fx.Put(path="/c", data=NODE, version=6),
        fx.Remove(path="/d", version=2),
    )
    made = Records(N1, MACHINES, tls=False).operations(writes)
    assert isinstance(made, Operations)
    assert made.versions == (4, 0, 7, 0)


def test_the_ensembles_configuration_names_nodes_and_survives_strangers() -> None:
    text = "\n".join([
        *(member_line(MACHINES[node], TABLE, tls=False) for node in (N3, N1)),
        "server.9=10.0.0.9:2888:3888:participant;10.0.0.9:2281",
        "server.2=10.0.0.2:2888:3888:observer",
        "version=10000002a",
    ])  # fmt: skip
    voters = (N1, N3, NodeId("server.9"))
    assert ensemble(text.encode(), MACHINES) == EnsembleRecord(config=0x10000002A, voters=voters)
    assert [server_number(node, MACHINES) for node in (*voters, NodeId("x"))] == [1, 3, 9, None]
    assert ensemble(b"nothing of the kind", MACHINES) is None
    assert Records(N1, MACHINES, tls=True).change(ENSEMBLE, Seen(zxid=1, data=text.encode())) is not None


def test_with_tls_a_members_plain_port_is_on_loopback_and_ipv6_is_bracketed() -> None:
    assert member_line(MACHINES[N1], TABLE, tls=True) == "server.1=10.0.0.1:2888:3888:participant;127.0.0.1:2282"
    six = Machine(id="six", number=6, address="fd00::6")
    assert member_line(six, TABLE, tls=False) == "server.6=[fd00::6]:2888:3888:participant;[fd00::6]:2281"


def test_the_write_that_failed_a_transaction_is_found_among_those_that_only_were_rolled_back() -> None:
    assert failed_write((0, 0, 0)) is None
    index, why = failed_write((0, -103, -2)) or (-1, Failure(reason="failed", detail=""))
    assert (index, why.reason) == (1, "conflict")
    assert [failure(code).reason for code in (-4, -112, -118, -13, -102, -9_999)] == [
        "unanswered", "session", "unavailable", "unavailable", "refused", "failed"
    ]  # fmt: skip


def test_answers_of_the_server_are_read() -> None:
    stat = struct.pack("!qqqqiiiqiiq", 1, 22, 0, 0, 5, 0, 0, -7, 3, 2, 0)
    answer = b"head" + struct.pack("!i", 3) + b"abc" + stat
    assert jute.read_get(answer, 4) == Seen(zxid=22, data=b"abc", version=5, owner=SessionId(-7), children=2)
    names = struct.pack("!ii", 2, 1) + b"a" + struct.pack("!i", 2) + b"bc"
    assert jute.read_children(names, 0) == ("a", "bc")
    head = struct.Struct("!iBi")
    multi = head.pack(1, 0, -1) + struct.pack("!i", 2) + b"/a" + head.pack(5, 0, -1) + stat + head.pack(13, 0, -1)
    multi += head.pack(-1, 0, -1) + struct.pack("!i", -110) + head.pack(-1, 1, -1)
    assert jute.read_transaction(multi, 0) == (0, 0, 0, -110)
    assert jute.read_event(struct.pack("!iii", 3, 3, 2) + b"/a", 0) == (3, "/a")


def test_no_secret_is_shown_by_what_carries_it(tmp_path: Path) -> None:
    assert "secret" not in repr(jute.authenticate("digest", "super:secret"))
    assert "7365" not in repr(Credential(SessionId(5), b"secret"))
    kept = Kept(tmp_path / "run", tmp_path / "state")
    assert kept.session == 0
    kept.keep(Credential(SessionId(-5), b"secret"))
    assert (tmp_path / "run" / "session").stat().st_mode & 0o777 == 0o600
    again = Kept(tmp_path / "run", tmp_path / "state").credential()
    assert again is not None
    assert (again.session, again.password) == (-5, b"secret")
    (tmp_path / "run" / "session").write_bytes(b"half")
    assert kept.session == 0
    kept.keep_voters((N1, N2))
    assert kept.voters() == (N1, N2)


def test_with_tls_what_a_node_says_of_itself_is_written_by_no_other() -> None:
    for path in (f"{MEMBERS}/r1/n1", f"{LEASES}/db", session_path(SessionId(3))):
        assert {grant.scheme: grant.rights for grant in grants(path, N1, tls=True)} == {
            "world": READ,
            "x509": READ | WRITE,
        }
        assert grants(path, N1, tls=True)[1].id == "CN=n1,O=rack"
    assert [grant.rights for grant in grants(f"{SERVICES}/db", N1, tls=True)] == [READ]
    assert [grant.rights for grant in grants(CLUSTER, N1, tls=True)] == [READ | WRITE]
    assert [grant.rights for grant in grants(UPGRADE, N1, tls=True)] == [READ | WRITE]
    assert [grant.rights for grant in grants(machine_path(Guid("00ff")), N1, tls=True)] == [READ | WRITE]
    assert not any(grant.rights & DELETE for grant in grants("/moxie/machines", N1, tls=True))
    assert not any(grant.rights & DELETE for grant in grants(f"{MEMBERS}/r1", N1, tls=True))
    assert not any(grant.rights & DELETE for grant in grants(NODES, N1, tls=True))
    assert [grant.rights for grant in grants(NODES, N1, tls=False)] == [ALL]


def test_containers_come_after_their_parents() -> None:
    paths = containers(MACHINES)
    assert paths[0] == "/moxie"
    assert paths.index(MEMBERS) < paths.index(f"{MEMBERS}/r1")


def test_session_paths_are_the_same_for_negative_ids() -> None:
    assert session_path(SessionId(-1)) == "/moxie/sessions/ffffffffffffffff"
    assert session_path(SessionId(0x10000)) == "/moxie/sessions/0000000000010000"


def test_a_node_tries_its_own_server_first_and_the_others_in_an_order_of_its_own() -> None:
    voters = (N1, N2, N3)
    orders = {node: servers_in_order(node, MACHINES, voters) for node in MACHINES}
    for node in voters:
        assert orders[node][0] == node
        assert set(orders[node][:3]) == set(voters)
    assert set(orders[NodeId("n5")][:3]) == set(voters), "a node without a voter begins with the voters"
    assert len({order[-2:] for order in orders.values()}) > 1


def test_while_no_voter_answers_everybody_is_tried_in_turn() -> None:
    order = tuple(NodeId(f"n{n}") for n in range(40))
    assert window(order, 3, 0) == order[:3]
    seen = {node for turn in range(1, 10) for node in window(order, 3, turn)}
    assert seen == set(order)
    assert all(len(window(order, 3, turn)) <= 8 for turn in range(20))
    assert {node for turn in range(6) for node in window(order, 0, turn)} == set(order)
    assert window(order[:2], 0, 7) == order[:2]
    assert window((), 0, 0) == ()
