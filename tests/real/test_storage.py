"""The storage port beside what the contract says: whether the storage is there, and openings that go wrong half-way."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import effects as fx
from core.events import AnyEvent, OpFailed, OpSucceeded, StorageSeen, VolumeOpened
from core.ids import BootId, Epoch, NodeId, OpId, ServiceName, VolumeName
from drivers.ceph import Ceph
from drivers.lab.ceph_local import LocalCluster
from drivers.storage import CephStorage
from drivers.volumes import Volumes
from drivers.wire import Attach, Attached, Detached
from tests.real.ceph_local import (
    PROGRAMS,
    VOLUME_PROGRAMS,
    NearKeeper,
    await_that,
    connected,
    running_cluster,
    table_of,
)
from tests.real.require import require

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("ceph")]

NODE, BOOT = NodeId("n1"), BootId("n1.1")
VOLUME = VolumeName("vol")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    require(*PROGRAMS, *VOLUME_PROGRAMS)
    with running_cluster((22_410, 22_420, 22_489), 22_490) as running:
        yield running


@pytest.fixture
def ceph(cluster: LocalCluster) -> Iterator[Ceph]:
    with connected(cluster) as link:
        link.ensure_volume(VOLUME, 64 << 20)
        yield link


@pytest.fixture
def volumes(cluster: LocalCluster, tmp_path: Path) -> Iterator[Volumes]:
    made = Volumes(table_of(cluster), tmp_path, NODE)
    yield made
    made.close()


def order(op: int, ms_max: int = 5_000) -> fx.OpenVolume:
    return fx.OpenVolume(op=OpId(op), service=ServiceName("db"), volume=VOLUME, epoch=Epoch(1), ms_max=ms_max)


def test_the_storage_is_seen_at_the_start_when_it_goes_and_when_it_comes_back(
    cluster: LocalCluster, ceph: Ceph, volumes: Volumes
) -> None:
    port = CephStorage(ceph, NearKeeper(volumes), NODE, BOOT)
    told: list[AnyEvent] = []
    port.watch(told.append, (VOLUME, VolumeName("nowhere")))
    await_that(lambda: len(told) == 1)
    daemons = [name for name in cluster.processes if name.startswith("osd.")]
    for name in daemons:
        cluster.signal(name, signal.SIGSTOP)
    try:
        await_that(lambda: len(told) == 2)
    finally:
        for name in daemons:
            cluster.signal(name, signal.SIGCONT)
    await_that(lambda: len(told) == 3, 30_000)
    port.close()
    assert [event.ok for event in told if isinstance(event, StorageSeen)] == [True, False, True]
    await_that(lambda: not cluster.cluster.pending(ceph.health()), 30_000)


class SlowKeeper(NearKeeper):
    """A supervisor that opens well but says so too late."""

    def __init__(self, volumes: Volumes, told: list[AnyEvent]) -> None:
        super().__init__(volumes)
        self.undone: list[Detached] = []
        self._told = told

    def attach(self, order: Attach) -> Attached:
        answer = super().attach(order)
        await_that(lambda: len(self._told) == 1)
        return answer

    def detach(self, order: object) -> Detached:
        self.undone.append(super().detach(order))  # type: ignore[arg-type] # it is what the port sends
        return self.undone[-1]


def test_an_opening_that_comes_too_late_is_closed_again(ceph: Ceph, volumes: Volumes) -> None:
    told: list[AnyEvent] = []
    keeper = SlowKeeper(volumes, told)
    port = CephStorage(ceph, keeper, NODE, BOOT)
    port.submit(order(1, ms_max=1_500), told.append)
    await_that(lambda: bool(keeper.undone))
    assert [type(event) for event in told] == [OpFailed]
    assert isinstance(told[0], OpFailed)
    assert told[0].reason == "unanswered"
    assert (keeper.undone[0].error, keeper.named) == ("", [])
    assert volumes.attached(VOLUME) is None


def test_a_reopening_by_the_same_node_takes_the_place_of_the_first(ceph: Ceph, volumes: Volumes) -> None:
    keeper = NearKeeper(volumes)
    port = CephStorage(ceph, keeper, NODE, BOOT)
    told: list[AnyEvent] = []
    for op in (1, 2):
        port.submit(order(op), told.append)
        await_that(lambda op=op: len(told) == op)  # type: ignore[misc] # mypy does not see the default
    found = [e.result.instance for e in told if isinstance(e, OpSucceeded) and isinstance(e.result, VolumeOpened)]
    assert len({instance.address for instance in found}) == 2
    assert [said.instance for said in keeper.named] == found


def test_a_storage_that_cannot_be_reached_is_unavailable_and_nothing_was_done(
    cluster: LocalCluster, volumes: Volumes, tmp_path: Path
) -> None:
    lost = Ceph(table_of(cluster, "nobody"))
    port = CephStorage(lost, NearKeeper(volumes), NODE, BOOT)
    told: list[AnyEvent] = []
    port.submit(order(1), told.append)
    await_that(lambda: len(told) == 1)
    assert isinstance(told[0], OpFailed)
    assert told[0].reason in ("refused", "unavailable")
    assert volumes.attached(VOLUME) is None
