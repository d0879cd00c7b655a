"""Pools placed as Ceph places them: against dumps of a real cluster and of osdmaptool 16.2.15, and rule by rule."""

import csv
import io
import json
import lzma
import os
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from core.errors import InputError
from twin.crush.map import NONE, ONE, Bucket, Choose, CrushMap, Device, Emit, Rule, Take
from twin.crush.objects import hash_of, pg_of, stable_mod, str_hash
from twin.crush.osdmap import OsdMap, OsdState, Pool
from twin.crush.osdmap_json import osdmap_from_json
from twin.crush.pools import NOBODY, osd_pgs, place, placement_seeds, pool_of
from twin.crush.read import read_map

ROOT = Path(__file__).parents[2]
FIVE = ROOT / "racks/five-hosts"
DATA = Path(os.environ.get("MOXIE_DATA", ROOT.parent / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the recorded maps are not shipped; set MOXIE_DATA")
MAPS = ("uniform_48", "piston_rack_20x8")


def dumped(name: str) -> dict[str, object]:
    made: dict[str, object] = json.loads((FIVE / f"{name}.json").read_text())
    return made


def five_hosts() -> OsdMap:
    return osdmap_from_json(dumped("osd_dump"), dumped("osd_crush_dump"))


def recorded(name: str) -> OsdMap:
    """A recorded map with its one pool, as it stands in ``NAME.pool1.txt``."""
    crush = read_map(DATA / f"crush/{name}.txt")[0]
    line = (DATA / f"crush/{name}.pool1.txt").read_text()
    pg_num = int(re.findall("pg_num ([0-9]+)", line)[0])
    pool = Pool(id=1, name="rbd", kind="replicated", size=3, min_size=2, pg_num=pg_num, pgp_num=pg_num, rule=0)
    return OsdMap(epoch=1, crush=crush, osds=tuple(OsdState(id=one.id) for one in crush.devices), pools=(pool,))


def flat(kind: str = "replicated", size: int = 3, osds: int = 6, **more: object) -> OsdMap:
    """Some OSDs in one root, and a pool over them."""
    how = "choose_firstn" if kind == "replicated" else "choose_indep"
    pool = Pool(id=5, name="p", kind=kind, size=size, min_size=1, pg_num=16, pgp_num=16, rule=0)  # type: ignore[arg-type]
    steps = (Take(item=-1), Choose(how=how, num=0, type_id=0), Emit())  # type: ignore[arg-type]
    crush = CrushMap(
        devices=tuple(Device(id=osd, name=f"osd.{osd}") for osd in range(osds)),
        types={0: "osd", 1: "root"},
        buckets=(
            Bucket(id=-1, name="default", type_id=1, alg="straw2", items=tuple(range(osds)), weights=(ONE,) * osds),
        ),
        rules=(Rule(id=0, name="r", type_id=1, steps=steps),),
    )
    made = OsdMap(epoch=1, crush=crush, osds=tuple(OsdState(id=osd) for osd in range(osds)), pools=(pool,))
    return msgspec.structs.replace(made, **more)


def with_state(osdmap: OsdMap, osd: int, **state: object) -> OsdMap:
    osds = tuple(msgspec.structs.replace(one, **state) if one.id == osd else one for one in osdmap.osds)
    return msgspec.structs.replace(osdmap, osds=osds)


def test_a_real_clusters_groups_are_where_it_says_they_are() -> None:
    placed = place(five_hosts(), 1)
    stats = dumped("pg_dump")["pg_map"]["pg_stats"]  # type: ignore[index]
    assert len(stats) == 64
    for stat in stats:
        pg = int(stat["pgid"].partition(".")[2], 16)
        assert placed.up[pg].tolist() == stat["up"]
        assert placed.primary[pg] == stat["up_primary"]
    nodes = dumped("osd_df_tree")["nodes"]
    assert osd_pgs([placed]) == {node["id"]: node["pgs"] for node in nodes if node["type"] == "osd"}  # type: ignore[attr-defined]


@needs_data
@pytest.mark.parametrize("name", MAPS)
def test_groups_and_primaries_equal_those_of_osdmaptool(name: str) -> None:
    placed = place(recorded(name), 1)
    text = lzma.decompress((DATA / f"crush/{name}.pool1.pgs.csv.xz").read_bytes()).decode()
    rows = re.findall(r"^1\.([0-9a-f]+),\[([0-9,]+)\],([0-9]+)$", text, re.M)
    assert len(rows) == len(placed.up)
    for pg, up, primary in rows:
        assert placed.up[int(pg, 16)].tolist() == [int(osd) for osd in up.split(",")]
        assert placed.primary[int(pg, 16)] == int(primary)


@needs_data
@pytest.mark.parametrize("name", MAPS)
def test_counts_per_osd_equal_those_of_osdmaptool(name: str) -> None:
    placed = place(recorded(name), 1)
    rows = re.findall(
        r"^osd\.([0-9]+)\t([0-9]+)\t([0-9]+)\t([0-9]+)", (DATA / f"crush/{name}.pool1.stats.txt").read_text(), re.M
    )
    assert osd_pgs([placed]) == {int(osd): int(count) for osd, count, _, _ in rows}
    firsts = np.bincount(placed.primary)
    assert [int(primary) for _, _, _, primary in rows] == [firsts[int(osd)] for osd, _, _, _ in rows]


@needs_data
@pytest.mark.parametrize("name", MAPS)
def test_a_plan_of_the_balancer_moves_what_it_says(name: str) -> None:
    osdmap = recorded(name)
    rows = list(csv.reader(io.StringIO((DATA / f"crush/{name}.upmap_deviation1.csv").read_text())))[1:]
    items = {
        (1, int(pgid.partition(".")[2], 16)): tuple(
            (int(move.partition(">")[0]), int(move.partition(">")[2])) for move in ",".join(moves).split()
        )
        for pgid, *moves in rows
    }
    before, after = place(osdmap, 1), place(msgspec.structs.replace(osdmap, upmap_items=items), 1)
    for (_, pg), moves in items.items():
        assert set(after.up[pg]) - set(before.up[pg]) == {target for _, target in moves}
        assert set(before.up[pg]) - set(after.up[pg]) == {source for source, _ in moves}
    counts = list(osd_pgs([after]).values())
    assert max(counts) - min(counts) < np.ptp(list(osd_pgs([before]).values()))


@needs_data
def test_objects_are_in_the_groups_that_osdmaptool_says() -> None:
    osdmap = recorded("uniform_48")
    placed, pool = place(osdmap, 1), pool_of(osdmap, 1)
    lines = (DATA / "crush/uniform_48.pool1.objects.txt").read_text()
    rows = re.findall(r"object '(.*)' -> 1\.([0-9a-f]+) -> \[([0-9,]+)\]", lines)
    assert len(rows) > 60
    for name, pg, up in rows:
        assert pg_of(name, pool) == int(pg, 16)
        assert placed.up[int(pg, 16)].tolist() == [int(osd) for osd in up.split(",")]


def test_a_namespace_and_a_locator_key_change_an_objects_group() -> None:
    pool = Pool(id=1, name="p", kind="replicated", size=3, min_size=2, pg_num=1 << 20, pgp_num=1 << 20, rule=0)
    assert hash_of("a", key="b") == hash_of("b")
    assert hash_of("a", namespace="n") == str_hash(b"n\x1fa")
    assert len({pg_of("a", pool), pg_of("a", pool, namespace="n"), pg_of("a", pool, key="b")}) == 3


def test_a_growing_count_splits_groups_one_by_one() -> None:
    for count in range(1, 40):
        for seed in range(500):
            old, new = stable_mod(seed, count), stable_mod(seed, count + 1)
            assert old == new or new == count
            assert new < count + 1


def test_groups_that_were_split_stay_together_until_pgp_num_follows() -> None:
    pool = msgspec.structs.replace(flat().pools[0], pg_num=32, pgp_num=16)
    seeds = placement_seeds(pool)
    assert seeds[:16].tolist() == seeds[16:].tolist()
    plain = placement_seeds(msgspec.structs.replace(pool, hashpspool=False))
    assert plain[:16].tolist() == list(range(5, 21))


def test_a_down_osd_leaves_a_hole_in_an_erasure_coded_pool_and_none_in_a_replicated_one() -> None:
    for kind in ("replicated", "erasure"):
        osdmap = flat(kind)
        before, after = place(osdmap, 5), place(with_state(osdmap, 2, up=False), 5)
        for old, new in zip(before.up.tolist(), after.up.tolist(), strict=True):
            if kind == "replicated":
                assert new == [osd for osd in old if osd != 2] + [NONE] * (2 in old)
            else:
                assert new == [NONE if osd == 2 else osd for osd in old]


def test_an_osd_that_does_not_exist_holds_nothing() -> None:
    osdmap = flat()
    gone = msgspec.structs.replace(osdmap, osds=tuple(osd for osd in osdmap.osds if osd.id != 5), max_osd=6)
    placed = place(gone, 5)
    assert 5 not in placed.up
    assert (placed.up != NONE).all()


def test_a_pool_without_osds_has_no_primary() -> None:
    osdmap = flat(osds=2)
    placed = place(with_state(with_state(osdmap, 0, up=False), 1, up=False), 5)
    assert (placed.up == NONE).all()
    assert (placed.primary == NOBODY).all()
    assert osd_pgs([placed]) == {}


def test_an_upmap_is_ignored_if_its_target_is_out_or_there_already() -> None:
    osdmap = flat()
    up = place(osdmap, 5).up.tolist()
    absent = next(osd for osd in range(6) if osd not in up[0])
    pairs = msgspec.structs.replace(osdmap, upmap_items={(5, 0): ((up[0][1], absent),)})
    assert place(pairs, 5).up.tolist()[0] == [up[0][0], absent, up[0][2]]
    there = msgspec.structs.replace(osdmap, upmap_items={(5, 0): ((up[0][1], up[0][2]),)})
    assert place(there, 5).up.tolist() == up
    out = with_state(pairs, absent, reweight=0)
    assert absent not in place(out, 5).up[0]
    whole = msgspec.structs.replace(osdmap, upmaps={(5, 0): (absent, up[0][0])})
    assert place(whole, 5).up.tolist()[0] == [absent, up[0][0], NONE]
    assert place(with_state(whole, absent, reweight=0), 5).up.tolist()[0] != [absent, up[0][0], NONE]
    other = msgspec.structs.replace(osdmap, upmap_items={(6, 0): ((up[0][1], absent),)})
    assert place(other, 5).up.tolist() == up


def test_an_osd_without_affinity_is_primary_only_where_nobody_else_is() -> None:
    for kind in ("replicated", "erasure"):
        osdmap = with_state(flat(kind), 3, primary_affinity=0)
        before, after = place(flat(kind), 5), place(osdmap, 5)
        assert 3 in before.primary
        assert 3 not in after.primary
        for old, new, primary in zip(before.up.tolist(), after.up.tolist(), after.primary.tolist(), strict=True):
            assert sorted(old) == sorted(new)
            if kind == "replicated":
                assert new[0] == primary
            else:
                assert new == old
    alone = with_state(flat(size=1), 3, primary_affinity=0)
    assert 3 in place(alone, 5).primary


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (("pools", 0, "size"), "three", "pools[0].size"),
        (("pools", 0, "crush_rule"), 7, "crush_rule"),
        (("pools", 0, "type"), 2, "pools[0].type"),
        (("pools", 0, "pg_num"), 0, "pools[0].pg_num"),
        (("osds", 1, "weight"), 2, "osds[1].weight"),
        (("osds", 1, "osd"), 0, "it is there twice"),
        (("osds",), None, "osds"),
        (("full_ratio",), True, "full_ratio"),
        (("pg_upmap_items",), [{"pgid": "1.0", "mappings": [{"from": 1}]}], "mappings[0].to"),
        (("pg_upmap",), [{"pgid": "9.0", "osds": [1]}], "pg_upmap[0].pgid"),
        (("pg_upmap",), [{"pgid": "1.0", "osds": [1, 2, 3, 4]}], "pg_upmap[0].osds"),
    ],
)
def test_a_foreign_field_is_named(where: tuple[str | int, ...], value: object, words: str) -> None:
    top = dumped("osd_dump")
    table: object = top
    for step in where[:-1]:
        table = table[step]  # type: ignore[index]
    table[where[-1]] = value  # type: ignore[index]
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        osdmap_from_json(top, dumped("osd_crush_dump"), ("osd_dump.json", "osd_crush_dump.json"))
    assert str(caught.value).startswith("osd_dump.json: ")


def test_a_missing_field_is_named() -> None:
    for key in ("epoch", "max_osd", "pools", "osds", "pg_upmap", "nearfull_ratio"):
        top = dumped("osd_dump")
        del top[key]
        with pytest.raises(InputError, match=f"osd_dump.json: {key} is missing"):
            osdmap_from_json(top, dumped("osd_crush_dump"))
    for foreign in (None, [], "text", 3):
        with pytest.raises(InputError, match="needed: the JSON object"):
            osdmap_from_json(foreign, dumped("osd_crush_dump"))


def test_an_erasure_coded_pool_knows_its_data_shards() -> None:
    top = dumped("osd_dump")
    top["pools"][0] |= {"type": 3, "erasure_code_profile": "default", "size": 4}  # type: ignore[index,operator]
    assert osdmap_from_json(top, dumped("osd_crush_dump")).pools[0].data_shards == 2
    top["erasure_code_profiles"] = {"other": {}}
    with pytest.raises(InputError, match="erasure_code_profile"):
        osdmap_from_json(top, dumped("osd_crush_dump"))
