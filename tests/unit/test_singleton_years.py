"""Singletons over years: who holds them next, and how long nobody does."""

import numpy as np
import pytest

from core.ensemble import plan
from core.ids import NodeId, ServiceName
from core.specs import ServiceSpec
from twin.failures.renewal import NONE, Outages, union
from twin.years.measured import PROVEN, SILENT
from twin.years.singletons import Failover, SingletonYears, singleton_years, specs_of, voters_of
from twin.years.site import regular
from twin.years.timeline import KINDS, Timeline

ONE = ServiceSpec(name=ServiceName("one"), run="singleton")
SECOND = Failover(shares=(0.0, 1.0), quantiles_ms=(1_000.0, 1_000.0), source="a test")
END_MS = 1_000_000


def follow(nodes: int, *outages: tuple[int, int, int], failover: Failover = SECOND) -> SingletonYears:
    columns = np.asarray(sorted(outages), dtype=np.int64).reshape(-1, 3).T
    down = union([Outages(columns[0], columns[1], columns[2])])
    timeline = Timeline(
        duration_ms=END_MS,
        by_kind=dict.fromkeys(KINDS, NONE),
        node_alone=down,
        node_held=NONE,
        node_down=down,
    )
    (found,) = singleton_years(regular(nodes, 1, nodes_per_rack=1), timeline, (ONE,), failover, 1)
    return found


def holder(nodes: int) -> int:
    """The node that holds the singleton first: the only one whose loss moves it."""
    return next(node for node in range(nodes) if follow(nodes, (node, 10_000, 20_000)).failovers)


def test_without_outages_it_is_always_served() -> None:
    found = follow(5)
    assert (found.failovers, found.away_ms, found.longest_ms) == (0, 0, 0)


def test_only_the_loss_of_its_holder_moves_it_and_nothing_moves_it_back() -> None:
    first = holder(9)
    found = follow(9, (first, 10_000, 20_000), (first, 50_000, 60_000))
    assert (found.failovers, found.away_ms, found.waited) == (1, 1_000, 0)
    assert found.start_ms.tolist() == [10_000]


def test_a_holder_lost_again_while_failing_over_takes_it_away_again() -> None:
    first = holder(9)
    second = next(n for n in range(9) if follow(9, (first, 10_000, 90_000), (n, 30_000, 31_000)).failovers == 2)
    found = follow(9, (first, 10_000, 90_000), (second, 10_500, 60_000))
    assert (found.failovers, found.away_ms, found.start_ms.tolist()) == (2, 2_000, [10_000])


def test_without_a_majority_of_voters_it_is_not_served_and_moves_only_afterwards() -> None:
    first = holder(3)
    others = [(node, 5_000, 30_000) for node in range(3) if node != first]
    found = follow(3, *others)
    assert (found.failovers, found.away_ms, found.start_ms.tolist()) == (0, 25_000, [5_000])
    found = follow(3, *others, (first, 10_000, 90_000))
    assert (found.failovers, found.waited, found.away_ms) == (1, 1, 26_000)


def test_with_all_nodes_down_it_waits_for_the_first_that_comes_back() -> None:
    found = follow(1, (0, 10_000, 40_000))
    assert (found.failovers, found.waited, found.away_ms) == (1, 1, 31_000)
    found = follow(2, (0, 0, 40_000), (1, 0, 30_000))
    assert found.start_ms.tolist()[0] == 0
    assert 30_000 <= found.away_ms <= 41_000


def test_an_outage_at_the_end_is_cut_off_there() -> None:
    first = holder(5)
    found = follow(5, (first, END_MS - 300, END_MS + 5_000))
    assert (found.failovers, found.away_ms) == (1, 300)


def test_the_voters_are_those_that_the_core_would_choose_of_all_nodes() -> None:
    specs = specs_of(regular(300, 1, nodes_per_rack=10, racks_per_pdu=8))
    voters: tuple[NodeId, ...] = (specs[0].id,)
    for _ in range(2):
        voters += plan(voters, {spec.id: spec.power_domain for spec in specs}, (), 5).joining
    assert voters_of(specs) == voters
    assert len({spec.power_domain for spec in specs if spec.id in voters}) == 4


@pytest.mark.parametrize("failover", [SILENT, PROVEN])
def test_failover_times_have_the_measured_quantiles(failover: Failover) -> None:
    drawn = failover.at((np.arange(10_000) + 0.5) / 10_000)
    assert (drawn.min() >= failover.quantiles_ms[0], drawn.max() <= failover.quantiles_ms[-1]) == (True, True)
    assert np.median(drawn) == pytest.approx(failover.quantiles_ms[4], abs=2)
    assert len(failover.source) > 40
