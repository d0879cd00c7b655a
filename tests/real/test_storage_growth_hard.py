"""A rack grows with its storage and nobody helps: whole supervisors; a disk that is lost, a node that retires."""

import shutil
import signal
import threading
from collections.abc import Iterator

import pytest

from drivers.zookeeper_session import Kept
from tests.real.rack_on_loopback import wait_until
from tests.real.require import require
from tests.real.storage_rack import (
    FIRST,
    N2,
    N3,
    PROGRAMS,
    SECONDS_MAX,
    StorageRack,
    clean,
    grow_to_three,
    grown,
    quorum,
    storage_rack,
)

pytestmark = [pytest.mark.real, pytest.mark.hard, pytest.mark.xdist_group("storage_growth")]


CATALOG = """name = "quiet"
[[service]]
name = "netboot"
run = "everywhere"
process = { command = ["sleep", "86400"] }
"""
"""Nobody is booted here."""
KILLS = 12


@pytest.fixture
def rack() -> Iterator[StorageRack]:
    """Three nodes, of which none is anything yet."""
    require(*PROGRAMS)
    with storage_rack() as rack:
        yield rack


def test_two_nodes_that_join_make_a_storage_of_one_copy_one_of_three(rack: StorageRack) -> None:
    rack.begin(CATALOG)
    rack.list_nodes()
    rack.start(FIRST, "supervisor")
    operator = str(rack.folder / "n1/state/rack/operator/operator.toml")
    seed = ("init", "--seed-records", "--config", operator)
    wait_until(lambda: rack.rack(FIRST, *seed).returncode == 0, SECONDS_MAX, "the first records are written")
    wait_until(lambda: clean(rack), SECONDS_MAX, "its storage service has started what it needs")
    rack.rados(FIRST, "put", "before", "-", given=b"written to one copy")
    for node in (N2, N3):
        rack.join(node)
        config = rack.config(node)
        config.write_text(config.read_text().partition("\n[netboot]\n")[0])  # its image is nowhere: it boots nobody
        rack.start(node, "supervisor")
    kept = Kept(rack.folder / "n1/run", rack.folder / "n1/state")
    wait_until(lambda: len(kept.voters()) == 3, SECONDS_MAX, "three servers of ZooKeeper vote")
    wait_until(lambda: grown(rack), SECONDS_MAX, "the storage has followed")
    assert rack.rados(N3, "get", "before", "-") == b"written to one copy"
    said = rack.rack(FIRST, "status", "--config", operator).stdout
    print(said)
    assert "3 of 3 nodes are members" in said, said
    assert "3 of 3 monitors agree: n1 n2 n3" in said, said
    assert "pool rbd: 3 copies, a write needs 2" in said, said
    daemons = rack.daemons(FIRST)
    rack.stop(FIRST, signal.SIGKILL)
    assert rack.daemons(FIRST) == daemons, "the storage outlives the supervisor"
    rack.start(FIRST, "supervisor")
    wait_until(lambda: "storage" in rack.running(FIRST), SECONDS_MAX, "its storage service runs again")
    assert rack.daemons(FIRST) == daemons, "and finds what it started"


def test_a_service_that_is_killed_again_and_again_makes_each_thing_once(rack: StorageRack) -> None:
    rack.begin()
    rack.list_nodes()
    rack.vote(FIRST, N2, N3)
    rack.start(FIRST)
    wait_until(lambda: clean(rack), SECONDS_MAX, "one node has a storage")
    for node in (N2, N3):
        rack.join(node)
    for kill in range(KILLS):  # at another moment each time, from loading its modules to the end of a step
        for node in (N2, N3):
            rack.start(node)
        threading.Event().wait(0.8 + 0.35 * kill)
        for node in (N2, N3):
            rack.stop(node, signal.SIGKILL)
    for node in (N2, N3):
        rack.start(node)
    wait_until(lambda: grown(rack), SECONDS_MAX, "all is as if nobody had been killed")
    assert sorted(osd["osd"] for osd in rack.ask("osd", "dump")["osds"]) == [0, 1, 2], "no OSD was made twice"
    for node in rack.nodes:
        assert len(rack.daemons(node)) == 3, rack.daemons(node)
        assert not (rack.folder / node / "state/ceph/osd.json").exists()
    rack.rados(N2, "put", "before", "-", given=b"the power goes")
    for node in rack.nodes:
        rack.stop(node, signal.SIGKILL)
        rack.kill(node)
    for node in rack.nodes:
        rack.start(node)
    wait_until(lambda: grown(rack), SECONDS_MAX, "a rack that lost its power comes back by itself")
    assert rack.rados(N3, "get", "before", "-") == b"the power goes"


def test_a_lost_disk_is_replaced_and_a_node_that_retires_leaves_no_monitor(rack: StorageRack) -> None:
    grow_to_three(rack)
    rack.stop(N2, signal.SIGKILL)
    rack.kill(N2)
    shutil.rmtree(rack.folder / "n2/state/ceph")
    rack.start(N2)
    wait_until(lambda: quorum(rack) == [FIRST, N2, N3], SECONDS_MAX, "the monitor of n2 is made anew")
    wait_until(lambda: rack.ask("osd", "stat")["num_up_osds"] == 3, SECONDS_MAX, "n2 has a new OSD")
    rack.ask("osd", "out", rack.ask("osd", "tree", "down")["nodes"][-1]["name"])
    wait_until(lambda: clean(rack), SECONDS_MAX, "all copies are there again")
    rack.stop(N3, signal.SIGKILL)
    rack.kill(N3)
    rack.retire(N3)
    wait_until(lambda: quorum(rack) == [FIRST, N2], SECONDS_MAX, "two monitors are left")
    wait_until(lambda: rack.ask("mon", "stat")["num_mons"] == 2, SECONDS_MAX, "that of n3 is removed")
    assert rack.rados(N2, "get", "before", "-") == b"written to one copy"
