"""Generated outages: what is drawn fits the published figures, and one node does not change another."""

import math

import pytest

from core.errors import InputError
from core.ids import NodeId
from trial.scenario import TraceTable
from twin.failures.fits import CAUSE_WEIGHTS, FITS
from twin.failures.generate import HOUR_MS, draw_down_ms, draw_up_ms, generate
from twin.failures.replay import outages_for
from twin.streams import Streams

YEAR_MS = 365 * 24 * HOUR_MS
DRAWS = 20_000


def weibull_by_maximum_likelihood(values: list[float]) -> tuple[float, float]:
    """Fit shape and scale by bisection on the likelihood equation of the shape."""
    logs = [math.log(value) for value in values]
    mean_log = sum(logs) / len(logs)

    def slope(shape: float) -> float:
        powers = [value**shape for value in values]
        weighted = sum(power * log for power, log in zip(powers, logs, strict=True)) / sum(powers)
        return weighted - 1 / shape - mean_log

    low, high = 0.05, 5.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    shape = (low + high) / 2
    return shape, (sum(value**shape for value in values) / len(values)) ** (1 / shape)


def test_times_to_failure_refit_to_the_published_weibull() -> None:
    fit = FITS["lanl05"]
    stream = Streams(1).get("test")
    shape, scale = weibull_by_maximum_likelihood([draw_up_ms(fit, stream) / HOUR_MS for _ in range(DRAWS)])
    assert shape == pytest.approx(fit.up_shape, rel=0.03)
    assert scale == pytest.approx(fit.up_scale, rel=0.05)


def test_times_to_repair_refit_to_the_published_lognormal() -> None:
    fit = FITS["lanl05"]
    stream = Streams(1).get("test")
    logs = [math.log(draw_down_ms(fit, stream) / HOUR_MS) for _ in range(DRAWS)]
    mu = sum(logs) / DRAWS
    sigma = math.sqrt(sum((log - mu) ** 2 for log in logs) / DRAWS)
    assert mu == pytest.approx(fit.down_mu, abs=0.03)
    assert sigma == pytest.approx(fit.down_sigma, rel=0.03)


def test_the_published_weibull_agrees_with_the_published_mean() -> None:
    fit = FITS["lanl05"]
    mean = fit.up_scale * math.gamma(1 + 1 / fit.up_shape)
    assert mean == pytest.approx(1_779.99, rel=0.02), "the exponential fit of the same table is the mean"


def test_causes_come_in_the_recorded_shares() -> None:
    trace = generate(FITS["g5k06"], 40, YEAR_MS, Streams(3))
    total = len(trace.outages)
    weights = sum(weight for _, weight in CAUSE_WEIGHTS)
    for cause, weight in CAUSE_WEIGHTS:
        assert trace.causes()[cause] / total == pytest.approx(weight / weights, abs=0.02)


def test_a_node_more_changes_none_of_the_others() -> None:
    few = generate(FITS["lanl05"], 10, YEAR_MS, Streams(7)).outages
    more = generate(FITS["lanl05"], 11, YEAR_MS, Streams(7)).outages
    assert few == tuple(outage for outage in more if outage.node < 10)
    assert few


def test_the_outages_of_a_rack_are_ordered_named_and_within_the_run() -> None:
    nodes = tuple(NodeId(f"n{i}") for i in range(20))
    table = TraceTable(system=2, nodes=20, years=5)
    outages = outages_for(table, None, nodes, Streams(7), YEAR_MS)
    assert [o.start_ms for o in outages] == sorted(o.start_ms for o in outages)
    assert all(0 <= o.start_ms < o.end_ms <= YEAR_MS for o in outages)
    assert {o.node for o in outages} <= set(nodes)
    assert len(outages_for(table, None, nodes, Streams(7))) > 3 * len(outages)


def test_a_rack_smaller_than_the_system_is_bad_input() -> None:
    with pytest.raises(InputError, match="system 2 has 49 nodes, the rack only 1; needed: a rack of that size"):
        outages_for(TraceTable(system=2), None, (NodeId("n1"),), Streams(7))
