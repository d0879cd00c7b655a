"""The CRUSH mapper against mappings that crushtool 16.2.15 made, and against the corners of the algorithm."""

import csv
import gzip
import io
import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from twin.crush.compile import Compiled, compile_map
from twin.crush.crush_binary import crush_from_binary
from twin.crush.crush_text import crush_from_text
from twin.crush.logarithm import negative_logs, ranks
from twin.crush.map import (
    NONE,
    ONE,
    Algorithm,
    Bucket,
    Choose,
    CrushMap,
    Device,
    Emit,
    Rule,
    Set,
    Step,
    Take,
    Tunables,
    Unsupported,
)
from twin.crush.mapping import map_counted, map_inputs
from twin.crush.read import read_map
from twin.crush.straws import straw_lengths, tree_weights

OURS = Path(__file__).parents[1] / "data" / "crush"
DATA = Path(os.environ.get("MOXIE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "crush"
JEWEL = Tunables()
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the recorded maps are not shipped; set MOXIE_DATA")


def compiled_map(path: Path) -> Compiled:
    if path.suffix == ".xz":
        return compile_map(crush_from_binary(lzma.decompress(path.read_bytes()), path.name)[0])
    return compile_map(read_map(path)[0])


def mapped_by_tool(path: Path) -> list[list[int]]:
    """The mappings in the tool's lines, or of a table (x, "a b c")."""
    if path.name.endswith(".csv.xz"):
        rows = list(csv.reader(io.StringIO(lzma.decompress(path.read_bytes()).decode())))
        return [[int(item) for item in row[1].split()] for row in rows if row[0].isdigit()]
    unpack = lzma.decompress if path.suffix == ".xz" else gzip.decompress
    lines = unpack(path.read_bytes()).decode().splitlines()
    return [json.loads(line[line.index("[") :]) for line in lines]


def mapped(compiled: Compiled, rule: int, count: int, number: int, weights: dict[int, int]) -> list[list[int]]:
    given = np.full(compiled.device_count, ONE)
    for device, weight in weights.items():
        given[device] = weight
    rows, lengths = map_counted(compiled, rule, np.arange(count), number, given)
    return [row[:length].tolist() for row, length in zip(rows, lengths, strict=True)]


@pytest.mark.parametrize(
    ("recorded", "number", "weights"),
    [
        ("mid.r3.x0-1999.txt.xz", 3, {}),
        ("mid.r3.osd7out.osd8half.txt.xz", 3, {7: 0, 8: ONE // 2}),
    ],
)
def test_a_large_map_maps_as_crushtool_does(recorded: str, number: int, weights: dict[int, int]) -> None:
    got = mapped(compiled_map(OURS / "mid.bin.xz"), 0, 2000, number, weights)
    assert got == mapped_by_tool(OURS / recorded)


@needs_data
@pytest.mark.parametrize("number", [1, 5])
def test_a_large_map_maps_other_numbers_of_replicas_as_crushtool_does(number: int) -> None:
    got = mapped(compiled_map(DATA / "mid.bin.gz"), 0, 2000, number, {})
    assert got == mapped_by_tool(DATA / f"mid.r{number}.x0-1999.txt.gz")


@pytest.mark.parametrize(("rule", "number", "state"), [(0, 3, "out"), (2, 6, "in"), (4, 6, "out")])
def test_replicas_and_shards_map_as_crushtool_does(rule: int, number: int, state: str) -> None:
    weights = dict.fromkeys(range(4), 0) if state == "out" else {}
    got = mapped(compiled_map(OURS / "uniform_48.txt"), rule, 1024, number, weights)
    assert got == mapped_by_tool(OURS / f"uniform_48.rule{rule}.rep{number}.{state}.csv.xz")


@needs_data
def test_all_recorded_maps_and_rules_map_as_crushtool_does() -> None:
    tests = json.loads((DATA / "index.json").read_text())["tests"]
    assert len(tests) == 20
    for test in tests:
        weights = dict.fromkeys(test["out_osds"], 0)
        got = mapped(compiled_map(DATA / test["map"]), test["rule"], test["n"], test["num_rep"], weights)
        assert got == mapped_by_tool(DATA / test["file"]), test["file"]


@needs_data
def test_firstn_over_indep_over_straw_buckets_is_as_in_cephs_own_test() -> None:
    compiled = compiled_map(DATA / "firstn_indep_100.txt")
    expected = json.loads((DATA / "expected.json").read_text())
    for one in expected["expected"]:
        weights = np.full(compiled.device_count, ONE)
        rows, lengths = map_counted(compiled, one["rule"], [expected["x"]], one["num_rep"], weights)
        assert rows[0, : lengths[0]].tolist() == one["result"]


def a_map(steps: tuple[Step, ...], alg: Algorithm = "straw2", tunables: Tunables = JEWEL) -> CrushMap:
    """Two hosts of two devices each, under one root; one more host is empty."""
    hosts = [
        Bucket(id=-2, name="a", type_id=1, alg=alg, items=(0, 1), weights=(ONE, ONE)),
        Bucket(id=-3, name="b", type_id=1, alg=alg, items=(2, 3), weights=(ONE, ONE)),
        Bucket(id=-4, name="empty", type_id=1, alg=alg, items=(), weights=()),
    ]
    root = Bucket(id=-1, name="default", type_id=2, alg=alg, items=(-2, -3), weights=(2 * ONE, 2 * ONE))
    return CrushMap(
        devices=tuple(Device(id=device, name=f"osd.{device}") for device in range(4)),
        types={0: "osd", 1: "host", 2: "root"},
        buckets=(root, *hosts),
        rules=(Rule(id=0, name="r", type_id=1, steps=steps),),
        tunables=tunables,
    )


def map_hundred(crush: CrushMap, number: int, weights: list[int] | None = None) -> list[list[int]]:
    compiled = compile_map(crush)
    rows, lengths = map_counted(compiled, 0, range(100), number, [ONE] * 4 if weights is None else weights)
    return [row[:length].tolist() for row, length in zip(rows, lengths, strict=True)]


def test_a_result_is_padded_with_no_item_and_its_length_is_told() -> None:
    compiled = compile_map(a_map((Take(item=-1), Choose(how="chooseleaf_firstn", num=0, type_id=1), Emit())))
    rows, lengths = map_counted(compiled, 0, range(50), 4, [ONE] * 4)
    assert rows.dtype == np.int32
    assert rows.shape == (50, 4)
    assert set(lengths.tolist()) == {2}
    assert (rows[:, 2:] == NONE).all()


def test_an_erasure_coded_result_keeps_its_holes_in_place() -> None:
    rows = map_hundred(a_map((Take(item=-1), Choose(how="chooseleaf_indep", num=0, type_id=1), Emit())), 3)
    assert {len(row) for row in rows} == {3}
    assert all(row.count(NONE) == 1 for row in rows)
    assert {row.index(NONE) for row in rows} != {2}


def test_taking_a_device_gives_that_device() -> None:
    assert map_hundred(a_map((Take(item=3), Emit())), 2) == [[3]] * 100


def test_nothing_is_below_a_device_nor_below_an_empty_bucket() -> None:
    assert map_hundred(a_map((Take(item=3), Choose(how="choose_firstn", num=0, type_id=0), Emit())), 2) == [[]] * 100
    assert map_hundred(a_map((Take(item=-4), Choose(how="choose_firstn", num=0, type_id=0), Emit())), 2) == [[]] * 100
    holes = map_hundred(a_map((Take(item=-4), Choose(how="choose_indep", num=0, type_id=0), Emit())), 2)
    assert holes == [[NONE, NONE]] * 100


def test_a_type_that_is_not_below_gives_nothing() -> None:
    rack = Choose(how="choose_firstn", num=0, type_id=7)
    assert map_hundred(a_map((Take(item=-1), rack, Emit())), 2) == [[]] * 100
    rack = Choose(how="choose_indep", num=0, type_id=7)
    assert map_hundred(a_map((Take(item=-1), rack, Emit())), 2) == [[NONE, NONE]] * 100


def test_taking_what_does_not_exist_leaves_nothing_to_choose_from() -> None:
    host = Choose(how="chooseleaf_firstn", num=0, type_id=1)
    assert map_hundred(a_map((Take(item=-99), host, Emit())), 2) == [[]] * 100
    assert map_hundred(a_map((Take(item=4), Emit())), 2) == [[]] * 100


def test_a_number_below_one_counts_from_the_number_asked_for() -> None:
    less = (Take(item=-1), Choose(how="choose_firstn", num=-1, type_id=0), Emit())
    assert {len(row) for row in map_hundred(a_map(less), 3)} == {2}
    assert map_hundred(a_map(less), 1) == [[]] * 100


def test_two_takes_add_up_to_the_number_asked_for_and_no_more() -> None:
    host = Choose(how="choose_firstn", num=2, type_id=0)
    rows = map_hundred(a_map((Take(item=-2), host, Emit(), Take(item=-3), host, Emit())), 3)
    assert all(len(row) == 3 and set(row[:2]) == {0, 1} and row[2] in (2, 3) for row in rows)


def test_a_device_beyond_the_reweights_is_out() -> None:
    every = (Take(item=-1), Choose(how="choose_firstn", num=0, type_id=0), Emit())
    rows = map_hundred(a_map(every), 4, [ONE, 0, ONE])
    assert {frozenset(row) for row in rows} == {frozenset({0, 2})}
    assert map_hundred(a_map(every), 4, []) == [[]] * 100


def test_half_a_reweight_keeps_about_half_of_the_inputs() -> None:
    compiled = compile_map(a_map((Take(item=-2), Choose(how="choose_firstn", num=2, type_id=0), Emit())))
    rows = map_inputs(compiled, 0, range(10_000), 2, [ONE, ONE // 2, ONE, ONE])
    assert (rows == 0).any(axis=1).mean() == pytest.approx(1.0, abs=0.001)
    assert (rows == 1).any(axis=1).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("alg", ["straw2", "straw", "list", "tree", "uniform"])
def test_every_bucket_algorithm_spreads_by_weight(alg: Algorithm) -> None:
    weights = (ONE, ONE, ONE, ONE) if alg == "uniform" else (ONE, 2 * ONE, 3 * ONE, 6 * ONE)
    bucket = Bucket(id=-1, name="default", type_id=1, alg=alg, items=(0, 1, 2, 3), weights=weights)
    crush = CrushMap(
        devices=(),
        types={0: "osd", 1: "host"},
        buckets=(bucket,),
        rules=(
            Rule(
                id=0, name="r", type_id=1, steps=(Take(item=-1), Choose(how="choose_firstn", num=1, type_id=0), Emit())
            ),
        ),
    )
    rows = map_inputs(compile_map(crush), 0, range(20_000), 1, [ONE] * 4)
    shares = np.bincount(rows[:, 0], minlength=4) / 20_000
    assert shares == pytest.approx(np.array(weights) / sum(weights), abs=0.03)


def test_a_setting_of_no_use_changes_nothing() -> None:
    host = Choose(how="chooseleaf_firstn", num=0, type_id=1)
    plain = map_hundred(a_map((Take(item=-1), host, Emit())), 2)
    nothing = Set(what="set_choose_tries", value=0)
    assert map_hundred(a_map((nothing, Take(item=-1), host, Emit())), 2) == plain
    once = Set(what="set_choose_tries", value=1)
    assert map_hundred(a_map((once, Take(item=-1), host, Emit())), 2) != plain


def test_an_msr_rule_is_refused_by_name() -> None:
    compiled = compile_map(a_map((Take(item=-1), Unsupported(operation="step choosemsr"), Emit())))
    with pytest.raises(InputError, match=r"rule 0 \(r\): step choosemsr: MSR"):
        map_inputs(compiled, 0, range(3), 2, [ONE] * 4)


def test_a_rule_or_choose_args_that_do_not_exist_are_named() -> None:
    compiled = compile_map(a_map((Take(item=-1), Emit())))
    with pytest.raises(InputError, match="rule 7: not in the map; allowed: 0"):
        map_inputs(compiled, 7, range(3), 2, [ONE] * 4)
    with pytest.raises(InputError, match="choose_args -1: not in the map; allowed: none"):
        map_inputs(compiled, 0, range(3), 2, [ONE] * 4, "-1")


def bucket(id: int, *items: int) -> Bucket:  # noqa: A002 - the field's own name
    return Bucket(id=id, name=f"b{-id}", type_id=1, alg="straw2", items=items, weights=(ONE,) * len(items))


@pytest.mark.parametrize(
    ("buckets", "problem"),
    [
        ((bucket(-1, -2), bucket(-2, -1)), "bucket b1: contains itself"),
        ((bucket(-1, -1),), "bucket b1: contains itself"),
        ((bucket(-1, -5),), "bucket b1: item -5 is no bucket"),
        ((bucket(-1, 0), bucket(-1, 1)), "an id is used twice"),
        ((Bucket(id=-1, name="b", type_id=1, alg="straw2", items=(0, 1), weights=(1,)),), "2 items but 1 weights"),
        (
            (Bucket(id=-1, name="b", type_id=1, alg="tree", items=tuple(range(65)), weights=(1,) * 65),),
            "a tree bucket, items: 65",
        ),
        ((bucket(3, 0),), "id 3; allowed"),
        ((bucket(-(1 << 24), 0),), "id -16777216; allowed"),
        ((bucket(-1, 1 << 40),), "item 1099511627776; allowed"),
    ],
)
def test_a_map_that_cannot_be_used_is_refused(buckets: tuple[Bucket, ...], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        compile_map(CrushMap(devices=(), types={}, buckets=buckets, rules=()))


def test_the_logarithm_is_cephs_own_with_its_roundings() -> None:
    table = negative_logs()
    assert (int(table[0]), int(table[1]), int(table[65535])) == (1 << 48, 263882790666240, 268435456)
    assert int((np.diff(table) >= 0).sum()) == 10_008
    rank, weight_max = ranks()
    assert weight_max == 56_128_037
    assert (np.sign(np.diff(table)) == -np.sign(np.diff(rank.astype(np.int64)))).all()


def test_equal_weights_too_large_for_ranks_are_divided() -> None:
    """Beyond 856 TiB an item, quotients become equal that were not, and the first of them wins."""
    steps = (Take(item=-1), Choose(how="choose_firstn", num=1, type_id=0), Emit())
    rows = []
    for weight in (56_128_037, 0xFFFFFFFF):
        host = Bucket(id=-1, name="h", type_id=1, alg="straw2", items=tuple(range(9)), weights=(weight,) * 9)
        rule = Rule(id=0, name="r", type_id=1, steps=steps)
        compiled = compile_map(CrushMap(devices=(), types={1: "host"}, buckets=(host,), rules=(rule,)))
        rows.append(map_inputs(compiled, 0, range(200_000), 1, [ONE] * 9)[:, 0])
    assert 0 < (rows[0] != rows[1]).sum() < 2000


def test_straws_and_tree_nodes_are_those_of_ceph() -> None:
    """Lengths as a map compiled by crushtool 16.2.15 holds them."""
    assert straw_lengths([73626, 131078], 1) == [65536, 91105]
    assert straw_lengths([ONE, ONE, 2 * ONE, 0], 0) == [65536, 65536, 78975, 0]
    assert straw_lengths([ONE, ONE, 2 * ONE, 0], 1) == [65536, 65536, 87381, 0]
    assert tree_weights([1, 2, 3]) == [0, 1, 3, 2, 6, 3, 3, 0]


def test_a_weight_set_shifts_the_shares_by_position() -> None:
    text = """
    tunable choose_total_tries 50
    device 0 osd.0
    device 1 osd.1
    type 0 osd
    type 1 root
    root default {
     id -1
     alg straw2
     item osd.0 weight 1.0
     item osd.1 weight 1.0
    }
    rule r {
     id 0
     type replicated
     step take default
     step choose firstn 0 type osd
     step emit
    }
    choose_args 18446744073709551615 {
     { bucket_id -1 weight_set [ [ 1.0 0.0 ] [ 0.0 1.0 ] ] }
    }
    """
    compiled = compile_map(crush_from_text(text, "text"))
    assert map_inputs(compiled, 0, range(50), 2, [ONE] * 2, "-1").tolist() == [[0, 1]] * 50
    assert map_inputs(compiled, 0, range(50), 2, [ONE] * 2).tolist() != [[0, 1]] * 50
