"""A retired node on real servers: ZooKeeper takes its certificate no more, and Ceph forgets its OSD, and no other."""

import signal
import socket
from pathlib import Path

import pytest
from cryptography import x509

from core.gate import Gate
from core.ids import DomainId, Guid, NodeId, RackId
from core.records import MachineRecord
from drivers import retire
from drivers import zookeeper_server as server
from drivers.ca import Authority, Pair
from drivers.ceph import Ceph
from drivers.config import CephTable, Tls
from drivers.join.cut import cut_off
from drivers.join.revocation import RetiredMachines, Revoker
from drivers.roster import FILE, encode
from tests.real.ceph_local import PROGRAMS, await_that, running_cluster
from tests.real.require import require
from tests.real.zookeeper_ensemble import PORT, Ensemble, wait_until

pytestmark = [pytest.mark.real]

READ_AGAIN_S = 30
"""After this at the latest a JVM looks at its list of revoked certificates again."""


def test_a_retired_nodes_certificate_opens_zookeeper_no_more(tmp_path: Path) -> None:
    ensemble = Ensemble(tmp_path, 1, tls=True, subnet=33)
    (n1,) = ensemble.nodes
    config = ensemble.configs[n1]
    authority = Authority(tmp_path / "ca")
    folder = tmp_path / "state"
    folder.mkdir()
    pairs = {node: Pair.of(tmp_path / "joined", node) for node in ("n6", "n7")}
    for node, pair in pairs.items():
        authority.issue(pair, node, ("127.33.0.6",))
    serial = x509.load_pem_x509_certificate(pairs["n6"].cert.read_bytes()).serial_number

    def serves(node: str) -> bool:
        pair = pairs[node]
        tls = Tls(ca=authority.cert, cert=pair.cert, key=pair.key)
        return server.status(config.me.address, PORT, server.context(tls)).serves

    gone = MachineRecord(
        guid=Guid("11111111-2222-3333-4444-555555555506"),
        bmc="10.98.1.6:623",
        rack=RackId("r1"),
        power_domain=DomainId("p1"),
        node=NodeId("n6"),
        number=6,
        retired=True,
        certificates=(f"{serial:x}",),
    )
    revoker, gate = Revoker(RetiredMachines(folder), authority, server.revoked_file(config)), Gate()
    try:
        ensemble.start(n1)
        revoker.look(gate)
        assert serves("n6")
        assert serves("n7")
        (folder / FILE).write_bytes(encode([gone]))
        revoker.look(gate)
        wait_until(lambda: not serves("n6"), READ_AGAIN_S + 15, "n6 is refused")
        assert serves("n7"), "nobody else is"
        assert ensemble.status(n1).serves
    finally:
        ensemble.stop()


def test_what_a_retired_node_has_open_is_cut_and_nothing_else(tmp_path: Path) -> None:
    require("ss")
    config = Ensemble(tmp_path, 2, subnet=34).configs[NodeId("n1")]
    with socket.create_server((config.me.address, PORT)) as listener:

        def connected(address: str) -> socket.socket:
            return socket.create_connection(listener.getsockname(), 10, source_address=(address, 0))

        with connected("127.34.0.2") as theirs, connected("127.34.0.9") as others:
            links = [listener.accept()[0] for _ in range(2)]
            cut_off(config, NodeId("n2"))
            with pytest.raises(ConnectionResetError):
                theirs.recv(1)
            others.sendall(b"x")
            for link in links:
                link.close()
    cut_off(config, NodeId("nobody"))


def is_clean(ceph: Ceph) -> bool:
    """Whether every placement group has all its copies."""
    return [state["state_name"] for state in ceph.health()["pgmap"]["pgs_by_state"]] == ["active+clean"]


@pytest.mark.xdist_group("ceph")
def test_the_storage_forgets_the_osd_of_a_retired_node_once_nothing_is_lost_with_it() -> None:
    require(*PROGRAMS)
    with running_cluster((22_210, 22_220, 22_299), 22_290) as cluster:
        ceph = Ceph(CephTable(conf=cluster.cluster.conf, user="admin"))
        ceph.connect()
        try:
            ceph.command("osd pool set", pool="rbd", var="size", val="2")
            said: list[str] = []
            assert not retire.forget(ceph, NodeId("h2"), {}, 0, said.append)
            assert "osd.2 waits: it is up: switch the machine off" in said
            cluster.signal("osd.2", signal.SIGKILL)
            await_that(lambda: not next(osd for osd in ceph.osds() if osd.id == 2).up, 40_000)
            assert retire.forget(ceph, NodeId("h2"), {}, 60_000, said.append), said
            print("\n".join(said))
            assert [osd.id for osd in ceph.osds()] == [0, 1]
            assert "h2" not in {node["name"] for node in ceph.command("osd tree")["nodes"]}
            assert "osd.2" not in str(ceph.command("auth ls"))
            await_that(
                lambda: ceph.health()["pgmap"].get("pgs_by_state", [{}])[0].get("state_name") == "active+clean", 30_000
            )
        finally:
            ceph.close()
