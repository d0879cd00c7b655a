"""CRUSH maps from JSON, text and compiled files: one map in three forms, and what is said of files that are none."""

import gzip
import json
import lzma
import struct
from pathlib import Path

import msgspec
import pytest

from core.errors import InputError
from twin.crush.compile import compile_map
from twin.crush.crush_binary import crush_from_binary
from twin.crush.crush_json import crush_from_json
from twin.crush.crush_text import crush_from_text
from twin.crush.map import ONE, Bucket, Choose, ChooseArgs, CrushMap, Emit, Set, Take, Tunables, Unsupported
from twin.crush.read import read_map
from twin.crush.shadows import add_shadows

OURS = Path(__file__).parents[1] / "data" / "crush"
TEXT = """\
# begin crush map
tunable choose_local_tries 0
tunable choose_local_fallback_tries 0
tunable choose_total_tries 50
tunable chooseleaf_descend_once 1
tunable chooseleaf_vary_r 1
tunable chooseleaf_stable 1
tunable straw_calc_version 1
tunable allowed_bucket_algs 54
device 0 osd.0 class hdd
device 1 osd.1 class ssd
device 2 osd.2 class hdd
type 0 osd
type 1 host
type 11 root
host a {
	id -2		# do not change unnecessarily
	id -5 class hdd
	alg straw2
	hash 0	# rjenkins1
	item osd.0 weight 1.819
	item osd.1 weight 0.5
}
host b {
	alg straw2
	hash rjenkins1
	item osd.2
}
root default {
	id -1
	alg straw2
	item a weight 2.319
	item b
}
rule replicated {
	id 0
	type replicated
	min_size 1
	max_size 10
	step take default class hdd
	step set_chooseleaf_tries 5
	step chooseleaf firstn 0 type host
	step emit
}
rule ec {
	id 3
	type erasure
	step take default
	step noop
	step choose indep 0 type osd
	step emit
}
choose_args 2 {
  {
    bucket_id -2
    weight_set [
      [ 1.000 2.000 ]
      [ 0.500 0.000 ]
    ]
    ids [ -20 -21 ]
  }
}
# end crush map
"""


def a_dump() -> dict[str, object]:
    """What `crushtool --dump` prints for a map of one host."""
    return {
        "devices": [{"id": 0, "name": "osd.0", "class": "ssd"}, {"id": 1, "name": "device1"}],
        "types": [{"type_id": 0, "name": "osd"}, {"type_id": 1, "name": "host"}],
        "buckets": [
            {
                "id": -1,
                "name": "h",
                "type_id": 1,
                "type_name": "host",
                "weight": 65792,
                "alg": "straw2",
                "hash": "rjenkins1",
                "items": [{"id": 0, "weight": 65536, "pos": 0}, {"id": 1, "weight": 256, "pos": 1}],
            }
        ],
        "rules": [
            {
                "rule_id": 0,
                "rule_name": "r",
                "type": 1,
                "steps": [
                    {"opcode": 12, "arg1": 4, "arg2": 0},
                    {"op": "take", "item": -1, "item_name": "h"},
                    {"op": "choose_firstn", "num": 0, "type": "osd"},
                    {"op": "emit"},
                ],
            }
        ],
        "tunables": {"choose_total_tries": 50, "profile": "jewel", "allowed_bucket_algs": 54},
        "choose_args": {
            "-1": [{"bucket_id": -1, "weight_set": [[1.23455810546875, 1.52587890625e-05]], "ids": [5, 7]}]
        },
    }


def test_a_text_is_read_with_its_classes_rules_and_choose_args() -> None:
    crush = crush_from_text(TEXT, "map.txt")
    assert crush.types == {0: "osd", 1: "host", 11: "root"}
    assert [(device.name, device.device_class) for device in crush.devices] == [
        ("osd.0", "hdd"),
        ("osd.1", "ssd"),
        ("osd.2", "hdd"),
    ]
    by_name = {bucket.name: bucket for bucket in crush.buckets}
    assert by_name["a"].weights == (119209, 32768)
    assert by_name["b"].id == -3  # the first free id
    assert by_name["default"].items == (-2, -3)
    assert by_name["default"].weights == (151977, ONE)
    first, second = crush.rules
    assert first.steps == (
        Take(item=by_name["default~hdd"].id),
        Set(what="set_chooseleaf_tries", value=5),
        Choose(how="chooseleaf_firstn", num=0, type_id=1),
        Emit(),
    )
    assert (second.id, second.type_id, len(second.steps)) == (3, 3, 3)
    assert crush.choose_args == {
        "2": (ChooseArgs(bucket=-2, weight_sets=((ONE, 2 * ONE), (ONE // 2, 0)), ids=(-20, -21)),)
    }
    assert crush.tunables == Tunables()


def test_shadow_trees_keep_known_ids_and_take_free_ones_inner_first() -> None:
    crush = crush_from_text(TEXT, "map.txt")
    by_name = {bucket.name: bucket for bucket in crush.buckets}
    ids = {name: by_name[name].id for name in by_name if "~" in name}
    assert ids == {"a~hdd": -5, "b~hdd": -4, "default~hdd": -6, "a~ssd": -7, "b~ssd": -8, "default~ssd": -9}
    assert by_name["b~ssd"].items == ()
    assert by_name["default~ssd"].items == (-7, -8)
    assert by_name["default~ssd"].weights == (32768, 0)


def test_a_bucket_outside_of_all_roots_is_a_root_of_its_own() -> None:
    lonely = Bucket(id=-9, name="lonely", type_id=1, alg="straw2", items=(0,), weights=(ONE,))
    shadows, ids = add_shadows([lonely], ["hdd"], {0: "hdd"}, {})
    assert ids == {(-9, "hdd"): -1}
    assert [(shadow.name, shadow.items) for shadow in shadows] == [("lonely~hdd", (0,))]


def test_a_text_without_tunables_means_the_oldest() -> None:
    crush = crush_from_text("device 0 osd.0\ntype 0 osd", "map.txt")
    assert (crush.tunables.choose_total_tries, crush.tunables.choose_local_fallback_tries) == (19, 5)
    assert crush.tunables.chooseleaf_stable == 0


def test_weights_of_a_text_are_rounded_as_float32() -> None:
    body = "device 0 osd.0\ntype 0 osd\ntype 1 host\nhost h {{ id -1 alg straw2 item osd.0 weight {} }}"
    weights = [crush_from_text(body.format(word), "t").buckets[0].weights[0] for word in ("1.1234567", "0.00002", "7")]
    assert weights == [73626, 1, 7 * ONE]


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("alg straw2", "alg strow", "line 19: 'strow'; allowed here: uniform, list, tree, straw, straw2"),
        ("item osd.1 weight 0.5", "item osd.7 weight 0.5", "line 22: item 'osd.7'"),
        ("weight 0.5", "weight heavy", "line 22: weight 'heavy'"),
        ("weight 0.5", "weight nan", "line 22: weight 'nan'"),
        ("weight 0.5", "weight -2", "line 22: weight '-2'"),
        ("step take default class hdd", "step take default class nvme", "line 40: step take default class nvme"),
        ("step take default class hdd", "step take nowhere", "line 40: step take nowhere"),
        ("firstn 0 type host", "firstn 0 type shelf", "line 42: 'shelf'"),
        ("step emit", "step emits", "line 43: step 'emits'"),
        ("tunable choose_local_tries 0", "tunable choose_locally 0", "line 2: tunable 'choose_locally'"),
        ("host b {", "shelf b {", "line 24: 'shelf'; allowed: tunable"),
        ("device 1 osd.1", "device x osd.1", "line 11: device id: 'x'"),
        ("id 3", "id 0", "rule 0: allowed: each id once"),
        ("	id -1", "	id -2", "id -2 is used before"),
        ("# end crush map", "rule", "the text ends where rule name"),
        ("[ 0.500 0.000 ]", "[ 0.500", "line 60: 'ids'; allowed here: [, ]"),
    ],
)
def test_a_wrong_text_is_refused_with_its_line(before: str, after: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        crush_from_text(TEXT.replace(before, after, 1), "map.txt")
    assert caught.value.problems[0].startswith("map.txt: line ")
    assert problem in caught.value.problems[0]


def test_an_msr_rule_in_a_text_is_kept_as_unsupported() -> None:
    steps = (
        "rule m { id 9 type msr_indep step set_msr_descents 1 step take default step choosemsr 4 type host step emit }"
    )
    rule = crush_from_text(TEXT + steps, "map.txt").rules[-1]
    assert rule.steps[0] == Unsupported(operation="step set_msr_descents")
    assert rule.steps[2] == Unsupported(operation="step choosemsr")


def test_a_dump_is_read_with_integer_weights_and_steps_by_number() -> None:
    crush = crush_from_json(a_dump(), "dump.json")
    assert crush.buckets[0].weights == (65536, 256)
    assert crush.rules[0].steps[0] == Set(what="set_chooseleaf_vary_r", value=4)
    assert crush.choose_args["-1"][0] == ChooseArgs(bucket=-1, weight_sets=((80908, 1),), ids=(5, 7))
    assert crush.devices[0].device_class == "ssd"
    compile_map(crush)


def spoiled(*path: str | int, value: object = None) -> object:
    """A dump with one field changed, or taken away (None)."""
    dump = a_dump()
    place: object = dump
    for step in path[:-1]:
        place = place[step]  # type: ignore[index]
    if value is None:
        del place[path[-1]]  # type: ignore[attr-defined]
    else:
        place[path[-1]] = value  # type: ignore[index]
    return dump


@pytest.mark.parametrize(
    ("obj", "problem"),
    [
        ([], "Expected `object`, got `array`"),
        ({"osds": []}, "missing required field `devices`"),
        (spoiled("buckets"), "missing required field `buckets`"),
        (spoiled("buckets", 0, "items"), "missing required field `items` - at `$.buckets[0]`"),
        (spoiled("buckets", 0, "alg", value="wheel"), "`$.buckets[0].alg`"),
        (spoiled("buckets", 0, "items", 1, "weight", value="1.0"), "`$.buckets[0].items[1].weight`"),
        (spoiled("buckets", 0, "hash", value="sha"), "bucket -1: hash 'sha'"),
        (spoiled("rules", 0, "steps", 2, "type", value="shelf"), "rule 0: step choose_firstn: type 'shelf'"),
        (spoiled("tunables", value=[]), "`$.tunables`"),
        (spoiled("tunables", value={"choose_total_tries": 1 << 62}), "tunable choose_total_tries 4611686018427387904"),
        (spoiled("buckets", 0, "type_id", value=1 << 62), "`$.buckets[0].type_id`"),
        (spoiled("buckets", 0, "items", 1, "weight", value=-1), "bucket h: weight -1; allowed: from 0"),
        (spoiled("rules", 0, "steps", 2, "num", value=1 << 40), "rule r: step choose_firstn: num 1099511627776"),
        (spoiled("rules", 0, "max_size", value=1 << 40), "rule r: max_size 1099511627776"),
        (spoiled("choose_args", "-1", 0, "weight_set", value=[[1e305, 1]]), "choose_args -1: bucket -1: weight"),
        (spoiled("choose_args", "-1", 0, "bucket_id", value=-9), "choose_args -1: bucket -9"),
    ],
)
def test_a_foreign_dump_is_refused_with_its_field(obj: object, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        crush_from_json(obj, "dump.json")
    assert caught.value.problems[0].startswith("dump.json: ")
    assert problem in caught.value.problems[0]


def a_binary() -> bytes:
    return lzma.decompress((OURS / "mid.bin.xz").read_bytes())


def test_a_compiled_map_is_read() -> None:
    crush, warnings = crush_from_binary(a_binary(), "mid.bin")
    assert warnings == ()
    assert (len(crush.devices), len(crush.buckets), crush.device_count) == (2400, 211, 2400)
    assert [(rule.name, rule.size_min, rule.size_max) for rule in crush.rules] == [("replicated_rule", 1, 10)]
    assert crush.tunables == Tunables()


@pytest.mark.parametrize("length", [0, 3, 4, 15, 40, 900, 14000])
def test_a_compiled_map_that_is_cut_short_is_refused_with_its_place(length: int) -> None:
    with pytest.raises(InputError, match=r"mid\.bin: .*byte \d+: .*truncated|mid\.bin: .*ends here"):
        crush_from_binary(a_binary()[:length], "mid.bin")


def test_bytes_that_are_no_map_are_refused() -> None:
    magic = struct.pack("<I", 0x10000)
    for content, problem in (
        (b"\x7fELF" + bytes(40), "does not begin with"),
        (magic + b"\xff" * 40, "max_buckets, byte 8: 4294967295 of them"),
        (magic + struct.pack("<4I", 1, 0, 0, 9), "bucket -1, byte 20: algorithm 9"),
    ):
        with pytest.raises(InputError, match=problem):
            crush_from_binary(content, "x")


def test_a_file_is_read_by_what_it_holds_also_packed(tmp_path: Path) -> None:
    plain = {"map.txt": TEXT.encode(), "map.json": b"\n" + json.dumps(a_dump()).encode(), "map.bin": a_binary()}
    maps: dict[str, CrushMap] = {}
    for name, content in plain.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
        maps[name], warnings = read_map(tmp_path / name)
        assert read_map(tmp_path / f"{name}.gz")[0] == maps[name]
        assert bool(warnings) == (name == "map.txt")
    assert "3 decimals" in read_map(tmp_path / "map.txt")[1][0]
    assert msgspec.to_builtins(maps["map.json"])["types"] == {0: "osd", 1: "host"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read"),
        (b"", "line 1: there is nothing"),
        (b"\x89PNG\r\n\xff", "neither text nor a compiled map"),
        (b'{"devices": [', "no valid JSON"),
        (b'{"epoch": 7}', "missing required field `devices`"),
        (b"[1, 2]", "Expected `object`"),
        (b"\x1f\x8b\x08\x00broken", "cannot be read"),
        (b"hello, world", "line 1: 'hello,'"),
    ],
)
def test_a_file_that_is_no_map_is_refused_by_name(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "some.map"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_map(path)
    assert str(path) in caught.value.problems[0]
    assert problem in caught.value.problems[0]


def test_what_json_cannot_say_of_straw_buckets_and_heavy_weight_sets_is_told(tmp_path: Path) -> None:
    path = tmp_path / "dump.json"
    path.write_text(json.dumps(spoiled("buckets", 0, "alg", value="straw")))
    assert "straw lengths" in read_map(path)[1][0]
    path.write_text(json.dumps(spoiled("choose_args", "-1", 0, "weight_set", value=[[300.0, 1.0]])))
    assert "256" in read_map(path)[1][0]
