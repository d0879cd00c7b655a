"""Hashes and draws: fixed bits, monotone logarithm, fair and weighted choice."""

import math
from itertools import pairwise

from core.hashing import digest, draw, jitter, mix, negative_log2, weighted


def test_the_bits_are_the_same_everywhere() -> None:
    assert digest("n1") == 0xC16952960BCB12FD
    assert mix(1, 2) == 0xBEEB8DA1658EEC67
    assert draw(digest("s"), digest("n")) == 29_723_195_750_985_353_088
    assert (negative_log2(1 << 31), negative_log2(12_345)) == (4_294_967_294, 79_062_805_712)


def test_jitter_stays_within_its_limit_and_is_zero_without_one() -> None:
    assert {jitter(f"key {i}", 7) for i in range(200)} == set(range(7))
    assert jitter("key", 0) == jitter("key", -1) == 0


def test_the_logarithm_never_grows_and_is_close_to_the_real_one() -> None:
    points = sorted({(1 << 32) - 1, 0, *(mix(i, 1) >> 32 for i in range(20_000)), *(1 << i for i in range(32))})
    values = [negative_log2(u) for u in points]
    assert all(one >= two for one, two in pairwise(values))
    assert values[-1] == 0
    assert values[0] == 32 << 32
    assert all(abs(v / 2**32 + math.log2((u + 1) / 2**32)) < 1e-7 for u, v in zip(points, values, strict=True))


def test_the_best_draw_is_as_likely_as_its_weight() -> None:
    weights = {"a": 100, "b": 200, "c": 700}
    nodes = [(digest(name), weight) for name, weight in weights.items()]
    wins = [0, 0, 0]
    for i in range(10_000):
        key = digest(f"service {i}")
        costs = [weighted(draw(key, node), weight) for node, weight in nodes]
        wins[costs.index(min(costs))] += 1
    assert abs(wins[0] - 1_000) < 120
    assert abs(wins[1] - 2_000) < 160
    assert abs(wins[2] - 7_000) < 200


def test_draws_of_near_ids_do_not_tie() -> None:
    services = [digest(f"s{i}") for i in range(200)]
    nodes = [digest(f"n{i}") for i in range(200)]
    assert len({draw(s, n) for s in services for n in nodes}) == 40_000


def test_mixing_changes_half_of_the_bits() -> None:
    changed = sum((mix(i, 5) ^ mix(i ^ (1 << (i % 64)), 5)).bit_count() for i in range(2_000))
    assert abs(changed / 2_000 - 32) < 0.5
