"""The real arm of the storage port's suite: a small Ceph cluster and two nodes, each in its own network namespace."""

import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from core.ids import BootId, NodeId, VolumeName
from core.ports import StoragePort
from core.records import Instance
from drivers.ceph import Ceph
from drivers.ceph_cluster import CephSettings
from drivers.config import CephTable
from drivers.lab.ceph_local import LocalCluster
from drivers.lab.shell import enter, inside
from drivers.storage import CephStorage
from drivers.volumes import Volumes
from tests.real.ceph_local import PROGRAMS, VOLUME_PROGRAMS, NearKeeper, await_that
from tests.real.require import require

INFRA, NET = "mxci", "10.97.7"
CLIENTS = {NodeId("n1"): "mxc1", NodeId("n2"): "mxc2"}
WRITE_MS_MAX = 1_000


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True)


def _make_network() -> None:
    _remove_network()
    _ip("netns", "add", INFRA)
    _ip("-n", INFRA, "link", "set", "lo", "up")
    _ip("-n", INFRA, "link", "add", "br0", "type", "bridge")
    _ip("-n", INFRA, "addr", "add", f"{NET}.254/24", "dev", "br0")
    _ip("-n", INFRA, "link", "set", "br0", "up")
    for number, netns in enumerate(CLIENTS.values(), start=1):
        _ip("netns", "add", netns)
        _ip("-n", INFRA, "link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", netns)
        _ip("-n", INFRA, "link", "set", f"v{number}", "master", "br0", "up")
        _ip("-n", netns, "addr", "add", f"{NET}.{number}/24", "dev", "eth0")
        _ip("-n", netns, "link", "set", "lo", "up")
        _ip("-n", netns, "link", "set", "eth0", "up")


def _remove_network() -> None:
    for netns in (INFRA, *CLIENTS.values()):
        subprocess.run(("ip", "netns", "del", netns), check=False, stderr=subprocess.DEVNULL)


def _connect_from(netns: str, ceph: Ceph) -> None:
    """Connect from a namespace: threads belong to one each, and the library's inherit that of who connects."""
    failed: list[Exception] = []

    def connect() -> None:
        try:
            enter(netns)
            ceph.connect(10_000)
        except Exception as error:  # noqa: BLE001 - carried to the test's own thread
            failed.append(error)

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


class CephFloor:
    """What all tests of the suite share: the namespaces and the cluster."""

    def __init__(self) -> None:
        require(*PROGRAMS, *VOLUME_PROGRAMS, "ip", "nsenter")
        self._exit = ExitStack()
        folder = self._exit.enter_context(TemporaryDirectory(prefix="mx-ceph-"))
        self._exit.callback(_remove_network)
        try:
            _make_network()
            settings = CephSettings(store="memstore", monitors=1, ports=(22_310, 22_320, 22_399), prepare_port=22_390)
            place = Path(folder) / "cluster"
            self.cluster = LocalCluster(place, settings, 3, f"{NET}.254", inside(INFRA, ()))
            self.cluster.up()
            self._exit.callback(self.cluster.down)
        except BaseException:
            self._exit.close()
            raise

    def close(self) -> None:
        self._exit.close()


class CephWorld:
    """One volume that nobody has opened yet, and the two nodes' ports."""

    def __init__(self, floor: CephFloor, folder: Path, volume: VolumeName) -> None:
        self._cluster = floor.cluster
        self._exit = ExitStack()
        self._volumes: dict[NodeId, Volumes] = {}
        self._ports: dict[NodeId, CephStorage] = {}
        self.volume = volume
        for node, netns in CLIENTS.items():
            conf = self._cluster.cluster.conf
            table = CephTable(conf=conf, user=f"moxie-h{len(self._ports)}")
            ceph = Ceph(table)
            _connect_from(netns, ceph)
            self._exit.callback(ceph.close)
            ceph.ensure_volume(volume, 64 << 20)
            self._volumes[node] = Volumes(table, folder / node, node, inside(netns, ()))
            self._exit.callback(self._volumes[node].close)
            port = CephStorage(ceph, NearKeeper(self._volumes[node]), node, BootId(f"{node}.1"))
            self._ports[node] = port
            self._exit.callback(port.close)

    def port(self, node: NodeId) -> StoragePort:
        return self._ports[node]

    def write(self, instance: Instance) -> str:
        volumes = self._volumes[instance.node]
        if volumes.attached(self.volume) is None:
            return "refused"  # nothing is left that could write
        outcome = volumes.probe(self.volume, instance.epoch, WRITE_MS_MAX)
        return "unanswered" if outcome == "failed" else outcome

    def wait(self, ms: int, until: Callable[[], bool]) -> None:
        await_that(until, ms + 1_000)

    def lose_quorum(self) -> None:
        self._cluster.signal("mon.h0", signal.SIGSTOP)
        self._exit.callback(self._cluster.signal, "mon.h0", signal.SIGCONT)

    def cut_off(self, node: NodeId) -> None:
        netns = CLIENTS[node]
        _ip("-n", netns, "link", "set", "eth0", "down")
        self._exit.callback(_ip, "-n", netns, "link", "set", "eth0", "up")

    def close(self) -> None:
        self._exit.close()
