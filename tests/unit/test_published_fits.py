"""Published fits: restated exactly, and what is generated from them refits to them."""

import csv
import json

import numpy as np
import pytest

from tests.unit.recorded import BACKBLAZE, DATA, FITS, needs_recordings
from twin.failures import backblaze
from twin.failures.bulk import uniforms
from twin.failures.components import COMPONENTS, ford_disk
from twin.failures.distributions import YEAR_H, Distribution, Exponential, mean_h, quantile, survival
from twin.failures.fits import FITS as FITS_OF_REPLAYS
from twin.failures.likelihood import FAMILIES, Family, Parametric, fit
from twin.failures.outage import CAUSES, Cause
from twin.failures.published import (
    DRIVES,
    DRIVES_2013,
    FORD_BURST_SHARE,
    FORD_DISK_MTTF_H,
    FORD_FALSE_SHARE,
    FORD_NODE_MTTF_H,
    FORD_RACK_MTTF_H,
    FTA_SETS,
    REPAIRS,
    fta,
    fta_fits,
    repair,
)

DRAWS = uniforms(11, "published", 0, 60_000)


def parameters(of: Parametric | Distribution) -> list[float]:
    return [getattr(of, name) for name in of.__struct_fields__]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", FTA_SETS)
def test_what_is_generated_from_a_published_fit_refits_to_it(name: str, family: Family) -> None:
    behaviour = fta(name, family)
    for of in (behaviour.up, behaviour.down):
        found = fit(family, quantile(of, DRAWS)).distribution
        assert parameters(found) == pytest.approx(parameters(of), rel=0.025, abs=0.02)


@needs_recordings
def test_all_thirty_six_rows_are_restated_as_they_were_published() -> None:
    rows = list(csv.DictReader((FITS / "fta_fits.csv").read_text(encoding="utf-8").splitlines()))
    fits = fta_fits()
    assert len(rows) == len(fits) == 36
    for row in rows:
        behaviour = fits[row["dataset"].lower(), _family(row["distribution"])]
        for of, names in ((behaviour.up, ("avail_p1", "avail_p2")), (behaviour.down, ("unavail_p1", "unavail_p2"))):
            assert parameters(of) == [float(row[name]) for name in names if row[name]]


def _family(name: str) -> Family:
    return next(family for family in FAMILIES if family == name)


@pytest.mark.parametrize("name", FITS_OF_REPLAYS)
def test_replayed_traces_are_generated_from_the_same_figures(name: str) -> None:
    told = FITS_OF_REPLAYS[name]
    assert parameters(fta(name, "weibull").up) == [told.up_shape, told.up_scale]
    assert parameters(fta(name, "lognormal").down) == [told.down_mu, told.down_sigma]


@pytest.mark.parametrize("cause", CAUSES)
def test_generated_repairs_have_the_published_mean_and_median(cause: Cause) -> None:
    of, told = repair(cause), REPAIRS[cause]
    minutes = quantile(of, (np.arange(1_000_000) + 0.5) / 1_000_000) * 60
    assert float(np.median(minutes)) == pytest.approx(told.median_min, rel=0.001)
    assert mean_h(of) * 60 == pytest.approx(told.mean_min, rel=1e-9)
    assert float(minutes.mean()) == pytest.approx(told.mean_min, rel=0.01)
    assert parameters(fit("lognormal", minutes[::20] / 60).distribution) == pytest.approx(parameters(of), rel=0.01)


@needs_recordings
def test_drive_models_are_quoted_as_they_were_published() -> None:
    table = backblaze.load_survival(BACKBLAZE)
    rows = {str(row["model"]): row for row in table.rows}
    for name, model in DRIVES.items():
        row = rows[name]
        assert (row["drive_days"], row["failed"]) == (model.drive_days, model.failures)
        assert [row["surv_5yr_lower"], row["surv_5yr"], row["surv_5yr_upper"]] == pytest.approx(
            model.survival_5yr, abs=6e-6
        )
        assert row["annual_rate"] == pytest.approx(model.annual_rate)


@pytest.mark.parametrize("name", DRIVES)
def test_generated_drives_survive_five_years_as_published_and_refit(name: str) -> None:
    model = DRIVES[name]
    low, middle, high = model.survival_5yr
    assert survival(model.lifetime, np.asarray(5 * YEAR_H)) == pytest.approx(middle)
    lives = quantile(model.lifetime, uniforms(3, name, 0, 200_000))
    alive = float((lives > 5 * YEAR_H).mean())
    assert low < alive < high
    cut = lives > 5 * YEAR_H
    found = fit("weibull", lives[~cut], np.full(int(cut.sum()), 5 * YEAR_H)).distribution
    assert parameters(found)[0] == pytest.approx(model.lifetime.shape, rel=0.05)
    assert survival(found, np.asarray(5 * YEAR_H)) == pytest.approx(middle, abs=0.002)


@pytest.mark.parametrize("name", DRIVES)
def test_the_rate_of_failures_while_drives_are_young_is_below_that_of_five_years(name: str) -> None:
    model = DRIVES[name]
    assert model.lifetime.shape > 1, "drives of these models wear"
    hazard = -np.log(model.survival_5yr[1]) / 5
    assert 0.6 * hazard < model.annual_rate < 1.2 * hazard


def test_drives_of_2013_have_the_published_rates_and_survivors() -> None:
    lives = quantile(DRIVES_2013, uniforms(3, "2013", 0, 400_000)) / YEAR_H
    for low, high, rate in ((0.0, 1.5, 0.051), (1.5, 3.0, 0.014), (3.0, 6.0, 0.118)):
        failed = ((lives >= low) & (lives < high)).sum()
        served = (np.minimum(lives, high) - low).clip(min=0).sum()
        assert failed / served == pytest.approx(rate, rel=0.03)
    assert (lives > 4).mean() == pytest.approx(0.80, abs=0.01)


@needs_recordings
def test_the_figures_of_ford_are_restated_as_they_were_published() -> None:
    told = json.loads((DATA / "expected" / "ford2010.json").read_text(encoding="utf-8"))
    assert told["share_failures_in_bursts_ge2_nodes"] == FORD_BURST_SHARE
    assert told["false_clustering_any_burst"] == FORD_FALSE_SHARE
    assert told["mttf"]["node_months"] / 12 * YEAR_H == pytest.approx(FORD_NODE_MTTF_H)
    assert told["mttf"]["rack_years"] * YEAR_H == pytest.approx(FORD_RACK_MTTF_H)
    assert [years * YEAR_H for years in told["mttf"]["disk_years"]] == pytest.approx(FORD_DISK_MTTF_H)


def test_a_node_is_away_for_more_than_15_minutes_as_rarely_as_published() -> None:
    assert survival(COMPONENTS["node"].behaviour.down, np.asarray(0.25)) == pytest.approx(0.1, abs=1e-4)


def test_every_component_has_a_source_and_is_up_most_of_the_time() -> None:
    for kind, component in COMPONENTS.items():
        assert component.kind == kind
        assert len(component.behaviour.source) > 20
        assert 0.99 < component.behaviour.availability < 1.0
    assert ford_disk(longest=True).behaviour.up == Exponential(50 * YEAR_H)
