"""Parts of the lab that need no lab: its layout, its rules in the switch, its timeline, what it waits for."""

from pathlib import Path

import pytest

from core.errors import InputError
from core.ids import DomainId, Epoch, NodeId, RackId, ServiceName, SessionId
from core.records import (
    CLUSTER,
    ENSEMBLE,
    AnyRecord,
    Change,
    ClusterRecord,
    EnsembleRecord,
    LeaseRecord,
    Lifecycle,
    MemberRecord,
    NodeRecord,
    TermRecord,
    lease_path,
    member_path,
    node_path,
    term_path,
)
from core.specs import ServiceSpec
from core.view import NodeView, ServiceView
from drivers.clock import now_ms
from drivers.lab import network
from drivers.lab.build import equal_nodes, nodes_of
from drivers.lab.converge import waiting
from drivers.lab.layout import Layout, read_layout, write_layout
from drivers.lab.timeline import Timeline
from drivers.rack_state import Heard, RackState, Server
from formats.rack import load_rack

N1, N2 = NodeId("n1"), NodeId("n2")
DB, DNS = ServiceName("mariadb"), ServiceName("dns")
SERVICES = (
    ServiceSpec(name=DNS, run="everywhere"),
    ServiceSpec(name=DB, run="singleton"),
)


def layout(folder: Path, count: int = 3) -> Layout:
    return Layout(name="mxunit", folder=folder, nodes=equal_nodes(count), vips=("10.40.0.10",))


# -- layout ------------------------------------------------------------------------------------------------------------


def test_a_lab_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    write_layout(layout(tmp_path))
    assert read_layout(tmp_path) == layout(tmp_path)


def test_a_folder_without_a_lab_has_none(tmp_path: Path) -> None:
    assert read_layout(tmp_path) is None


def test_a_broken_state_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "lab.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="needed: the state file of a lab"):
        read_layout(tmp_path)


def test_nodes_of_a_rack_keep_their_names_and_power_domains() -> None:
    nodes = nodes_of(load_rack(Path("racks/five.toml")))
    assert [(node.id, node.number, node.power_domain) for node in nodes][:3] == [
        ("n1", 1, "p1"),
        ("n2", 2, "p1"),
        ("n3", 3, "p2"),
    ]
    assert all(node.memory_gib == 256 for node in nodes)


def test_a_server_that_is_carried_in_later_is_not_plugged() -> None:
    nodes = nodes_of(load_rack(Path("racks/six.toml")))
    assert [node.id for node in nodes if not node.plugged] == ["n6"]


def test_no_two_nodes_share_an_address_or_a_cable(tmp_path: Path) -> None:
    nodes = layout(tmp_path, 9).nodes
    names = [
        name
        for node in nodes
        for name in (node.data_address, node.management_address, node.bmc_address, node.mac, node.data_port)
    ]
    assert len(set(names)) == len(names)


# -- rules in the switch -----------------------------------------------------------------------------------------------


def test_a_partition_drops_what_goes_from_each_sender_to_the_receivers_but_no_storage(tmp_path: Path) -> None:
    one, two, three = layout(tmp_path).nodes
    rules = network.between((one,), (two, three), "data")
    assert len(rules) == 2
    assert all(rule.startswith("iifname data1 ether daddr { 02:98:00:00:00:02, 02:98:00:00:00:03 }") for rule in rules)
    assert f"tcp dport != {network.STORAGE_PORTS}" in rules[0]


def test_a_partition_from_nobody_drops_nothing(tmp_path: Path) -> None:
    assert network.between(layout(tmp_path).nodes, (), "data") == []
    assert network.to_bmcs(layout(tmp_path).nodes, ()) == []


def test_a_storage_cut_drops_both_ways_at_either_port(tmp_path: Path) -> None:
    rules = network.around(layout(tmp_path).nodes[1], "storage")
    assert [rule.split(" tcp ")[0] for rule in rules] == [
        "iifname data2",
        "iifname data2",
        "iifname != data2 ether daddr 02:98:00:00:00:02",
        "iifname != data2 ether daddr 02:98:00:00:00:02",
    ]


def test_a_cut_from_bmcs_names_their_addresses(tmp_path: Path) -> None:
    one, two, _three = layout(tmp_path).nodes
    assert network.to_bmcs((one,), (two,)) == ["iifname mgmt1 ip daddr { 10.98.1.102 }"]


# -- the timeline ------------------------------------------------------------------------------------------------------


def test_callbacks_run_in_order_of_time_and_cancelled_ones_do_not() -> None:
    timeline, seen = Timeline(), []
    now = now_ms()
    timeline.at(now + 30, lambda: seen.append("later"))
    timeline.at(now + 10, lambda: seen.append("sooner"))
    timeline.at(now + 20, lambda: seen.append("never")).cancel()
    assert timeline.run_until(now + 1_000, lambda: len(seen) == 2)
    assert (seen, timeline.busy) == (["sooner", "later"], False)


def test_time_passes_no_longer_than_its_end() -> None:
    timeline = Timeline()
    timeline.at(now_ms() + 60_000, lambda: pytest.fail("too early"))
    assert not timeline.run_until(now_ms() + 40)
    assert timeline.busy
    timeline.clear()
    assert not timeline.busy


# -- convergence -------------------------------------------------------------------------------------------------------


def rack(**changes: AnyRecord | None) -> RackState:
    """A rack of two nodes that has converged, but for ``changes`` of records by short names."""
    records: dict[str, AnyRecord] = {
        CLUSTER: ClusterRecord(ensemble_size=1),
        ENSEMBLE: EnsembleRecord(config=1, voters=(N1,)),
        lease_path(DB): LeaseRecord(node=N1, session=SessionId(1), epoch=Epoch(1)),
        term_path(DB): TermRecord(epoch=Epoch(1), holder=N1, serving=True),
    }
    for node in (N1, N2):
        home = (RackId("r1"), DomainId("p1"))
        records[node_path(node)] = NodeRecord(node=node, rack=home[0], power_domain=home[1], state=Lifecycle.JOINED)
        records[member_path(home[0], node)] = MemberRecord(
            node=node,
            session=SessionId(1),
            boot_id="b",  # type: ignore[arg-type]  # plain texts are ids
            rack=home[0],
            power_domain=home[1],
            weight=100,
            cores=8,
            memory_bytes=1 << 30,
        )
    short = {"lease": lease_path(DB), "term": term_path(DB), "member": member_path(RackId("r1"), N2)}
    short |= {"node": node_path(N2), "cluster": CLUSTER}
    for name, record in changes.items():
        records.pop(short[name])
        if record is not None:
            records[short[name]] = record
    return RackState(
        at="",
        nodes=(N1, N2),
        services=SERVICES,
        records={path: Change(path=path, zxid=1, data=record) for path, record in records.items()},
        agents={N1: Heard(view=_view(N1, (DNS, DB))), N2: Heard(view=_view(N2, (DNS,)))},
        servers={N1: Server(mode="leader"), N2: Server(error="no answer")},
    )


def _view(node: NodeId, running: tuple[ServiceName, ...]) -> NodeView:
    return NodeView(
        node=node,
        at_ms=0,
        session=SessionId(1),
        joined=True,
        lifecycle=Lifecycle.JOINED,
        members=2,
        brake=False,
        services=tuple(ServiceView(name=name, state="serving", serving=True) for name in running),
        wards=(),
    )


def test_a_rack_in_which_everything_serves_waits_for_nothing(tmp_path: Path) -> None:
    assert waiting(layout(tmp_path, 2), rack()) == ()


def test_a_node_that_is_no_member_is_waited_for_unless_it_is_spare(tmp_path: Path) -> None:
    gone = NodeRecord(node=N2, rack=RackId("r1"), power_domain=DomainId("p1"), state=Lifecycle.LOST)
    found = waiting(layout(tmp_path, 2), rack(member=None, node=gone))
    assert found == ("n2 is not a member: it is lost",)
    assert waiting(layout(tmp_path, 2), rack(member=None, node=gone), (N2,)) == ()


def test_a_node_in_maintenance_is_where_it_should_be(tmp_path: Path) -> None:
    aside = NodeRecord(node=N2, rack=RackId("r1"), power_domain=DomainId("p1"), state=Lifecycle.MAINTENANCE)
    assert waiting(layout(tmp_path, 2), rack(member=None, node=aside)) == ()


def test_a_singleton_without_a_lease_or_not_serving_yet_is_waited_for(tmp_path: Path) -> None:
    assert waiting(layout(tmp_path, 2), rack(lease=None)) == ("mariadb serves nowhere; its lease is free",)
    early = TermRecord(epoch=Epoch(2), holder=N1)
    assert waiting(layout(tmp_path, 2), rack(term=early)) == ("mariadb does not serve yet on n1, epoch 2",)


def test_an_ensemble_that_changes_is_waited_for(tmp_path: Path) -> None:
    changing = ClusterRecord(ensemble_size=1, joining=(N2,))
    assert waiting(layout(tmp_path, 2), rack(cluster=changing)) == ("a change of the ZooKeeper ensemble is under way",)


def test_a_rack_that_nobody_answers_for_has_no_quorum(tmp_path: Path) -> None:
    dark = RackState(at="", nodes=(), services=(), records={}, agents={}, servers={})
    assert waiting(layout(tmp_path, 2), dark) == ("the ZooKeeper ensemble has no quorum",)
