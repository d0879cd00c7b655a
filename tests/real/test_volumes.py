"""Volumes on a real cluster: opening writes nothing, beats tell the truth, fences bite, nothing is left behind."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from time import monotonic

import pytest

from core.ids import Epoch, NodeId, ServiceName, VolumeName
from drivers.ceph import Ceph
from drivers.guard_block import AREA_BYTES
from drivers.lab.ceph_local import LocalCluster
from drivers.volumes import Attachment, Trouble, Volumes
from tests.real.ceph_local import PROGRAMS, VOLUME_PROGRAMS, await_that, connected, running_cluster, table_of
from tests.real.require import require

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("ceph")]

DB, NODE = ServiceName("db"), NodeId("n1")
HOUR_MS = 3_600_000
SIZE_BYTES = 256 << 20
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    require(*PROGRAMS, *VOLUME_PROGRAMS)
    with running_cluster((22_210, 22_220, 22_299), 22_290) as running:
        yield running


@pytest.fixture(scope="module")
def ceph(cluster: LocalCluster) -> Iterator[Ceph]:
    with connected(cluster) as link:
        yield link


@pytest.fixture
def volume(ceph: Ceph, request: pytest.FixtureRequest) -> VolumeName:
    name = VolumeName(request.node.name.removeprefix("test_")[:40])
    ceph.ensure_volume(name, SIZE_BYTES)
    return name


@pytest.fixture
def volumes(cluster: LocalCluster, tmp_path: Path) -> Iterator[Volumes]:
    made = Volumes(table_of(cluster), tmp_path, NODE)
    yield made
    made.close()
    await_that(lambda: left_behind(tmp_path) == [])


def left_behind(folder: Path) -> list[str]:
    """List mounts, loop devices and processes that have a path below a folder."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]
    loops = [str(loop) for loop in Path("/sys/block").glob("loop*/loop/backing_file") if str(folder) in read(loop)]
    commands = [path for path in Path("/proc").glob("[0-9]*/cmdline") if f"{folder}/" in read(path)]
    return mounts + loops + [str(path) for path in commands if str(os.getpid()) not in path.parts]


def read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def attached(volumes: Volumes, volume: VolumeName, epoch: int = 1) -> Attachment:
    found = volumes.attach(volume, DB, Epoch(epoch), 10_000)
    assert isinstance(found, Attachment), found
    return found


def mounted(volumes: Volumes, volume: VolumeName) -> Path:
    found = volumes.mount(volume, 20_000)
    assert isinstance(found, Path), found
    return found


def commit(folder: Path, text: str) -> None:
    """Append a line durably. Raises: OSError."""
    handle = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(handle, text.encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def lockers(cluster: LocalCluster, volume: VolumeName) -> str:
    words = ("rbd", "-c", str(cluster.cluster.conf), "lock", "ls", volume)
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def image_bytes(cluster: LocalCluster, volume: VolumeName) -> str:
    """List which parts of an image were ever written."""
    words = ("rbd", "-c", str(cluster.cluster.conf), "diff", volume)
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def test_opening_writes_nothing_and_takes_no_lock(
    cluster: LocalCluster, ceph: Ceph, volumes: Volumes, volume: VolumeName
) -> None:
    attached(volumes, volume)
    assert len(ceph.instances(volume)) == 1
    assert (lockers(cluster, volume), image_bytes(cluster, volume)) == ("", "")
    assert volumes.detach(volume, Epoch(1), 5_000) == ""
    assert ceph.instances(volume) == ()
    assert image_bytes(cluster, volume) == ""


def test_what_was_committed_is_there_after_a_clean_close_and_the_file_system_is_made_once(
    ceph: Ceph, volumes: Volumes, volume: VolumeName
) -> None:
    for epoch in (1, 2, 3):
        attached(volumes, volume, epoch)
        folder = mounted(volumes, volume)
        commit(folder, f"{epoch}\n")
        assert (folder / "log").read_text() == "".join(f"{n}\n" for n in range(1, epoch + 1))
        assert volumes.unmount(volume, 5_000) == ""
        assert volumes.detach(volume, Epoch(epoch), 5_000) == ""


def test_a_probe_is_for_its_own_epoch_only(volumes: Volumes, volume: VolumeName) -> None:
    assert volumes.probe(volume, Epoch(1), 500) == "failed"
    attached(volumes, volume, 4)
    assert volumes.probe(volume, Epoch(4), 2_000) == "ok"
    assert volumes.probe(volume, Epoch(3), 500) == "failed"
    assert volumes.detach(volume, Epoch(3), 500) != ""
    assert volumes.attached(volume) is not None


def test_after_a_fence_no_probe_and_no_commit_succeeds_and_others_go_on(
    ceph: Ceph, volumes: Volumes, volume: VolumeName
) -> None:
    other = VolumeName(f"{volume}-other")
    ceph.ensure_volume(other, SIZE_BYTES)
    attached(volumes, volume)
    attached(volumes, other)
    folder = mounted(volumes, volume)
    commit(folder, "before\n")
    assert volumes.probe(other, Epoch(1), 2_000) == "ok"
    with ThreadPoolExecutor(1) as beside:
        beating = beside.submit(_beat_until_refused, volumes, volume)
        ceph.fence(volume, ceph.instances(volume)[0], HOUR_MS)
        done = monotonic()
        last_ok = beating.result(timeout=10)
    assert last_ok < done, "no write that was asked for after the fence succeeds"
    assert volumes.probe(volume, Epoch(1), 2_000) == "refused"
    with pytest.raises(OSError) as error:
        commit(folder, "after\n")
    assert error.value.errno in (errno.EIO, errno.EROFS)
    assert volumes.probe(other, Epoch(1), 2_000) == "ok", "another instance of the same node"
    assert volumes.detach(volume, Epoch(1), 5_000) != "", "not clean"
    assert volumes.detach(other, Epoch(1), 5_000) == ""


def _beat_until_refused(volumes: Volumes, volume: VolumeName) -> float:
    """Beat without a pause; return when the last success was asked for."""
    last_ok, until = 0.0, monotonic() + 10
    while monotonic() < until:
        asked = monotonic()
        outcome = volumes.probe(volume, Epoch(1), 2_000)
        if outcome == "refused":
            return last_ok
        last_ok = asked if outcome == "ok" else last_ok
    raise AssertionError("never refused")


def test_a_takeover_finds_every_commit_and_takes_well_under_a_second(
    cluster: LocalCluster, ceph: Ceph, volumes: Volumes, volume: VolumeName, tmp_path: Path
) -> None:
    attached(volumes, volume, 1)
    folder = mounted(volumes, volume)
    for number in range(50):
        commit(folder, f"{number}\n")
    old = ceph.instances(volume)[0]
    os.kill(attached_pid(volumes, volume), signal.SIGSTOP)
    successor = Volumes(table_of(cluster), tmp_path / "successor", NodeId("n2"))
    times = [monotonic()]
    ceph.fence(volume, old, HOUR_MS)
    times.append(monotonic())
    attached(successor, volume, 2)
    times.append(monotonic())
    new = mounted(successor, volume)
    times.append(monotonic())
    commit(new, "new\n")
    times.append(monotonic())
    steps = [round((b - a) * 1_000) for a, b in pairwise(times)]
    print(f"takeover in ms: fence {steps[0]}, open {steps[1]}, mount {steps[2]}, commit {steps[3]}; all {sum(steps)}")
    assert (new / "log").read_text() == "".join(f"{n}\n" for n in range(50)) + "new\n"
    successor.close()
    assert times[-1] - times[0] < 5


def attached_pid(volumes: Volumes, volume: VolumeName) -> int:
    found = volumes.attached(volume)
    assert found is not None
    return found.pid


def test_a_hung_daemon_lets_beats_fail_in_time_and_a_kill_does_not_wait_for_it(
    cluster: LocalCluster, ceph: Ceph, volumes: Volumes, volume: VolumeName
) -> None:
    attached(volumes, volume)
    folder = mounted(volumes, volume)
    assert volumes.probe(volume, Epoch(1), 2_000) == "ok"
    for number in range(3):
        cluster.signal(f"osd.{number}", signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as beside:
            hanging = beside.submit(commit, folder, "hangs\n")
            began = monotonic()
            assert volumes.probe(volume, Epoch(1), 300) == "failed"
            assert monotonic() - began < 1
            began = monotonic()
            volumes.kill(volume)
            assert monotonic() - began < 2
            with pytest.raises(OSError):
                hanging.result(timeout=10)
    finally:
        for number in range(3):
            cluster.signal(f"osd.{number}", signal.SIGCONT)
    await_that(lambda: not cluster.cluster.pending(ceph.health()), 30_000)


def test_an_image_that_holds_something_else_is_left_alone(
    cluster: LocalCluster, volumes: Volumes, volume: VolumeName, tmp_path: Path
) -> None:
    attached(volumes, volume)
    image = next(tmp_path.glob("volumes/*/*/image"))
    with image.open("r+b") as opened:
        opened.seek(1_024)
        opened.write(b"a superblock")
    volumes.kill(volume)
    found = volumes.attach(volume, DB, Epoch(2), 10_000)
    assert isinstance(found, Trouble)
    assert "something else" in found.detail
    assert volumes.attached(volume) is None


def test_a_volume_that_cannot_be_opened_says_why(volumes: Volumes) -> None:
    found = volumes.attach(VolumeName("nowhere"), DB, Epoch(1), 10_000)
    assert isinstance(found, Trouble)
    assert "No such file" in found.detail
    assert isinstance(volumes.mount(VolumeName("nowhere"), 1_000), Trouble)
    assert volumes.detach(VolumeName("nowhere"), Epoch(1), 1_000) != ""


def test_an_opening_that_does_not_finish_in_time_is_taken_back(
    cluster: LocalCluster, volumes: Volumes, volume: VolumeName, tmp_path: Path
) -> None:
    cluster.signal("mon.h0", signal.SIGSTOP)
    try:
        began = monotonic()
        assert isinstance(volumes.attach(volume, DB, Epoch(1), 500), Trouble)
        assert monotonic() - began < 3
    finally:
        cluster.signal("mon.h0", signal.SIGCONT)
    await_that(lambda: left_behind(tmp_path) == [])


def test_a_new_opening_takes_the_place_of_one_from_before(ceph: Ceph, volumes: Volumes, volume: VolumeName) -> None:
    first = attached(volumes, volume, 1)
    old = ceph.instances(volume)
    second = attached(volumes, volume, 2)
    assert second.pid != first.pid
    assert set(ceph.instances(volume)) - set(old) != set()
    assert volumes.probe(volume, Epoch(1), 500) == "failed"


DEAD = """
import sys
from itertools import pairwise
from pathlib import Path
from drivers.config import CephTable
from drivers.volumes import Volumes
volumes = Volumes(CephTable(conf=Path(sys.argv[1]), user="moxie-h0"), Path(sys.argv[2]), "n1")
print(volumes.attach(sys.argv[3], "db", 1, 20_000), volumes.mount(sys.argv[3], 20_000), flush=True)
sys.stdin.read()
"""


def test_what_a_dead_supervisor_held_dies_with_it_and_the_next_one_clears_the_rest(
    cluster: LocalCluster, ceph: Ceph, volumes: Volumes, volume: VolumeName, tmp_path: Path
) -> None:
    words = (sys.executable, "-c", DEAD, str(cluster.cluster.conf), str(tmp_path), volume)
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        assert "Attachment" in supervisor.stdout.readline()
        pid = int(next(tmp_path.glob("volumes/*/*/daemon.pid")).read_text())
        supervisor.kill()
    await_that(lambda: not Path(f"/proc/{pid}/exe").exists() or read(Path(f"/proc/{pid}/cmdline")) == "")
    assert volumes.clear_orphans() > 0
    await_that(lambda: left_behind(tmp_path) == [])
    old = ceph.instances(volume)
    ceph.fence(volume, old[0], HOUR_MS)
    attached(volumes, volume, 2)
    mounted(volumes, volume)


def test_the_file_system_never_reaches_the_guard_area(
    cluster: LocalCluster, volumes: Volumes, volume: VolumeName, tmp_path: Path
) -> None:
    attached(volumes, volume)
    mounted(volumes, volume)
    devices = [p for p in Path("/sys/block").glob("loop*/loop/backing_file") if str(tmp_path) in read(p)]
    assert [int((p.parent / "offset").read_text()) for p in devices] == [AREA_BYTES]
    assert [(p.parent / "autoclear").read_text().strip() for p in devices] == ["1"]
