"""The rack's own storage grows by itself: real Ceph on nodes in namespaces, from one disk to three copies, and on."""

import signal
import time
from collections.abc import Iterator

import pytest

from drivers.ceph_cluster import OSD_USER, STORAGE_USER
from tests.real.require import require
from tests.real.storage_rack import (
    FIRST,
    N2,
    N3,
    PROGRAMS,
    StorageRack,
    grow_to_three,
    pool,
    quorum,
    storage_rack,
)

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("storage_growth")]


@pytest.fixture
def rack() -> Iterator[StorageRack]:
    """Three nodes, of which none is anything yet."""
    require(*PROGRAMS)
    with storage_rack() as rack:
        yield rack


def test_a_storage_of_one_grows_to_three_copies_and_outlives_a_node(rack: StorageRack) -> None:
    began = time.monotonic()
    grow_to_three(rack)
    print(f"grown after {time.monotonic() - began:.0f} s")
    assert len(rack.ask("osd", "tree")["nodes"]) == 1 + 3 + 3, "each OSD is on a host of its own"
    assert rack.rados(N3, "get", "before", "-") == b"written to one copy"
    for node in rack.nodes:
        assert "Traceback" not in rack.log(node)
        confs = [rack.folder / node / "state/ceph/ceph.conf", *(rack.folder / node / "etc").glob("ceph/ceph.conf")]
        assert all(conf.read_text().count("v2:10.254.0.") == 3 for conf in confs), "who starts anew finds all monitors"
    rack.stop(FIRST, signal.SIGKILL)
    assert rack.daemons(FIRST), "the daemons outlive the service"
    rack.kill(FIRST)
    rack.rados(N2, "put", "after", "-", given=b"written to two copies", seconds=120)
    assert rack.rados(N3, "get", "before", "-", seconds=120) == b"written to one copy"
    assert quorum(rack, on=N3) == [N2, N3]
    assert pool(rack, on=N3) == (3, 2), "nothing becomes smaller by a loss"
    assert keys_of_a_joined_node(rack) == {f"client.{STORAGE_USER}.keyring", f"client.{OSD_USER}.keyring", "keyring"}


def keys_of_a_joined_node(rack: StorageRack) -> set[str]:
    """Keys of the storage that a node has; all of them for root only."""
    found = list((rack.folder / N2 / "etc/ceph").glob("*keyring"))
    assert all(path.stat().st_mode & 0o77 == 0 for path in found)
    return {path.name for path in found}
