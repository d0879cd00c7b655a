"""Pools, exceptions, primaries and objects against osdmaptool itself, on random maps: no mismatch."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.property.crush_maps import Shape, map_text
from tests.real.osdmap_file import PoolWanted, make, placed_by_tool, read, run
from tests.real.require import require
from twin.crush.map import NONE, ONE
from twin.crush.objects import pg_of
from twin.crush.osdmap import OsdMap
from twin.crush.pools import NOBODY, place, pool_of

pytestmark = [pytest.mark.real, pytest.mark.slow]
FAN = ((2, 6), (3, 7), (3, 5), (2, 3))
IN = "--mark-up-in"
CASES: dict[str, tuple[Shape, PoolWanted, bool]] = {
    "replicated": (Shape(levels=3, fan=FAN), PoolWanted(), False),
    "by osd, split groups": (Shape(levels=3, fan=FAN), PoolWanted(rule=2, pg_num=700, pgp_num=300), False),
    "without hashpspool": (Shape(levels=2, fan=FAN), PoolWanted(hashpspool=False, pg_num=600, pgp_num=500), True),
    "erasure 4+2": (Shape(levels=3, fan=FAN), PoolWanted(kind=3, size=6, rule=3), False),
    "erasure 8+3, affinity": (Shape(levels=3, fan=FAN), PoolWanted(kind=3, size=11, rule=4), True),
    "affinity": (Shape(levels=3, fan=FAN), PoolWanted(), True),
    "classes, affinity": (Shape(levels=3, fan=FAN, classes=("hdd", "ssd")), PoolWanted(), True),
    "zero weights": (Shape(levels=3, fan=FAN, weights="zero"), PoolWanted(), False),
    "choose_args": (Shape(levels=3, fan=FAN, choose_args=1), PoolWanted(), True),
    "firefly straws": (Shape(levels=3, fan=FAN, profile="firefly", algorithms=("straw",)), PoolWanted(), False),
    "rows": (Shape(levels=4, fan=((1, 3), (2, 4), (2, 4), (2, 3))), PoolWanted(size=2), True),
}


def made(folder: Path, name: str, seed: int) -> int:
    """Make the case's OSD map; how many OSDs it has."""
    shape, pool, with_affinity = CASES[name]
    (folder / "map.txt").write_text(map_text(seed, shape))
    run(folder, "crushtool", "-c", "map.txt", "-o", "map.bin")
    osds = 1 + max(int(osd) for osd in re.findall(r"^device ([0-9]+)", (folder / "map.txt").read_text(), re.M))
    rng = np.random.Generator(np.random.Philox(key=seed))
    affinity = rng.choice([0, ONE // 4, ONE // 2, ONE], osds).tolist() if with_affinity else None
    make(folder, folder / "map.bin", osds, pool, affinity)
    return osds


def mismatches(folder: Path, *options: str) -> int:
    """How many placement groups differ; also checks that there are as many as there should be."""
    osdmap, tool = read(folder, *options), placed_by_tool(folder, *options)
    placed = place(osdmap, 1)
    assert sorted(tool) == list(range(len(placed.up))) == list(range(pool_of(osdmap, 1).pg_num))
    return sum(
        held(osdmap, placed.up[pg].tolist()) != held(osdmap, up) or placed.primary[pg] != primary
        for pg, (up, primary) in tool.items()
    )


def held(osdmap: OsdMap, up: list[int]) -> list[int]:
    """An up set without the padding at its end."""
    return (
        up
        if pool_of(osdmap, 1).kind == "erasure" and len(up) == pool_of(osdmap, 1).size
        else [osd for osd in up if osd != NONE]
    )


@pytest.mark.parametrize("name", CASES)
def test_groups_equal_those_of_osdmaptool(name: str, tmp_path: Path) -> None:
    require("osdmaptool", "crushtool", root=False)
    for seed in (1, 2):
        osds = made(tmp_path, name, 100 * seed + len(name))
        assert mismatches(tmp_path, IN) == 0
        out = [word for osd in range(1, osds, 5) for word in ("--mark-out", str(osd))]
        assert mismatches(tmp_path, IN, *out) == 0


def test_groups_are_empty_while_all_osds_are_down(tmp_path: Path) -> None:
    require("osdmaptool", "crushtool", root=False)
    made(tmp_path, "replicated", 7)
    assert mismatches(tmp_path) == 0
    assert set(place(read(tmp_path), 1).primary.tolist()) == {NOBODY}


@pytest.mark.parametrize("name", ["replicated", "erasure 4+2", "affinity"])
def test_the_balancers_exceptions_equal_those_of_osdmaptool(name: str, tmp_path: Path) -> None:
    require("osdmaptool", "crushtool", root=False)
    osds = made(tmp_path, name, 11)
    plan = ("--upmap", "plan.txt", "--upmap-deviation", "1", "--upmap-max", "60", "--save")
    run(tmp_path, "osdmaptool", "osdmap", IN, *plan)
    osdmap = read(tmp_path, IN)
    assert len(osdmap.upmap_items) > 10
    assert mismatches(tmp_path, IN) == 0
    targets = sorted({target for pairs in osdmap.upmap_items.values() for _, target in pairs})
    out = [word for osd in targets[:: max(1, osds // 8)] for word in ("--mark-out", str(osd))]
    assert mismatches(tmp_path, IN, *out) == 0


def test_objects_equal_those_of_osdmaptool(tmp_path: Path) -> None:
    require("osdmaptool", "crushtool", root=False)
    made(tmp_path, "by osd, split groups", 3)
    osdmap = read(tmp_path, IN)
    placed, pool = place(osdmap, 1), pool_of(osdmap, 1)
    for name in ("a", "rbd_data.1f2a.0000000000000007", "ä ö", "exactly12byt", "x" * 300, "%00", "12345678901"):
        text = run(tmp_path, "osdmaptool", "osdmap", IN, "--test-map-object", name, "--pool", "1")
        (found,) = re.findall(r"-> 1\.([0-9a-f]+) -> \[([0-9,]+)\]", text)
        assert pg_of(name, pool) == int(found[0], 16)
        assert placed.up[int(found[0], 16)].tolist() == [int(osd) for osd in found[1].split(",")]


def test_the_pools_of_cephs_own_test_hold_as_much_as_there(tmp_path: Path) -> None:
    """Source: src/test/cli/osdmaptool/test-map-pgs.t of Ceph: 500 OSDs, 8,000 groups of three."""
    require("osdmaptool", "crushtool", root=False)
    run(
        tmp_path,
        "crushtool",
        "-o",
        "map.bin",
        "--build",
        "--num_osds",
        "500",
        "host",
        "straw2",
        "5",
        "root",
        "straw2",
        "0",
    )
    make(tmp_path, tmp_path / "map.bin", 500, PoolWanted(pg_num=8_000, pgp_num=8_000))
    text = run(tmp_path, "osdmaptool", "osdmap", IN, "--test-map-pgs", "--pool", "1")
    assert re.search(r"^size 3\t8000$", text, re.M)
    placed = place(read(tmp_path, IN), 1)
    assert int((placed.up != NONE).sum()) == 24_000
