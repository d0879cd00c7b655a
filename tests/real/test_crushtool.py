"""The CRUSH mapper against crushtool itself: a million mappings over random maps, without one mismatch."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.property.crush_maps import ALGORITHMS, Shape, map_text
from tests.real.require import require
from twin.crush.compile import Compiled, compile_map
from twin.crush.map import CrushMap
from twin.crush.read import read_map
from twin.crush.tester import Wanted, default_choose_args, printed_lines

pytestmark = [pytest.mark.real, pytest.mark.slow]
FAN = ((3, 8), (4, 9), (3, 5), (2, 3))
ROWS = (*FAN[:3], (3, 4))


@dataclass(frozen=True)
class Case:
    """A map, and how many inputs to map through each of its rules; ``outs``: the part of the devices reweighted."""

    shape: Shape
    inputs: int
    outs: float = 0.0
    size: int = 3


CASES = {
    "hosts": Case(Shape(levels=2, fan=FAN), 4_300),
    "hosts, some out": Case(Shape(levels=2, fan=FAN), 4_300, 0.3, size=6),
    "racks of equal disks": Case(Shape(levels=3, fan=FAN, weights="equal"), 5_500, size=11),
    "racks, mixed and zero weights": Case(Shape(levels=3, fan=FAN, weights="zero"), 5_500, 0.2, size=6),
    "rows of racks": Case(Shape(levels=4, fan=ROWS), 3_200, 0.2),
    "rows of racks, equal": Case(Shape(levels=4, fan=ROWS, weights="equal"), 3_200),
    "two classes": Case(Shape(levels=3, fan=FAN, classes=("hdd", "ssd")), 5_500, 0.1, size=6),
    "three classes, zero weights": Case(
        Shape(levels=4, fan=ROWS, weights="zero", classes=("hdd", "ssd", "nvme")), 2_200
    ),
    "choose_args": Case(Shape(levels=3, fan=FAN, choose_args=3), 3_200, 0.1, size=6),
    "choose_args of one position": Case(Shape(levels=2, fan=FAN, choose_args=1), 3_200),
    "tiny weights": Case(Shape(levels=3, fan=FAN, weights="tiny"), 4_300),
    "an empty bucket, few tries": Case(Shape(levels=2, fan=FAN, empty=True, total_tries=4), 5_500, 0.4),
    "hammer": Case(Shape(levels=3, fan=FAN, profile="hammer"), 4_300, 0.2, size=6),
    "firefly with straws": Case(Shape(levels=3, fan=FAN, profile="firefly", algorithms=("straw",)), 3_200, 0.1),
    "bobtail with straws of zero": Case(
        Shape(levels=3, fan=FAN, profile="bobtail", weights="zero", algorithms=("straw",)), 2_200
    ),
    "straws": Case(Shape(levels=3, fan=FAN, algorithms=("straw",)), 3_200, 0.1),
    "lists": Case(Shape(levels=2, fan=FAN, algorithms=("list",)), 2_200, 0.1),
    "trees": Case(Shape(levels=3, fan=FAN, algorithms=("tree",)), 2_200, 0.1, size=6),
    "uniform": Case(Shape(levels=3, fan=FAN, algorithms=("uniform",)), 2_200, 0.1),
    "all algorithms": Case(Shape(levels=3, fan=FAN, algorithms=ALGORITHMS), 2_200, 0.2, size=6),
    "argonaut": Case(Shape(levels=3, fan=FAN, profile="argonaut", algorithms=("straw", "straw2")), 2_200, 0.2, size=6),
    "argonaut, all algorithms": Case(Shape(levels=2, fan=FAN, profile="argonaut", algorithms=ALGORITHMS), 2_200, 0.2),
}
SEEDS = {name: 1_000 + place for place, name in enumerate(CASES)}
MAPPINGS_MIN = 1_000_000


def compiled_by_tool(folder: Path, text: str) -> Path:
    """Compile a text with crushtool."""
    (folder / "map.txt").write_text(text)
    done = subprocess.run(["crushtool", "-c", "map.txt", "-o", "map.bin"], cwd=folder, capture_output=True, check=False)
    assert (folder / "map.bin").exists(), done.stdout + done.stderr
    return folder / "map.bin"


def by_tool(path: Path, rule: int, case: Case, weights: dict[int, float]) -> str:
    """What crushtool prints for one rule."""
    span = ["--min-x", "0", "--max-x", str(case.inputs - 1)]
    given = [word for device, weight in weights.items() for word in ("--weight", str(device), str(weight))]
    command = [
        "crushtool",
        "-i",
        str(path),
        "--test",
        "--show-mappings",
        "--rule",
        str(rule),
        "--num-rep",
        str(case.size),
    ]
    return subprocess.run([*command, *span, *given], capture_output=True, text=True, check=True).stdout


def outs(compiled: Compiled, seed: int, part: float) -> dict[int, float]:
    """Devices that are out or half out."""
    rng = np.random.Generator(np.random.Philox(seed))
    some = rng.choice(compiled.device_count, int(part * compiled.device_count), replace=False)
    return {int(device): float(rng.choice([0.0, 0.0, 0.25, 0.8])) for device in some}


def as_json(path: Path) -> CrushMap:
    """The same map through `crushtool --dump`."""
    dump = path.with_suffix(".json")
    dump.write_text(
        subprocess.run(["crushtool", "-i", path, "--dump"], capture_output=True, text=True, check=True).stdout
    )
    return read_map(dump)[0]


def essence(crush: CrushMap) -> tuple[object, ...]:
    """What all three forms of a map say."""
    buckets = sorted((b.id, b.name, b.type_id, b.alg, b.items, b.weights) for b in crush.buckets)
    return buckets, crush.rules, crush.tunables, crush.choose_args


def test_a_million_mappings_over_random_maps_equal_those_of_crushtool(tmp_path: Path) -> None:
    require("crushtool", root=False)
    total, wrong = 0, []
    for name, case in CASES.items():
        folder = tmp_path / name.replace(" ", "-").replace(",", "")
        folder.mkdir()
        path = compiled_by_tool(folder, map_text(SEEDS[name], case.shape))
        crush, _ = read_map(path)
        compiled = compile_map(crush)
        assert essence(as_json(path)) == essence(read_map(folder / "map.txt")[0]) == essence(crush), name
        weights = outs(compiled, SEEDS[name], case.outs)
        for rule in compiled.rules:
            expected = by_tool(path, rule, case, weights).splitlines()
            wanted = Wanted(
                rules=(rule,),
                x_max=case.inputs - 1,
                replicas=(case.size, case.size),
                weights=weights,
                choose_args=default_choose_args(compiled),
            )
            got = "".join(printed_lines(compiled, wanted)).splitlines()
            assert len(got) == len(expected) == case.inputs
            wrong += [(name, *pair) for pair in zip(expected, got, strict=True) if pair[0] != pair[1]]
            total += len(got)
    assert wrong == []
    assert total >= MAPPINGS_MIN


@pytest.mark.parametrize("layout", ["host straw2 1 rack straw2 100 root straw2 0", "host straw2 24 root straw2 0"])
def test_wide_maps_equal_those_of_crushtool(layout: str, tmp_path: Path) -> None:
    require("crushtool", root=False)
    path = tmp_path / "map.bin"
    build = ["crushtool", "-o", str(path), "--build", "--num_osds", "3000", *layout.split()]
    subprocess.run(build, check=True, capture_output=True)
    compiled = compile_map(read_map(path)[0])
    case = Case(Shape(), 20_000)
    weights = outs(compiled, 7, 0.1)
    wanted = Wanted(rules=(0,), x_max=case.inputs - 1, replicas=(3, 3), weights=weights)
    assert "".join(printed_lines(compiled, wanted)) == by_tool(path, 0, case, weights)


def test_printing_and_mapping_take_less_time_than_crushtool(tmp_path: Path) -> None:
    """User CPU time; the bound is loose, as a shared machine is noisy: `bench` measures in earnest."""
    require("crushtool", root=False)
    path = tmp_path / "map.bin"
    build = ["--build", "--num_osds", "2400", "host", "straw2", "12", "rack", "straw2", "20", "root", "straw2", "0"]
    subprocess.run(["crushtool", "-o", str(path), *build], check=True, capture_output=True)
    compiled = compile_map(read_map(path)[0])
    wanted = Wanted(rules=(0,), x_max=49_999, replicas=(3, 3))
    ratios = []
    for _ in range(3):
        before, children = time.process_time(), os.times().children_user
        lines = "".join(printed_lines(compiled, wanted))
        own = time.process_time() - before
        assert by_tool(path, 0, Case(Shape(), 50_000), {}) == lines
        ratios.append(own / (os.times().children_user - children))
    assert min(ratios) < 1.2
