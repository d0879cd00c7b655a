"""What-ifs equal full recomputation, and the compiled rules equal those in NumPy, on random maps and random changes."""

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from core.errors import InputError
from tests.property.crush_maps import ALGORITHMS, Shape, map_text
from twin.crush.compile import Compiled, compile_map
from twin.crush.compiled import Prefer, knows, map_best
from twin.crush.crush_text import crush_from_text
from twin.crush.delta import baseline, place_again, pool_baseline, what_if
from twin.crush.edit import (
    add_bucket,
    add_host,
    add_osds,
    move_bucket,
    remove_bucket,
    remove_osds,
    reweight_device,
    set_class,
    set_out,
    set_reweight,
    set_up,
)
from twin.crush.map import ONE
from twin.crush.mapping import map_inputs
from twin.crush.osdmap import OsdMap, OsdState, Pool
from twin.crush.pools import place, reweights

INPUTS = np.arange(150) * 2_654_435_761 % 2**32
SHAPES = st.builds(
    Shape,
    levels=st.integers(2, 4),
    fan=st.just(((1, 4), (1, 4), (1, 3), (1, 3))),
    algorithms=st.sampled_from([("straw2",), ("straw2",), ("straw2", "straw", "list"), ALGORITHMS]),
    weights=st.sampled_from(["equal", "mixed", "zero", "tiny"]),
    classes=st.sampled_from([(), (), ("hdd", "ssd")]),
    profile=st.sampled_from(["jewel", "jewel", "firefly", "argonaut"]),
    choose_args=st.sampled_from([0, 0, 0, 2]),
    empty=st.booleans(),
    total_tries=st.sampled_from([0, 0, 2]),
)
CHANGES = ("out", "in", "half", "weight", "device", "host", "rack", "gone", "host gone", "move", "class", "down")


def drawn_map(seed: int, shape: Shape) -> OsdMap:
    """A random map whose devices are partly out or half in."""
    try:
        crush = crush_from_text(map_text(seed, shape), "drawn")
    except InputError:
        reject()  # a class that no device was drawn for
    rng = np.random.Generator(np.random.Philox(key=seed))
    states = [
        OsdState(id=device.id, reweight=int(rng.choice([0, ONE // 2, ONE, ONE, ONE, ONE]))) for device in crush.devices
    ]
    pools = tuple(
        Pool(id=rule.id, name=rule.name, kind="replicated", size=3, min_size=2, pg_num=24, pgp_num=17, rule=rule.id)
        for rule in crush.rules[:4:3]
    )
    return OsdMap(epoch=1, crush=crush, osds=tuple(states), pools=pools)


def changed(osdmap: OsdMap, what: str, rng: np.random.Generator) -> OsdMap:
    """One random change of a kind."""
    osds = [osd.id for osd in osdmap.osds]
    osd = int(rng.choice(osds)) if osds else 0
    there = [bucket for bucket in osdmap.crush.buckets if "~" not in bucket.name]
    hosts = [bucket.name for bucket in there if bucket.type_id == 1]
    above = [bucket.name for bucket in there if bucket.type_id > 1]
    classes = sorted({device.device_class for device in osdmap.crush.devices})
    drawn = str(rng.choice(classes)) if classes else ""
    weight = int(rng.choice([0, 1, ONE // 3, ONE, 5 * ONE]))
    host, top = str(rng.choice(hosts)), str(rng.choice(above))
    match what:
        case "out":
            return set_out(osdmap, [osd])
        case "in":
            return set_reweight(osdmap, [osd], ONE)
        case "half":
            return set_reweight(osdmap, [osd], int(rng.integers(0, ONE)))
        case "weight":
            return reweight_device(osdmap, osd, weight)
        case "device":
            return add_osds(osdmap, host, [(drawn, weight)])
        case "host":
            return add_host(osdmap, f"new{osdmap.epoch}", [(drawn, weight), (drawn, ONE)], top)
        case "rack":
            made = add_bucket(osdmap, f"rack{osdmap.epoch}", "rack", "default")
            return move_bucket(made, host, f"rack{osdmap.epoch}")
        case "gone":
            return remove_osds(osdmap, [osd])
        case "host gone":
            return remove_bucket(osdmap, host)
        case "move":
            return move_bucket(osdmap, host, top)
        case "class":
            return set_class(osdmap, [osd], str(rng.choice(["hdd", "ssd", "nvme"])))
        case _:
            return set_up(osdmap, [osd], up=bool(rng.integers(0, 2)))


def several(osdmap: OsdMap, kinds: list[str], seed: int) -> OsdMap:
    """Apply changes one after the other; one that a map does not allow is left out."""
    rng = np.random.Generator(np.random.Philox(key=seed + 1))
    for kind in kinds:
        try:
            osdmap = changed(osdmap, kind, rng)
        except (InputError, ValueError):
            continue
    return osdmap


def check_what_if(osdmap: OsdMap, after: OsdMap, rule: int, size: int, prefer: Prefer) -> None:
    before, now = compile_map(osdmap.crush), compile_map(after.crush)
    args = "0" if "0" in osdmap.crush.choose_args else None
    base = baseline(before, rule, INPUTS, size, reweights(osdmap), args, prefer)
    assert np.array_equal(base.trace.mapped, map_inputs(before, rule, INPUTS, size, reweights(osdmap), args))
    again = what_if(base, now, reweights(after), prefer)
    whole = map_inputs(now, rule, INPUTS, size, reweights(after), args)
    assert np.array_equal(again.mapped, whole)
    assert again.again >= (base.trace.mapped != whole).any(axis=1).sum()


@given(
    seed=st.integers(0, 10**9),
    shape=SHAPES,
    rule=st.integers(0, 13),
    size=st.integers(1, 6),
    kinds=st.lists(st.sampled_from(CHANGES), min_size=1, max_size=3),
)
@settings(max_examples=15)
def test_a_what_if_equals_full_recomputation(seed: int, shape: Shape, rule: int, size: int, kinds: list[str]) -> None:
    osdmap = drawn_map(seed, shape)
    check_what_if(osdmap, several(osdmap, kinds, seed), rule, size, "numpy")


@given(
    seed=st.integers(0, 10**9),
    shape=SHAPES,
    rule=st.integers(0, 13),
    size=st.integers(1, 6),
    kinds=st.lists(st.sampled_from(CHANGES), min_size=1, max_size=3),
)
@settings(max_examples=40)
@pytest.mark.slow
def test_a_compiled_what_if_equals_full_recomputation(
    seed: int, shape: Shape, rule: int, size: int, kinds: list[str]
) -> None:
    pytest.importorskip("numba")
    osdmap = drawn_map(seed, shape)
    check_what_if(osdmap, several(osdmap, kinds, seed), rule, size, "numba")


@given(seed=st.integers(0, 10**9), shape=SHAPES, kinds=st.lists(st.sampled_from(CHANGES), min_size=1, max_size=2))
@settings(max_examples=8)
def test_a_pool_placed_again_is_the_pool_placed(seed: int, shape: Shape, kinds: list[str]) -> None:
    osdmap = drawn_map(seed, shape)
    after = several(osdmap, kinds, seed)
    for pool in osdmap.pools:
        again, whole = place_again(pool_baseline(osdmap, pool.id), after), place(after, pool.id)
        assert np.array_equal(again.up, whole.up)
        assert np.array_equal(again.primary, whole.primary)


@given(seed=st.integers(0, 10**9), shape=SHAPES, rule=st.integers(0, 13), size=st.integers(1, 8))
@settings(max_examples=40)
@pytest.mark.slow
def test_the_compiled_rules_equal_those_in_numpy(seed: int, shape: Shape, rule: int, size: int) -> None:
    pytest.importorskip("numba")
    osdmap = drawn_map(seed, shape)
    compiled: Compiled = compile_map(osdmap.crush)
    args = "0" if osdmap.crush.choose_args else None
    weights = reweights(osdmap)[: max(1, compiled.device_count - seed % 3)]
    if shape.algorithms == ("straw2",) and shape.profile != "argonaut":
        assert knows(compiled, 0)
    got = map_best(compiled, rule, INPUTS, size, weights, args, prefer="numba")
    assert np.array_equal(got, map_inputs(compiled, rule, INPUTS, size, weights, args))
