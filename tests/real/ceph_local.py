"""A small real cluster on loopback for a module of tests, and what tests of volumes need beside it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from drivers.ceph import Ceph
from drivers.ceph_cluster import CephSettings
from drivers.config import CephTable
from drivers.lab.ceph_local import LocalCluster
from drivers.volumes import Volumes
from drivers.wire import Attach, Attached, Detach, Detached, Name

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "ceph-mgr", "setpriv")
VOLUME_PROGRAMS = ("qemu-storage-daemon", "losetup", "mkfs.ext4", "mount", "umount")
GRACE_S = 4


@contextmanager
def running_cluster(ports: tuple[int, int, int], prepare_port: int) -> Iterator[LocalCluster]:
    """Run one monitor, three OSDs in memory and a mgr."""
    with TemporaryDirectory(prefix="mx-ceph-") as folder:
        settings = CephSettings(store="memstore", monitors=1, grace_s=GRACE_S, ports=ports, prepare_port=prepare_port)
        cluster = LocalCluster(Path(folder) / "cluster", settings)
        cluster.up()
        try:
            yield cluster
        finally:
            cluster.down()


def table_of(cluster: LocalCluster, node: str = "h0") -> CephTable:
    """What a node's configuration says about this cluster."""
    return CephTable(conf=cluster.cluster.conf, user=f"moxie-{node}")


@contextmanager
def connected(cluster: LocalCluster) -> Iterator[Ceph]:
    """A connection with no more rights than a node has."""
    ceph = Ceph(table_of(cluster))
    ceph.connect()
    try:
        yield ceph
    finally:
        ceph.close()


def await_that(what: Callable[[], bool], ms_max: int = 10_000) -> None:
    """Wait until something holds; fail if it does not in time."""
    until = monotonic() + ms_max / 1_000
    while not what():
        assert monotonic() < until, f"did not come true within {ms_max} ms"
        sleep(0.01)


class NearKeeper:
    """A supervisor reduced to its volumes, asked directly instead of over its socket."""

    def __init__(self, volumes: Volumes) -> None:
        self.volumes = volumes
        self.named: list[Name] = []

    def attach(self, order: Attach) -> Attached:
        found = self.volumes.attach(order.volume, order.service, order.epoch, order.ms_max)
        return Attached(op=order.op, error=getattr(found, "detail", ""))

    def detach(self, order: Detach) -> Detached:
        return Detached(op=order.op, error=self.volumes.detach(order.volume, order.epoch, order.ms_max))

    def name(self, order: Name) -> None:
        self.named.append(order)
