"""What-ifs on maps whose answers are known, and how little is mapped again for them."""

import csv
import lzma
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from twin.crush.compile import Compiled, compile_map
from twin.crush.compiled import Prefer, chooses_numba, map_best
from twin.crush.crush_binary import crush_from_binary
from twin.crush.delta import Baseline, baseline, what_if
from twin.crush.edit import add_host, add_osds, remove_bucket, set_out
from twin.crush.map import NONE, ONE, Bucket, Choose, CrushMap, Emit, Rule, Take
from twin.crush.mapping import map_inputs
from twin.crush.osdmap import OsdMap, OsdState
from twin.crush.pools import reweights
from twin.crush.read import read_map

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("MOXIE_DATA", ROOT.parent / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the recorded maps are not shipped; set MOXIE_DATA")
XS = np.arange(3_000)


def mid() -> OsdMap:
    """10 racks of 20 hosts of 12 OSDs."""
    packed = ROOT / "tests/data/crush/mid.bin.xz"
    crush = crush_from_binary(lzma.decompress(packed.read_bytes()), "mid.bin")[0]
    return OsdMap(epoch=1, crush=crush, osds=tuple(OsdState(id=one.id) for one in crush.devices), pools=())


@pytest.fixture(scope="module")
def osdmap() -> OsdMap:
    return mid()


@pytest.fixture(scope="module")
def base(osdmap: OsdMap) -> Baseline:
    return baseline(compile_map(osdmap.crush), 0, XS, 3, reweights(osdmap), prefer="numpy")


def mapped_again(base: Baseline, after: OsdMap) -> int:
    """How many inputs a what-if maps again; it must give what mapping all gives, and touch none in vain."""
    compiled = compile_map(after.crush)
    whole = map_inputs(compiled, 0, XS, 3, reweights(after))
    found = what_if(base, compiled, reweights(after), "numpy")
    assert np.array_equal(found.mapped, whole)
    assert found.again == (whole != base.trace.mapped).any(axis=1).sum()
    return found.again


def test_only_inputs_on_the_devices_that_are_out_are_mapped_again(osdmap: OsdMap, base: Baseline) -> None:
    out = (7, 300, 1_200)
    again = mapped_again(base, set_out(osdmap, out))
    assert again == np.isin(base.trace.mapped, out).any(axis=1).sum() > 0


def test_a_device_that_comes_back_gets_what_it_had(osdmap: OsdMap) -> None:
    compiled, all_in, out = compile_map(osdmap.crush), reweights(osdmap), reweights(set_out(osdmap, [7, 8]))
    gone = baseline(compiled, 0, XS, 3, out, prefer="numpy")
    back = what_if(gone, compiled, all_in, "numpy")
    assert np.array_equal(back.mapped, map_inputs(compiled, 0, XS, 3, all_in))
    assert 0 < back.again <= np.isin(back.mapped, (7, 8)).any(axis=1).sum() + 3


def test_few_inputs_are_mapped_again_for_a_new_host_and_none_in_vain(osdmap: OsdMap, base: Baseline) -> None:
    rack = next(bucket.name for bucket in osdmap.crush.buckets if bucket.type_id == 2)
    grown = add_host(osdmap, "new", [("", ONE)] * 12, rack)
    assert 0 < mapped_again(base, grown) < 0.05 * len(XS)
    host = next(bucket.name for bucket in osdmap.crush.buckets if bucket.type_id == 1)
    assert 0 < mapped_again(base, add_osds(osdmap, host, [("", ONE)])) < 0.02 * len(XS)
    assert 0 < mapped_again(base, remove_bucket(osdmap, host)) < 0.05 * len(XS)


@pytest.mark.parametrize("prefer", ["numpy", pytest.param("numba", marks=pytest.mark.slow)])
def test_ties_fall_to_the_item_that_comes_first(prefer: Prefer) -> None:
    if prefer == "numba":
        pytest.importorskip("numba")
    many = np.arange(30_000)
    huge = (1 << 32) - 1  # quotients by such a weight are small, and often the same

    def flat(weights: tuple[int, ...]) -> Compiled:
        root = Bucket(id=-1, name="r", type_id=1, alg="straw2", items=tuple(range(len(weights))), weights=weights)
        rule = Rule(
            id=0, name="r", type_id=1, steps=(Take(item=-1), Choose(how="choose_firstn", num=0, type_id=0), Emit())
        )
        return compile_map(CrushMap(devices=(), types={0: "osd", 1: "root"}, buckets=(root,), rules=(rule,)))

    in_all = np.full(8, ONE, np.uint32)
    base = baseline(flat((huge // 2, huge, huge, huge, huge, huge // 2)), 0, many, 2, in_all, prefer=prefer)
    for weights in ((huge,) * 6, (huge // 2, *(huge,) * 6), (huge // 3, *(huge,) * 4, huge // 3)):
        after = flat(weights)
        whole = map_inputs(after, 0, many, 2, in_all)
        found = what_if(base, after, in_all, prefer)
        assert np.array_equal(found.mapped, whole)


def test_no_input_is_mapped_again_when_nothing_changes(osdmap: OsdMap, base: Baseline) -> None:
    assert mapped_again(base, osdmap) == 0
    assert mapped_again(base, mid()) == 0


def test_a_rule_that_is_gone_is_named(osdmap: OsdMap, base: Baseline) -> None:
    none = compile_map(osdmap.crush.__class__(**{**_fields(osdmap), "rules": ()}))
    with pytest.raises(InputError, match="rule 0: not in the map"):
        what_if(base, none, reweights(osdmap), "numpy")


def _fields(osdmap: OsdMap) -> dict[str, object]:
    return {name: getattr(osdmap.crush, name) for name in osdmap.crush.__struct_fields__}


@needs_data
@pytest.mark.parametrize("prefer", ["numpy", pytest.param("numba", marks=pytest.mark.slow)])
def test_the_movement_on_out_is_that_of_crushtool(prefer: Prefer) -> None:
    if prefer == "numba":
        pytest.importorskip("numba")
    rows = list(csv.DictReader((DATA / "expected/crush_movement_on_out.csv").read_text().splitlines()))
    assert len(rows) == 9
    for row in rows:
        compiled = compile_map(read_map(DATA / "crush" / row["map"])[0])
        out = [int(osd) for osd in row["out_osds"].split()]
        assert movement(compiled, int(row["rule"]), int(row["num_rep"]), out, prefer) == {
            name: float(row[name])
            for name in ("replicas", "replicas_on_out", "replicas_moved", "moved_over_ideal", "positions_changed")
        }


def movement(compiled: Compiled, rule: int, num_rep: int, out: list[int], prefer: Prefer) -> dict[str, float]:
    """What moves when OSDs go out: replicas as sets, and positions."""
    weights = np.full(compiled.device_count, ONE, np.uint32)
    base = baseline(compiled, rule, np.arange(1_024), num_rep, weights, prefer=prefer)
    weights[out] = 0
    before, after = base.trace.mapped, what_if(base, compiled, weights, prefer).mapped
    moved = sum(len(set(new) - set(old) - {NONE}) for old, new in zip(before.tolist(), after.tolist(), strict=True))
    on_out = int(np.isin(before, out).sum())
    return {
        "replicas": int((before != NONE).sum()),
        "replicas_on_out": on_out,
        "replicas_moved": moved,
        "moved_over_ideal": round(moved / on_out, 4),
        "positions_changed": int((before != after).sum()),
    }


def test_numpy_alone_is_enough(osdmap: OsdMap) -> None:
    code = (
        "import sys; sys.modules['numba'] = None; import numpy as np;"
        "from tests.unit.test_what_if import mid; from twin.crush.compile import compile_map;"
        "from twin.crush.compiled import map_best; from twin.crush.delta import baseline;"
        "made = compile_map(mid().crush); ones = np.full(2400, 65536, np.uint32); xs = np.arange(50);"
        "assert (baseline(made, 0, xs, 3, ones).trace.mapped == map_best(made, 0, xs, 3, ones)).all();"
        "print(map_best(made, 0, xs, 3, ones).sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    mapped = map_best(compile_map(osdmap.crush), 0, np.arange(50), 3, reweights(osdmap), prefer="numpy")
    assert int(done.stdout) == mapped.sum()


def test_numba_is_not_started_for_a_short_run(osdmap: OsdMap) -> None:
    assert not chooses_numba(compile_map(osdmap.crush), 0, 64, 3, "numpy")
    code = (
        "import sys; import numpy as np; from tests.unit.test_what_if import mid;"
        "from twin.crush.compile import compile_map; from twin.crush.compiled import map_best;"
        "map_best(compile_map(mid().crush), 0, np.arange(64), 3, np.full(2400, 65536, np.uint32));"
        "print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_both_ways_give_the_same(osdmap: OsdMap) -> None:
    pytest.importorskip("numba")
    compiled, weights = compile_map(osdmap.crush), reweights(set_out(osdmap, [5, 9]))
    ours = map_best(compiled, 0, XS, 5, weights, prefer="numba")
    assert np.array_equal(ours, map_inputs(compiled, 0, XS, 5, weights))
