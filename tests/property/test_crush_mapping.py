"""The vectorised mapper equals a slow one in plain integers, on random maps, rules, reweights and tunables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.crush_maps import ALGORITHMS, PROFILES, Shape, map_text
from tests.property.crush_scalar import Scalar, hashed
from twin.crush.compile import compile_map
from twin.crush.crush_text import crush_from_text
from twin.crush.hashing import hash1, hash2, hash3, hash4, hash5
from twin.crush.map import NONE
from twin.crush.mapping import map_counted, map_inputs

SHAPES = st.builds(
    Shape,
    levels=st.integers(1, 4),
    fan=st.just(((1, 4), (1, 4), (1, 3), (1, 3))),
    algorithms=st.sampled_from([("straw2",), ALGORITHMS, *((one,) for one in ALGORITHMS)]),
    weights=st.sampled_from(["equal", "mixed", "zero", "tiny"]),
    profile=st.sampled_from(sorted(PROFILES)),
    choose_args=st.sampled_from([0, 0, 1, 3]),
    total_tries=st.sampled_from([0, 0, 2]),
)
WORDS = st.integers(0, 2**32 - 1)


@given(seed=st.integers(0, 10**9), shape=SHAPES, rule=st.integers(0, 13), number=st.integers(1, 7), data=st.data())
@settings(max_examples=25)
def test_the_fast_mapper_equals_the_slow_one(
    seed: int, shape: Shape, rule: int, number: int, data: st.DataObject
) -> None:
    crush = crush_from_text(map_text(seed, shape), "drawn")
    compiled = compile_map(crush)
    devices = compiled.device_count
    reweights = data.draw(
        st.lists(st.sampled_from([0, 0x4000, 0xC000, 0x10000, 0x10000]), min_size=devices, max_size=devices)
    )
    name = "0" if shape.choose_args else None
    slow = Scalar(crush, reweights, name)
    xs = data.draw(st.lists(WORDS, min_size=1, max_size=8))
    mapped, lengths = map_counted(compiled, rule, np.array(xs), number, np.array(reweights), name)
    got = [row[:length].tolist() for row, length in zip(mapped, lengths, strict=True)]
    assert got == [slow.one(rule, x, number) for x in xs]


FEATURES = {
    "holes in the first step": (1, Shape(), range(31, 35)),
    "uniform": (1, Shape(fan=((6, 6), (6, 6)), algorithms=("uniform",)), range(3)),
    "uniform, wider": (2, Shape(fan=((2, 3), (6, 6)), algorithms=("uniform",)), range(3)),
    "local tries": (3, Shape(profile="argonaut", fan=((2, 4), (3, 4))), range(3)),
    "local tries, all algorithms": (
        4,
        Shape(profile="argonaut", algorithms=ALGORITHMS, fan=((2, 4), (3, 4))),
        range(6),
    ),
    "choose_args by position": (5, Shape(levels=3, choose_args=3, fan=((2, 4), (2, 4), (2, 3))), range(3)),
    "choose_args by position, not stable": (6, Shape(profile="hammer", choose_args=3), range(3)),
    "classes": (7, Shape(levels=3, classes=("hdd", "ssd"), fan=((2, 4), (2, 4), (2, 3))), range(3)),
    "straws of the first version": (8, Shape(profile="firefly", algorithms=("straw",)), range(3)),
}


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_each_feature_maps_by_every_rule_as_the_slow_mapper_does(name: str) -> None:
    seed, shape, xs = FEATURES[name]
    crush = crush_from_text(map_text(seed, shape), "drawn")
    compiled = compile_map(crush)
    weights = [0x10000] * compiled.device_count
    weights[1::5] = [0x6000] * len(weights[1::5])
    args = "0" if shape.choose_args else None
    slow = Scalar(crush, weights, args)
    for rule in compiled.rules:
        mapped, lengths = map_counted(compiled, rule, np.array(xs), 6, np.array(weights), args)
        got = [row[:length].tolist() for row, length in zip(mapped, lengths, strict=True)]
        assert got == [slow.one(rule, x, 6) for x in xs], rule


@given(st.lists(st.tuples(WORDS, st.integers(-(2**31), 2**31 - 1), WORDS, WORDS), min_size=1, max_size=8))
def test_the_hashes_equal_those_in_plain_integers(rows: list[tuple[int, int, int, int]]) -> None:
    a, b, c, d = (np.array(column) for column in zip(*rows, strict=True))
    assert hash1(a).tolist() == [hashed(row[0]) for row in rows]
    assert hash5(a, b, c, d, b).tolist() == [hashed(*row, row[1]) for row in rows]
    assert hash2(a, b).tolist() == [hashed(*row[:2]) for row in rows]
    assert hash3(a, b, c).tolist() == [hashed(*row[:3]) for row in rows]
    assert hash4(a, b, c, d).tolist() == [hashed(*row) for row in rows]


@given(seed=st.integers(0, 10**6), cut=st.integers(1, 40), rule=st.sampled_from([0, 3, 5, 9]))
@settings(max_examples=5)
def test_an_input_maps_the_same_alone_and_among_others(seed: int, cut: int, rule: int) -> None:
    compiled = compile_map(crush_from_text(map_text(seed, Shape(levels=3)), "drawn"))
    weights = np.full(compiled.device_count, 0x10000)
    weights[::4] = 0x8000
    xs = np.arange(seed, seed + 41)
    together = map_inputs(compiled, rule, xs, 4, weights)
    apart = np.concatenate([map_inputs(compiled, rule, part, 4, weights) for part in (xs[:cut], xs[cut:])])
    assert np.array_equal(together, apart)


@pytest.mark.parametrize("rule", [0, 2, 3, 4])
def test_no_device_is_chosen_twice_and_none_that_is_out(rule: int) -> None:
    compiled = compile_map(crush_from_text(map_text(5, Shape(levels=3)), "drawn"))
    weights = np.full(compiled.device_count, 0x10000)
    weights[1::3] = 0
    for row in map_inputs(compiled, rule, np.arange(500), 6, weights).tolist():
        held = [device for device in row if device != NONE]
        assert len(set(held)) == len(held)
        assert all(weights[device] for device in held)
