"""``rack check`` and the snapshot's dumps against a small real storage, with no more rights than a node has."""

from collections.abc import Iterator

import pytest

from core.specs import Timing
from drivers.ceph import Ceph
from drivers.check_ceph import check_ceph
from drivers.config import CephTable
from drivers.finding import Finding
from drivers.lab.ceph_local import LocalCluster
from tests.real.ceph_local import PROGRAMS, connected, running_cluster, table_of
from tests.real.require import require

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("check-ceph")]


@pytest.fixture(scope="module")
def storage() -> Iterator[LocalCluster]:
    """A cluster on ports of its own."""
    require(*PROGRAMS)
    with running_cluster((26_210, 26_220, 26_299), 26_290) as cluster:
        yield cluster


def found(table: CephTable, check: str) -> dict[str, Finding]:
    """The findings of one check, by what they are about."""
    return {finding.about: finding for finding in check_ceph(table, Timing()) if finding.check == check}


def test_a_storage_in_order_is_found_in_order(storage: LocalCluster) -> None:
    findings = list(check_ceph(table_of(storage), Timing()))
    assert [finding for finding in findings if finding.severity == "error"] == []
    assert "reached as client.moxie-h0" in next(f.measured for f in findings if f.check == "ceph")
    assert {finding.check for finding in findings} >= {"ceph", "ceph health", "ceph room", "ceph pool", "ceph settings"}


def test_one_monitor_and_slow_settings_are_warned_of(storage: LocalCluster) -> None:
    assert found(table_of(storage), "ceph monitors")["storage"].measured == "1 monitor"
    settings = found(table_of(storage), "ceph settings")
    assert set(settings) == {"paxos_propose_interval", "mon_lease", "osd_heartbeat_grace"}
    assert [key for key, finding in settings.items() if "not read" in finding.measured] == []


def test_a_pool_that_is_not_there_is_an_error(storage: LocalCluster) -> None:
    table = CephTable(conf=storage.cluster.conf, user="moxie-h0", pool="nowhere")
    finding = found(table, "ceph pool")["nowhere"]
    assert (finding.severity, finding.measured) == ("error", "does not exist")


def test_a_wrong_user_is_one_finding_with_a_remedy(storage: LocalCluster) -> None:
    findings = list(check_ceph(CephTable(conf=storage.cluster.conf, user="nobody"), Timing()))
    assert [finding.severity for finding in findings] == ["error"]
    assert findings[0].remedy


def test_a_node_may_read_all_that_a_snapshot_holds(storage: LocalCluster) -> None:
    ceph: Ceph
    with connected(storage) as ceph:
        figures = ceph.figures(10_000)
        assert set(figures) == {"osd dump", "osd crush dump", "df detail", "osd df tree", "pg dump"}
        assert figures["osd dump"]["pools"]
        assert ceph.health()["health"]["status"].startswith("HEALTH_")
        assert ceph.command("versions")["overall"]
