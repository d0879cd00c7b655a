"""Bursts of node failures: counted as published, made as configured, and none where nodes fail independently."""

from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from twin.failures.bursts import burst_shares, chance_of_false_burst, find_bursts, rack_affinity
from twin.failures.components import NODE, Component
from twin.failures.distributions import YEAR_H, scaled
from twin.failures.published import FORD_BURST_SHARE, FORD_CELL_NODES, FORD_FALSE_SHARE, FORD_NODE_MTTF_H
from twin.failures.renewal import HOUR_MS, Ints, Outages, renew, union
from twin.failures.shocks import BurstProcess, aims, alone_rate_factor, calibrated, strike

YEARS = 10
DURATION_MS = round(YEARS * YEAR_H * HOUR_MS)


def racks(nodes: int) -> Ints:
    return np.arange(nodes, dtype=np.int64) // 40


def slower(node: Component, factor: float) -> Component:
    behaviour = msgspec.structs.replace(node.behaviour, up=scaled(node.behaviour.up, factor))
    return msgspec.structs.replace(node, behaviour=behaviour)


@cache
def failures(nodes: int, seed: int, correlated: bool = True) -> Outages:
    """The node outages of ten years, with bursts as the process is calibrated for that many nodes, or none."""
    if not correlated:
        return renew(NODE, nodes, DURATION_MS, seed)
    process = calibrated(nodes)
    own = renew(slower(NODE, alone_rate_factor(process, NODE, 0.0)), nodes, DURATION_MS, seed)
    return union([own, strike(process, NODE, racks(nodes), DURATION_MS, seed)])


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("nodes", [1_000, 3_900, 7_000])
def test_as_many_failures_come_in_bursts_as_published_when_configured_so(nodes: int, seed: int) -> None:
    found = failures(nodes, seed)
    share = burst_shares(found.start_ms, found.component).share_two_or_more
    assert share == pytest.approx(FORD_BURST_SHARE, abs=0.02)


@pytest.mark.parametrize("nodes", [1_000, 3_900, 7_000])
def test_bursts_leave_the_number_of_failures_of_a_node_as_published(nodes: int) -> None:
    per_node = len(failures(nodes, 1).component) / nodes / YEARS
    assert per_node == pytest.approx(YEAR_H / FORD_NODE_MTTF_H, rel=0.05)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_independent_nodes_hardly_ever_fail_in_bursts(seed: int) -> None:
    for nodes in (1_000, FORD_CELL_NODES):
        found = failures(nodes, seed, correlated=False)
        shares = burst_shares(found.start_ms, found.component)
        assert shares.share_two_or_more <= FORD_FALSE_SHARE + 0.004  # three sigma of the count at the largest cell
        assert shares.share_two_or_more == pytest.approx(chance_of_false_burst(nodes, FORD_NODE_MTTF_H), abs=0.004)
        assert shares.share_ten_or_more <= 0.00068


def test_the_published_chance_of_false_bursts_is_that_of_a_cell() -> None:
    assert chance_of_false_burst(FORD_CELL_NODES, FORD_NODE_MTTF_H) == pytest.approx(FORD_FALSE_SHARE, abs=0.001)
    assert chance_of_false_burst(FORD_CELL_NODES, FORD_NODE_MTTF_H) <= FORD_FALSE_SHARE


def test_large_bursts_keep_to_racks_and_small_ones_often_do_not() -> None:
    nodes = 3_900
    found = failures(nodes, 1)
    bursts = find_bursts(found.start_ms, found.component)
    large = [rack_affinity(burst.nodes, racks(nodes), 400) for burst in bursts if len(burst.nodes) > 20][:80]
    assert len(large) > 50
    assert min(large) >= 0.7
    small = [rack_affinity(burst.nodes, racks(nodes), 400) for burst in bursts if 3 <= len(burst.nodes) <= 5][:60]
    assert 0.55 < float(np.mean(small)) < 0.95


def test_bursts_of_more_than_forty_nodes_lie_in_few_racks() -> None:
    """A rack holds forty, so such a burst is a rack's with a few others; in larger racks it fits into one."""
    rack_of = np.arange(4_000, dtype=np.int64) // 80
    process = calibrated(4_000, nodes_per_rack=80, zone_racks=4)
    found = union([strike(process, NODE, rack_of, DURATION_MS, 1)])
    bursts = [burst for burst in find_bursts(found.start_ms, found.component) if len(burst.nodes) > 40]
    assert len(bursts) > 20
    assert min(rack_affinity(burst.nodes, rack_of, 1_000) for burst in bursts) >= 0.9


def test_affinity_is_high_in_one_rack_low_where_it_is_avoided_and_one_half_for_one_node() -> None:
    rack_of = np.arange(400, dtype=np.int64) // 40
    assert rack_affinity(np.arange(10), rack_of) > 0.99
    assert rack_affinity(np.arange(10) * 40, rack_of) < 0.2
    assert rack_affinity(np.asarray([3]), rack_of) == 0.5


def test_affinity_is_exact_where_it_can_be_counted() -> None:
    """Of six nodes in racks of two, three hold a pair with chance 12 / 20; both ways of drawing bursts find it."""
    rack_of = np.asarray([0, 0, 1, 1, 2, 2])
    assert rack_affinity(np.asarray([0, 1, 2]), rack_of, 40_000) == pytest.approx(0.4 + 0.3, abs=0.01)
    assert rack_affinity(np.asarray([0, 1]), rack_of, 40_000) == pytest.approx(0.8 + 0.1, abs=0.01)


def test_failures_a_window_apart_are_one_burst_and_longer_apart_two() -> None:
    start_ms = np.asarray([0, 120_000, 240_000, 360_001])
    node = np.asarray([1, 2, 1, 3])
    assert [(burst.first, burst.failures, burst.nodes.tolist()) for burst in find_bursts(start_ms, node)] == [
        (0, 3, [1, 2]),
        (360_001, 1, [3]),
    ]
    assert burst_shares(start_ms, node).share_two_or_more == 0.75
    same = burst_shares(np.asarray([0, 1_000]), np.asarray([5, 5]))
    assert (same.share_two_or_more, same.largest) == (0.0, 1), "one node that fails twice is no burst"


@given(st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 15)), min_size=1, max_size=40))
def test_shares_are_those_of_the_bursts(events: list[tuple[int, int]]) -> None:
    start_ms, node = (np.asarray(column) for column in zip(*events, strict=True))
    bursts = find_bursts(start_ms, node, window_s=0.02)
    shares = burst_shares(start_ms, node, window_s=0.02)
    assert sum(burst.failures for burst in bursts) == shares.failures == len(events)
    assert shares.bursts == len(bursts)
    several = sum(burst.failures for burst in bursts if len(burst.nodes) >= 2)
    assert shares.share_two_or_more == pytest.approx(several / len(events))
    assert shares.largest == max(len(burst.nodes) for burst in bursts)


def test_a_node_more_changes_no_shock_of_the_others() -> None:
    process = calibrated(1_000)
    few, more = (strike(process, NODE, racks(nodes), DURATION_MS, 5) for nodes in (1_000, 1_001))
    kept = more.component < 1_000
    assert few.component.tolist() == more.component[kept].tolist()
    assert few.start_ms.tolist() == more.start_ms[kept].tolist()
    assert few.end_ms.tolist() == more.end_ms[kept].tolist()


def test_sizes_aimed_at_fall_by_a_power_law() -> None:
    sizes, chances = aims(40, 1.0)
    assert (sizes[0], sizes[-1]) == (2, 40)
    assert float(chances.sum()) == pytest.approx(1.0)
    assert float(chances[sizes >= 20].sum()) == pytest.approx(0.1)


def test_a_share_that_cannot_be_had_is_bad_input() -> None:
    for share in (0.01, 0.999):
        with pytest.raises(InputError, match="allowed: more than that and below"):
            calibrated(3_900, share=share)
    greedy = msgspec.structs.replace(calibrated(), rack_per_year=1e4)
    with pytest.raises(InputError, match="failures a year"):
        alone_rate_factor(greedy, NODE, 0.0)
    assert isinstance(greedy, BurstProcess)
