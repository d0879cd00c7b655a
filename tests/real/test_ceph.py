"""Fences, blocks and commands on a real cluster, through a client that has no more rights than a node needs."""

import signal
import statistics
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest

from core.ids import NodeId, VolumeName
from drivers import ceph_link
from drivers.ceph import Ceph, CephError
from drivers.config import CephTable
from drivers.lab.ceph_local import LocalCluster
from tests.real.ceph_local import PROGRAMS, await_that, connected, running_cluster, table_of
from tests.real.require import require

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("ceph")]

VOLUME = VolumeName("vol")
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    require(*PROGRAMS)
    with running_cluster((22_110, 22_120, 22_199), 22_190) as running:
        yield running


@pytest.fixture
def ceph(cluster: LocalCluster) -> Iterator[Ceph]:
    with connected(cluster) as link:
        link.ensure_volume(VOLUME, 64 << 20)
        yield link


def test_a_volume_is_made_once(ceph: Ceph) -> None:
    assert ceph.ensure_volume(VolumeName("other"), 32 << 20)
    assert not ceph.ensure_volume(VolumeName("other"), 32 << 20)
    assert ceph.instances(VolumeName("other")) == ()


def test_a_volume_that_is_not_there_is_a_plain_failure(ceph: Ceph) -> None:
    with pytest.raises(CephError) as error:
        ceph.instances(VolumeName("nowhere"))
    assert error.value.reason == "failed"
    with pytest.raises(CephError) as error:
        ceph.fence(VolumeName("nowhere"), "127.0.0.1:0/77", HOUR_MS)
    assert error.value.reason == "failed"


def test_a_fenced_instance_is_blocked_until_it_is_lifted(ceph: Ceph) -> None:
    address = "127.0.0.1:0/4711"
    assert not ceph.blocked(address)
    ceph.fence(VOLUME, address, HOUR_MS)
    assert ceph.blocked(address)
    assert not ceph.blocked("127.0.0.1:0/471"), "only exactly this instance"
    ceph.lift(address)
    assert not ceph.blocked(address)
    ceph.lift(address)


def test_a_fence_reaches_every_group_of_the_pool(ceph: Ceph) -> None:
    dump = ceph.command("osd dump")
    pool = next(p for p in dump["pools"] if p["pool_name"] == "rbd")
    ceph.fence(VOLUME, "127.0.0.1:0/4712", HOUR_MS)
    names = ceph._objects[pool["pool"], pool["pg_num"]]
    groups = {ceph.command("osd map", pool="rbd", object=name)["pgid"] for name in names}
    assert len(groups) == pool["pg_num"]


def test_fencing_again_leaves_the_entry_and_asks_for_nothing_more(ceph: Ceph) -> None:
    address = "127.0.0.1:0/4713"
    ceph.fence(VOLUME, address, HOUR_MS)
    dump = ceph.command("osd dump")
    ceph.fence(VOLUME, address, 2 * HOUR_MS)
    assert ceph.command("osd dump")["blocklist"][address] == dump["blocklist"][address]


def test_the_storage_does_not_lengthen_an_entry_so_a_shorter_one_of_somebody_else_is_replaced(ceph: Ceph) -> None:
    address = "127.0.0.1:0/4714"

    def entry() -> str:
        return str(ceph.command("osd dump")["blocklist"][address])

    ceph.command("osd blocklist", blocklistop="add", addr=address, expire=600.0)
    short = entry()
    ceph.command("osd blocklist", blocklistop="add", addr=address, expire=6_000.0)
    assert entry() == short, "if this fails the storage has learned to renew: simplify the fence"
    ceph.fence(VOLUME, address, HOUR_MS)
    assert datetime.fromisoformat(entry()) - datetime.fromisoformat(short) > timedelta(days=365)


def test_a_fence_takes_a_fraction_of_a_second(ceph: Ceph) -> None:
    ceph.prepare(VOLUME)
    took = []
    for number in range(15):
        began = monotonic()
        ceph.fence(VOLUME, f"127.0.0.1:0/{5_000 + number}", HOUR_MS)
        took.append(monotonic() - began)
    print(f"fence: p50 {statistics.median(took) * 1_000:.0f} ms, longest {max(took) * 1_000:.0f} ms")
    assert statistics.median(took) < 1


def test_a_hung_daemon_leaves_a_fence_unconfirmed_at_its_limit(cluster: LocalCluster, ceph: Ceph) -> None:
    ceph.prepare(VOLUME)
    cluster.signal("osd.2", signal.SIGSTOP)
    try:
        began = monotonic()
        with pytest.raises(CephError) as error:
            ceph.fence(VOLUME, "127.0.0.1:0/6000", HOUR_MS, ms_max=1_000)
        assert error.value.reason == "unanswered"
        assert 0.9 < monotonic() - began < 2.5
        await_that(lambda: not ceph.osds()[2].up, 20_000)
        ceph.fence(VOLUME, "127.0.0.1:0/6000", HOUR_MS, ms_max=20_000)
    finally:
        cluster.signal("osd.2", signal.SIGCONT)
    await_that(lambda: not cluster.cluster.pending(ceph.health()), 30_000)


def test_the_daemons_of_a_host_that_is_off_are_marked_down(cluster: LocalCluster, ceph: Ceph) -> None:
    assert [osd.host for osd in ceph.osds()] == ["h0", "h1", "h2"]
    cluster.signal("osd.1", signal.SIGSTOP)
    try:
        assert ceph.mark_down("h1") == (1,)
        assert [osd.up for osd in ceph.osds()] == [True, False, True]
        assert ceph.mark_down("h1") == (), "it is down already"
        assert ceph.mark_down("nowhere") == ()
    finally:
        cluster.signal("osd.1", signal.SIGCONT)
    await_that(lambda: not cluster.cluster.pending(ceph.health()), 30_000)


def test_without_a_majority_of_monitors_nothing_is_fenced_and_writes_go_on(cluster: LocalCluster, ceph: Ceph) -> None:
    cluster.signal("mon.h0", signal.SIGSTOP)
    try:
        with pytest.raises(CephError) as error:
            ceph.fence(VOLUME, "127.0.0.1:0/6001", HOUR_MS, ms_max=700)
        assert error.value.reason == "unanswered"
        ceph.seen(NodeId("n1"), 2_000)
        other = Ceph(table_of(cluster, "h1"))
        with pytest.raises(CephError) as error:
            other.connect(1_000)
        assert error.value.reason == "unavailable"
    finally:
        cluster.signal("mon.h0", signal.SIGCONT)
    await_that(lambda: ceph.health()["health"]["status"] != "", 20_000)


def test_settings_health_and_figures_are_read(ceph: Ceph) -> None:
    assert float(ceph.setting("mon.h0", "paxos_propose_interval")) == 0.1
    assert ceph.health()["osdmap"]["num_osds"] == 3
    figures = ceph.figures()
    assert {"osd dump", "osd crush dump", "df detail", "osd df tree", "pg dump"} == set(figures)
    assert figures["osd dump"]["full_ratio"] > 0.9


def test_a_node_may_not_do_what_it_need_not(ceph: Ceph) -> None:
    for prefix, args in (("osd blocklist clear", {}), ("osd pool delete", {"pool": "rbd", "pool2": "rbd"})):
        with pytest.raises(CephError) as error:
            ceph.command(prefix, **args)
        assert error.value.reason == "refused"


def test_a_missing_keyring_or_configuration_is_named(cluster: LocalCluster, tmp_path: Path) -> None:
    for table in (
        CephTable(conf=tmp_path / "none.conf"),
        CephTable(conf=cluster.cluster.conf, user="moxie-h0", keyring=tmp_path / "none.keyring"),
    ):
        with pytest.raises(CephError, match=r"none\.(conf|keyring) does not exist") as error:
            Ceph(table).connect()
        assert error.value.reason == "unavailable"


def test_a_wrong_key_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    ring = tmp_path / "ring"
    ring.write_text("[client.moxie-h0]\n\tkey = AQBBBBBBAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==\n", encoding="ascii")
    with pytest.raises(CephError) as error:
        Ceph(CephTable(conf=cluster.cluster.conf, user="moxie-h0", keyring=ring)).connect(3_000)
    assert error.value.reason == "refused"


def test_the_system_s_own_python_can_speak_for_one_that_has_no_libraries(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(name: str) -> object:
        raise ImportError(f"no {name} for Python {sys.version_info.major}")

    monkeypatch.setattr(ceph_link, "_load", none)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with connected(cluster) as far:
        far.ensure_volume(VOLUME, 64 << 20)
        far.fence(VOLUME, "127.0.0.1:0/7000", HOUR_MS)
        assert far.blocked("127.0.0.1:0/7000")
        with pytest.raises(CephError) as error:
            far.instances(VolumeName("nowhere"))
        assert error.value.reason == "failed"
    assert len(list(Path("/proc/self/fd").iterdir())) == before
