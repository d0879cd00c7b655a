"""An operator's changes, one after the other, against the same changes made by crushtool: the same map each time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.property.crush_maps import Shape, map_text
from tests.real.osdmap_file import run
from tests.real.require import require
from twin.crush.edit import add_bucket, add_host, add_osds, move_bucket, remove_bucket, remove_osds, reweight_device
from twin.crush.map import ONE, CrushMap
from twin.crush.osdmap import OsdMap, OsdState
from twin.crush.read import read_map

pytestmark = [pytest.mark.real, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
STEPS = 14
ALLOWED = "tunable allowed_bucket_algs 54\n"
"""What all clusters of the last years have: new buckets are straw2."""
SHAPES = {
    "plain": Shape(levels=3),
    "three classes": Shape(levels=3, classes=("hdd", "ssd", "nvme")),
    "rows, two classes": Shape(levels=4, classes=("hdd", "ssd")),
    "straws": Shape(levels=3, algorithms=("straw", "straw2")),
    "lists": Shape(levels=3, algorithms=("list",)),
    "weight-sets": Shape(levels=3, choose_args=1),
    "heavy": Shape(levels=4, weights="mixed", fan=((4, 8), (3, 5), (2, 4), (2, 3))),
}
Change = tuple[str, Callable[[OsdMap], OsdMap], list[str]]


def essence(crush: CrushMap) -> object:
    """What a map says of its hierarchy; a device without a name in it is left out, as a dump leaves it out."""
    buckets = sorted((b.id, b.name, b.type_id, b.alg, b.items, b.weights) for b in crush.buckets)
    classes = sorted((device.name, device.device_class) for device in crush.devices if device.device_class)
    return buckets, classes


def with_rows(crush: CrushMap) -> dict[str, dict[int, object]]:
    """The weight-sets by bucket: those that say the same as the weights count as none."""
    weights = {bucket.id: bucket.weights for bucket in crush.buckets}
    return {
        name: {
            one.bucket: one.weight_sets
            for one in found
            if any(row != weights[one.bucket] for row in one.weight_sets) and weights[one.bucket]
        }
        for name, found in crush.choose_args.items()
    }


def by_tool(folder: Path, words: list[str]) -> CrushMap:
    """Change ``folder/map.bin`` and read it again."""
    if words:
        run(folder, "crushtool", "-i", "map.bin", *words, "-o", "map.bin")
    return read_map(folder / "map.bin")[0]


def started(crush: CrushMap) -> OsdMap:
    return OsdMap(epoch=1, crush=crush, osds=tuple(OsdState(id=one.id) for one in crush.devices), pools=())


def drawn(osdmap: OsdMap, rng: np.random.Generator, number: int) -> Change:
    """One random change, as ours and as crushtool's words."""
    plain = [bucket for bucket in osdmap.crush.buckets if "~" not in bucket.name]
    parents = {item: bucket for bucket in plain for item in bucket.items}
    hosts = [bucket for bucket in plain if bucket.type_id == 1]
    racks = [bucket for bucket in plain if bucket.type_id == 2]
    host, rack = hosts[rng.integers(len(hosts))], racks[rng.integers(len(racks))]
    osd = int(rng.choice([osd.id for osd in osdmap.osds if osd.id in parents]))
    new = next(at for at in range(len(osdmap.osds) + 1) if at not in {osd.id for osd in osdmap.osds})
    weight = f"{rng.choice([0.0039, 0.5, 1.8190, 3.6380, 14.5530])}"
    fixed = int(np.float32(weight) * np.float32(ONE))

    def place(bucket_id: int, *own: str) -> list[str]:
        words, at = list(own), bucket_id
        while at in parents:
            above = parents[at]
            words += ["--loc", osdmap.crush.types[above.type_id], above.name]
            at = above.id
        return words

    at_host = ["--loc", "host", host.name, *place(host.id)]
    match int(rng.integers(6)):
        case 0:
            words = ["--add-item", str(new), weight, f"osd.{new}", *at_host]
            return "osd", lambda one: add_osds(one, host.name, [("", fixed)]), words
        case 1:
            name = f"new{number}"
            words = ["--add-item", str(new), weight, f"osd.{new}", "--loc", "host", name]
            words += ["--loc", "rack", rack.name, *place(rack.id)]
            return "host", lambda one: add_host(one, name, [("", fixed)], rack.name), words
        case 2:
            return "gone", lambda one: remove_osds(one, [osd]), ["--remove-item", f"osd.{osd}"]
        case 3:
            words = ["--reweight-item", f"osd.{osd}", weight]
            return "weight", lambda one: reweight_device(one, osd, fixed), words
        case 4:
            name = f"rack{number}"
            words = ["--add-bucket", name, "rack", *place(rack.id)[:3]]
            return "rack", lambda one: add_bucket(one, name, "rack", parents[rack.id].name), words
        case _ if host.id in rack.items:  # crushtool calls that an error, the monitors do nothing
            return "stay", lambda one: move_bucket(one, host.name, rack.name), []
        case _:
            words = ["--move", host.name, "--loc", "rack", rack.name, *place(rack.id)]
            return "move", lambda one: move_bucket(one, host.name, rack.name), words


@pytest.mark.parametrize("name", SHAPES)
def test_changes_one_after_the_other_equal_those_of_crushtool(name: str, tmp_path: Path) -> None:
    require("crushtool", root=False)
    kinds = set()
    for seed in (1, 2, 3):
        (tmp_path / "map.txt").write_text(ALLOWED + map_text(seed, SHAPES[name]))
        run(tmp_path, "crushtool", "-c", "map.txt", "-o", "map.bin")
        osdmap = started(read_map(tmp_path / "map.bin")[0])
        rng = np.random.Generator(np.random.Philox(key=seed))
        for number in range(STEPS):
            kind, change, words = drawn(osdmap, rng, number)
            osdmap = change(osdmap)
            tool = by_tool(tmp_path, words)
            assert essence(osdmap.crush) == essence(tool), (seed, number, kind, words)
            assert with_rows(osdmap.crush) == with_rows(tool), (seed, number, kind, words)
            kinds.add(kind)
    assert len(kinds) >= 5


def test_the_real_cluster_grows_to_the_ids_that_crushtool_gives(tmp_path: Path) -> None:
    require("crushtool", root=False)
    dump = ROOT / "racks/five-hosts/osd_crush_dump.json"
    osdmap = started(read_map(dump)[0])
    grown = add_host(osdmap, "host5", [("hdd", 255)], "default")
    made = {bucket.name: bucket for bucket in grown.crush.buckets}
    assert (made["host5"].id, made["host5~hdd"].id, made["host5"].items) == (-13, -14, (5,))
    assert made["host5"].weights == (255,)
    assert essence(remove_bucket(grown, "host5").crush) == essence(osdmap.crush)
