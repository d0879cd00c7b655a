"""A folder of Ceph JSON: read as it is printed by several releases, or refused by file, field and command."""

import json
import shutil
from pathlib import Path

import pytest

from core.errors import InputError
from twin.capacity.ceph_files import read_ceph
from twin.capacity.fill import place_all
from twin.capacity.max_avail import max_avail_bytes, raw_used_rate, rule_avail_bytes
from twin.crush.osdmap import Pool
from twin.crush.pools import osd_pgs

SAMPLE = Path("racks/five-hosts")
GROWN = Path("tests/data/ceph-grown")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "ceph"
    shutil.copytree(SAMPLE, copy)
    return copy


def _load(folder: Path, name: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((folder / f"{name}.json").read_text())
    return loaded


def _save(folder: Path, name: str, document: object) -> None:
    (folder / f"{name}.json").write_text(json.dumps(document))


def _refusal(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        read_ceph(folder)
    return "\n".join(error.value.problems)


def test_the_sample_is_read_with_its_disks_pools_and_hosts() -> None:
    cluster = read_ceph(SAMPLE)
    assert [osd.id for osd in cluster.osds] == [0, 1, 2, 3, 4]
    assert [host.name for host in cluster.hosts] == ["host0", "host1", "host2", "host3", "host4"]
    osd = cluster.osds[4]
    assert (osd.size_bytes, osd.used_bytes, osd.overhead_bytes) == (1 << 32, 192024 << 10, (192024 - 167376) << 10)
    assert (osd.available_bytes, osd.kind, osd.pgs, osd.host) == (4002280 << 10, "hdd", 38, "host4")
    use = cluster.uses[0]
    assert int(use.pg_bytes.sum()) == 346337568
    assert (use.stored_bytes, use.allocated_bytes, use.copies, use.degraded) == (264643271, 794027207, 5487, 0)
    assert cluster.warnings == ()


@pytest.mark.parametrize("folder", [SAMPLE, GROWN / "before", GROWN / "after"], ids=str)
def test_max_avail_is_ceph_s_own_to_the_byte(folder: Path) -> None:
    cluster = read_ceph(folder)
    (pool,) = cluster.osdmap.pools
    assert cluster.uses[0].max_avail_bytes is not None
    assert max_avail_bytes(cluster, pool) == cluster.uses[0].max_avail_bytes


def test_the_raw_space_of_the_rule_is_ceph_s_own_too() -> None:
    assert max_avail_bytes(read_ceph(SAMPLE), read_ceph(SAMPLE).osdmap.pools[0]) == 6217504256
    assert rule_avail_bytes(read_ceph(SAMPLE), 0) == 18652511722


def test_erasure_coding_takes_all_shards_for_the_data_shards() -> None:
    pool = Pool(id=1, name="p", kind="erasure", size=6, min_size=5, pg_num=8, pgp_num=8, rule=0, data_shards=4)
    assert float(raw_used_rate(pool)) == 1.5


@pytest.mark.parametrize("folder", [SAMPLE, GROWN / "before", GROWN / "after"], ids=str)
def test_the_pgs_of_each_osd_are_those_that_the_cluster_counted(folder: Path) -> None:
    cluster = read_ceph(folder)
    counted = {osd.id: osd.pgs for osd in cluster.osds}
    assert osd_pgs(list(place_all(cluster.osdmap).values())) == counted


def test_files_are_found_by_any_spelling_or_by_what_they_hold(folder: Path) -> None:
    known = read_ceph(folder)
    (folder / "osd_dump.json").rename(folder / "ceph-osd-dump.JSON")
    (folder / "osd_df_tree.json").rename(folder / "osd_df.json")
    (folder / "df_detail.json").rename(folder / "df.json")
    (folder / "pg_dump.json").rename(folder / "monday.json")
    (folder / "osd_crush_dump.json").rename(folder / "tuesday.json")
    (folder / "notes.json").write_text('{"nodes": 5}')
    (folder / "broken.json").write_text("{")
    again = read_ceph(folder)
    assert (again.osds, again.osdmap) == (known.osds, known.osdmap)
    assert again.files["pg_dump"] == "monday.json"


def test_older_shapes_of_pg_dump_and_of_osd_df_are_read(folder: Path) -> None:
    known = read_ceph(folder)
    dump = _load(folder, "pg_dump")["pg_map"]
    assert isinstance(dump, dict)
    for shape in (dump, dump["pg_stats"], {"pg_ready": True, "pg_stats": dump["pg_stats"]}):
        _save(folder, "pg_dump", shape)
        assert read_ceph(folder).uses[0].pg_bytes.tolist() == known.uses[0].pg_bytes.tolist()
    tree = _load(folder, "osd_df_tree")
    nodes = [node for node in tree["nodes"] if node["type"] == "osd"]
    for node in nodes:
        for key in ("kb_used_data", "kb_used_omap", "kb_used_meta"):
            del node[key]
        node["var"] = 0
    _save(folder, "osd_df_tree", {"nodes": nodes, "stray": [], "summary": {}})
    text = (folder / "osd_df_tree.json").read_text().replace('"var": 0', '"var": -nan')
    (folder / "osd_df_tree.json").write_text("\n" + text)
    old = read_ceph(folder)
    assert any("before Nautilus" in warning for warning in old.warnings)
    assert all(0 <= osd.overhead_bytes < osd.used_bytes for osd in old.osds)
    assert [osd.overhead_bytes > 0 for osd in old.osds] == [True, True, True, True, False]  # osd.4 holds sparse objects


def test_df_without_detail_of_an_old_release_counts_what_the_pgs_hold(folder: Path) -> None:
    df = _load(folder, "df_detail")
    (pool,) = df["pools"]
    pool["stats"] = {"kb_used": 338220, "bytes_used": 346337568, "max_avail": 6217504256, "objects": 1829}
    _save(folder, "df_detail", df)
    use = read_ceph(folder).uses[0]
    assert (use.stored_bytes, use.allocated_bytes) == (346337568, 0)


@pytest.mark.parametrize("name", ["osd_dump", "osd_crush_dump", "osd_df_tree", "df_detail", "pg_dump"])
def test_a_missing_file_is_named_with_the_command_that_makes_it(folder: Path, name: str) -> None:
    (folder / f"{name}.json").unlink()
    said = _refusal(folder)
    assert f"{name}.json: is missing" in said
    assert "`ceph " in said


def test_a_wrong_value_is_named_by_its_row_and_field(folder: Path) -> None:
    dump = _load(folder, "pg_dump")
    dump["pg_map"]["pg_stats"][3]["stat_sum"]["num_bytes"] = "many"
    _save(folder, "pg_dump", dump)
    said = _refusal(folder)
    assert "pg_dump.json: pg_map.pg_stats[3].stat_sum.num_bytes: expected `int`, got `str`" in said
    assert "`ceph pg dump --format json`" in said


def test_a_file_of_another_cluster_is_refused(folder: Path) -> None:
    dump = _load(folder, "pg_dump")
    dump["pg_map"]["pg_stats"][0]["pgid"] = "9.1"
    _save(folder, "pg_dump", dump)
    assert "pg_stats[0].pgid = '9.1': no such pool" in _refusal(folder)
    shutil.copy(SAMPLE / "pg_dump.json", folder)
    shutil.copy(GROWN / "after/osd_df_tree.json", folder)
    assert "osd_df_tree.json: nodes[12].id = 5" in _refusal(folder)


def test_pgs_that_are_not_clean_are_told(folder: Path) -> None:
    dump = _load(folder, "pg_dump")
    dump["pg_map"]["pg_stats"][0]["state"] = "active+undersized+degraded"
    _save(folder, "pg_dump", dump)
    assert read_ceph(folder).warnings == ("pg_dump.json: 1 of 64 PGs are not clean: figures are for when they are",)
