"""The chance of data loss in a year: importance sampling against brute force, the Markov chain and exact sums."""

import math

import numpy as np
import pytest

from twin.durability.annual import annual_loss, counted_loss
from twin.durability.behaviour import Behaviour, Burst, Component
from twin.durability.durations import Duration, Exponential, Fixed, Life, Lognormal, Weibull, mean_hours
from twin.durability.estimate import Estimate, of_counts, of_sums
from twin.durability.figures import load_figures
from twin.durability.layout import Layout
from twin.durability.markov import Code, loss_within
from twin.durability.measured import independent, measured, struck_share
from twin.durability.site import Site
from twin.durability.unavailable import below_min_size, unavailability

QUARTER = 2_190.0


def part(life: Life, lost_ratio: float, down: Duration | None = None) -> Component:
    return Component(life=life, down=down or Fixed(hours=2.0), lost_ratio=lost_ratio, source="a test")


def alone(shards: int, tolerance: int) -> Layout:
    """One group, each shard on a node of its own."""
    return Layout(
        name="alone",
        shards=np.arange(shards, dtype=np.int32)[None],
        tolerance=tolerance,
        min_size=shards - tolerance,
        node_of=np.arange(shards, dtype=np.int32),
        pdu_of=np.full(shards, -1, dtype=np.int32),
        rack_of=np.full(shards, -1, dtype=np.int32),
    )


def site_of_fifteen(size: int = 3, tolerance: int = 2, crowded: bool = False, pgs: int = 100) -> Layout:
    """15 nodes of two disks in three racks; ``crowded``: a node may hold two shards of a group."""
    random = np.random.default_rng(3)
    if crowded:
        shards = np.argsort(random.random((pgs, 30)), axis=1)[:, :size]
    else:
        nodes = np.argsort(random.random((pgs, 15)), axis=1)[:, :size]
        shards = nodes * 2 + random.integers(0, 2, (pgs, size))
    rack = (np.arange(15) // 5).astype(np.int32)
    return Layout(
        name="fifteen",
        shards=shards.astype(np.int32),
        tolerance=tolerance,
        min_size=2,
        node_of=(np.arange(30) // 2).astype(np.int32),
        pdu_of=rack,
        rack_of=rack,
    )


def burst(place: str, mean: float = 2_000.0, **how: object) -> Burst:
    tables = {"nodes": (), "ratios": (), "zone_racks": 2, **how}
    return Burst(
        name=place,
        every=Exponential(mean_hours=mean),
        place=place,  # type: ignore[arg-type]
        down=Fixed(hours=2.0),
        lost_ratio=0.25,
        source="a test",
        **tables,  # type: ignore[arg-type]
    )


DISK = part(Exponential(mean_hours=50_000.0), 1.0)
CASES: dict[str, tuple[Layout, Behaviour]] = {
    "ageing disks": (
        site_of_fifteen(),
        Behaviour(disk=part(Weibull(shape=0.7, scale_hours=4_000.0), 1.0), recovery=Lognormal(mu=4.0, sigma=1.0)),
    ),
    "nodes and racks": (
        site_of_fifteen(),
        Behaviour(
            disk=DISK,
            node=part(Exponential(mean_hours=5_000.0), 0.4),
            rack=part(Lognormal(mu=8.5, sigma=1.0), 0.2),
            recovery=Fixed(hours=50.0),
        ),
    ),
    "bursts of a rack": (
        site_of_fifteen(crowded=True),
        Behaviour(disk=DISK, bursts=(burst("rack", ratios=((0.3, 0.7), (1.0, 0.3))),), recovery=Fixed(hours=50.0)),
    ),
    "bursts of some nodes": (
        site_of_fifteen(),
        Behaviour(
            disk=DISK, bursts=(burst("site", nodes=((2, 0.5), (6, 0.5)), rack_ratio=0.5),), recovery=Fixed(hours=50.0)
        ),
    ),
    "erasure coding": (
        site_of_fifteen(6, 2, pgs=40),
        Behaviour(
            disk=part(Exponential(mean_hours=20_000.0), 1.0),
            bursts=(burst("zone", ratios=((0.2, 1.0),)),),
            recovery=Exponential(mean_hours=40.0),
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_where_loss_is_frequent_importance_sampling_agrees_with_brute_force(name: str) -> None:
    layout, behaviour = CASES[name]
    site = Site(layout, behaviour)
    found = annual_loss(site, QUARTER, 500, seed=3).probability
    plain = counted_loss(site, QUARTER, 2_500, seed=4)
    assert found.value is not None
    assert plain.value is not None
    error = math.hypot(found.high - found.low, plain.high - plain.low) / (2 * 1.959964)
    assert abs(found.value - plain.value) < 3.3 * error, (found.text, plain.text)


@pytest.mark.parametrize(
    ("shards", "tolerance", "mttf", "mttr"),
    [(2, 1, 1e5, 24.0), (3, 2, 1e5, 24.0), (3, 2, 1.2e6, 6.0), (6, 2, 4e5, 24.0)],
)
def test_where_loss_is_rare_it_agrees_with_the_markov_chain(
    shards: int, tolerance: int, mttf: float, mttr: float
) -> None:
    behaviour = Behaviour(disk=part(Exponential(mean_hours=mttf), 1.0), recovery=Exponential(mean_hours=mttr))
    found = annual_loss(Site(alone(shards, tolerance), behaviour), 8_760.0, 900, seed=7).probability
    want = loss_within(Code(shards=shards, tolerance=tolerance), mttf, mttr, "parallel", 8_760.0)
    assert found.value is not None, found
    error = found.relative_error
    assert error is not None
    assert error < 0.25
    assert abs(found.value - want) < 3.3 * error * found.value
    assert found.effective > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_many_samples_agree_with_many_years(name: str) -> None:
    layout, behaviour = CASES[name]
    site = Site(layout, behaviour)
    found = annual_loss(site, QUARTER, 8_000, seed=13).probability
    plain = counted_loss(site, QUARTER, 20_000, seed=14)
    assert found.value is not None
    assert plain.value is not None
    error = math.hypot(found.high - found.low, plain.high - plain.low) / (2 * 1.959964)
    assert abs(found.value - plain.value) < 3 * error < 0.5 * plain.value, (found.text, plain.text)


@pytest.mark.slow
@pytest.mark.parametrize(("shards", "tolerance"), [(3, 2), (6, 2), (11, 3)])
def test_many_samples_agree_with_the_chain_where_loss_is_very_rare(shards: int, tolerance: int) -> None:
    behaviour = Behaviour(disk=part(Exponential(mean_hours=1.2e6), 1.0), recovery=Exponential(mean_hours=24.0))
    found = annual_loss(Site(alone(shards, tolerance), behaviour), 87_600.0, 15_000, seed=17).probability
    want = loss_within(Code(shards=shards, tolerance=tolerance), 1.2e6, 24.0, "parallel", 87_600.0)
    assert found.low * 0.95 < want < found.high * 1.05, (found.text, want)


def test_a_burst_that_takes_everything_is_as_likely_as_it_comes() -> None:
    every = burst("site", mean=80_000.0, ratios=((1.0, 1.0),))
    behaviour = Behaviour(disk=part(Exponential(mean_hours=1e9), 1.0), bursts=(every,), recovery=Fixed(hours=1.0))
    found = annual_loss(Site(alone(3, 2), behaviour), 8_760.0, 1_500, seed=1).probability
    want = -math.expm1(-8_760.0 / 80_000.0 * 0.25**3)
    assert found.value == pytest.approx(want, rel=0.1)


def test_groups_that_already_miss_shards_are_closer_to_loss() -> None:
    whole = alone(3, 2)
    holes = Layout(
        name="holes",
        shards=np.array([[0, 1, -1]], dtype=np.int32),
        tolerance=2,
        min_size=2,
        node_of=whole.node_of,
        pdu_of=whole.pdu_of,
        rack_of=whole.rack_of,
    )
    behaviour = Behaviour(disk=part(Exponential(mean_hours=1e5), 1.0), recovery=Exponential(mean_hours=24.0))
    found = annual_loss(Site(holes, behaviour), 8_760.0, 1_500, seed=2).probability
    want = loss_within(Code(shards=2, tolerance=1), 1e5, 24.0, "parallel", 8_760.0)
    assert found.value == pytest.approx(want, rel=0.1)


def test_the_same_seed_gives_the_same_figure_and_another_one_another() -> None:
    site = Site(*CASES["erasure coding"])
    first, again, other = (annual_loss(site, QUARTER, 300, seed=seed) for seed in (1, 1, 2))
    assert first.probability == again.probability
    assert (first.curve == again.curve).all()
    assert first.probability != other.probability


def test_the_curve_rises_to_the_figure() -> None:
    found = annual_loss(Site(*CASES["nodes and racks"]), QUARTER, 800, seed=1)
    assert (np.diff(found.curve) >= 0).all()
    assert found.probability.value == pytest.approx(float(found.curve[-1]))


def test_a_figure_that_has_not_converged_is_refused() -> None:
    few = of_sums(1.0, 1.0, 1_000, "x")
    assert few.value is None
    assert few.high == 1.0
    assert "not converged" in few.text
    assert of_counts(3, 1_000).value is None
    assert 0.003 < of_counts(3, 1_000).high < 0.02
    even = of_sums(50.0, 2.6, 1_000, "x")
    assert even.value == pytest.approx(0.05)
    assert isinstance(even, Estimate)


@pytest.mark.parametrize("crowded", [False, True])
def test_time_below_min_size_is_computed_as_it_is_simulated(crowded: bool) -> None:
    layout = site_of_fifteen(crowded=crowded)
    behaviour = Behaviour(
        disk=part(Exponential(mean_hours=900.0), 1.0, Fixed(hours=30.0)),
        node=part(Weibull(shape=0.8, scale_hours=500.0), 0.0, Lognormal(mu=2.0, sigma=1.0)),
        rack=part(Exponential(mean_hours=2_000.0), 0.0, Exponential(mean_hours=20.0)),
        recovery=Fixed(hours=30.0),
    )
    found = unavailability(layout, behaviour, edges=20_000, seed=1).per_group
    assert found.value is not None
    assert abs(found.value - float(below_min_size(layout, behaviour).mean())) < 1.7 * (found.high - found.low)


def test_bursts_that_strike_all_add_their_time_to_the_unavailability() -> None:
    behaviour = Behaviour(
        disk=part(Exponential(mean_hours=1e9), 1.0),
        bursts=(burst("site", mean=998.0, ratios=((1.0, 1.0),)),),
        recovery=Fixed(hours=1.0),
    )
    found = unavailability(alone(3, 2), behaviour, edges=20_000)
    assert found.any_group.value == pytest.approx(2.0 / 998.0, rel=0.05)
    assert found.per_group.value == pytest.approx(2.0 / 998.0, rel=0.05)


def test_independence_keeps_the_rates_of_each_disk_and_node() -> None:
    layout = site_of_fifteen()
    full = measured(load_figures(), layout, Fixed(hours=1.0), bursts=True)
    lone = independent(full, layout)
    outages = sum(1.0 / mean_hours(one.life) for kind, one in full.components if kind != "disk")
    outages += sum(struck_share(one, layout) / mean_hours(one.every) for one in full.bursts)
    assert lone.node is not None
    assert 1.0 / mean_hours(lone.node.life) == pytest.approx(outages)
    assert mean_hours(lone.node.life) == pytest.approx(load_figures().number("node_mttf_hours"), rel=1e-6)
    assert mean_hours(lone.disk.life) < mean_hours(full.disk.life)
    assert lone.bursts == ()


def test_bursts_strike_a_node_as_often_as_their_share_says() -> None:
    layout = site_of_fifteen()
    kinds = [
        burst("rack", ratios=((0.3, 0.7), (1.0, 0.3))),
        burst("zone", ratios=((0.2, 1.0),)),
        burst("site", nodes=((2, 0.5), (6, 0.5)), rack_ratio=0.5),
    ]
    site = Site(layout, Behaviour(disk=DISK, bursts=tuple(kinds), recovery=Fixed(hours=1.0)))
    random = np.random.default_rng(1)
    struck = np.array([[len(site.burst_nodes(one, random)) for _ in range(6_000)] for one in kinds]).mean(axis=1)
    want = [struck_share(one, layout) * 15 for one in kinds]
    assert struck[:2] == pytest.approx(want[:2], rel=0.05)
    assert struck[2] == pytest.approx(want[2], rel=0.15)  # six nodes do not fit into a rack of five


def test_correlation_is_what_loses_data_and_racks_help_against_it() -> None:
    layout = site_of_fifteen()
    full = measured(load_figures(["site_cuts_per_year=1"]), layout, Fixed(hours=2.0), bursts=True)
    lone = annual_loss(Site(layout, independent(full, layout)), branches=600).probability.value
    real = annual_loss(Site(layout, full), branches=1_000).probability.value
    assert lone is not None
    assert real is not None
    assert real > 100 * lone
