"""Statistics of the recorded failures of Los Alamos: equal to summaries and fits that were made of them elsewhere."""

import csv
import json
from functools import cache

import numpy as np
import pytest

from tests.unit.recorded import FITS, LANL, needs_recordings
from twin.failures import lanl
from twin.failures.bursts import burst_shares
from twin.failures.likelihood import FAMILIES, Family, fit
from twin.failures.published import REPAIRS, fta
from twin.failures.repairs import Times, by_cause, by_system, times_of

pytestmark = needs_recordings


@cache
def records() -> tuple[lanl.Record, ...]:
    return tuple(lanl.records(LANL))


@cache
def times() -> Times:
    return times_of(records())


def test_repairs_by_root_cause_equal_the_summary() -> None:
    table = by_cause(records())
    told = list(csv.DictReader((LANL.parent / "repair_minutes_by_root_cause.csv").read_text().splitlines()))
    assert [row["root_cause"].lower() for row in told] == table["root_cause"].tolist()
    for row, ours in zip(told, table.rows, strict=True):
        assert int(row["n"]) == ours["records"]
        for name, of in (("mean_min", "mean_min"), ("median_min", "median_min"), ("sd_min", "sd_min"), ("c2", "c2")):
            assert float(row[name]) == round(float(str(ours[of])), 1), (row["root_cause"], name)


def test_the_shipped_repairs_are_those_of_the_recording() -> None:
    for row in by_cause(records()).rows:
        if row["root_cause"] != "all":
            told = next(of for cause, of in REPAIRS.items() if cause == row["root_cause"])
            assert (told.records, told.median_min) == (row["records"], row["median_min"])
            assert told.mean_min == round(float(str(row["mean_min"])), 1)


def test_systems_equal_the_summary() -> None:
    table = by_system(records())
    told = list(csv.DictReader((LANL.parent / "system_summary.csv").read_text().splitlines()))
    assert len(told) == len(table["system"]) == 23
    for row, ours in zip(told, table.rows, strict=True):
        sizes = (ours["nodes"] or "nan", ours["processors"] or "nan")
        assert (row["nodes"].removesuffix(".0"), row["procs_total"].removesuffix(".0")) == tuple(map(str, sizes))
        assert (row["system"], row["failures"]) == (str(ours["system"]), str(ours["failures"]))
        assert (row["first"], row["last"]) == (ours["first"], ours["last"])
        assert float(row["years"]) == pytest.approx(ours["years"], abs=0.00501)
        assert float(row["failures_per_year"]) == pytest.approx(ours["failures_per_year"], abs=0.0501)
        assert float(row["mttr_min_mean"]) == pytest.approx(ours["mean_min"], abs=0.0501)
        assert float(row["mttr_min_median"]) == ours["median_min"]


@pytest.mark.parametrize("family", FAMILIES)
def test_fits_are_within_one_percent_of_the_refit_elsewhere(family: Family) -> None:
    told = json.loads((FITS / "refit_from_raw.json").read_text())["lanl05"]
    names = {
        "weibull": ("wbl_shape", "wbl_scale"),
        "lognormal": ("ln_mu", "ln_sd"),
        "gamma": ("gam_shape", "gam_scale"),
    }
    for hours, ours in ((times().up_h, told["avail"]), (times().down_h, told["unavail"])):
        assert len(hours) == ours["n"]
        found = fit(family, hours).distribution
        expected = [ours[name] for name in names.get(family, ("mean",))]
        assert [getattr(found, name) for name in found.__struct_fields__] == pytest.approx(expected, rel=0.0001)


@pytest.mark.parametrize("family", FAMILIES)
def test_fits_are_near_the_published_ones(family: Family) -> None:
    published = fta("lanl05", family)
    near = 0.01 if family == "weibull" else 0.015  # the published lognormal sigma of repairs is 1.2 % off its own data
    for hours, told in ((times().up_h, published.up), (times().down_h, published.down)):
        found = fit(family, hours).distribution
        for name in told.__struct_fields__:
            # two decimals are published, so half of the last one is allowed at least
            assert getattr(found, name) == pytest.approx(getattr(told, name), rel=near, abs=0.01), name


def test_nodes_that_were_up_to_the_end_lengthen_the_fit() -> None:
    cut = fit("weibull", times().up_h, times().up_censored_h)
    assert cut.censored > 3_000
    assert cut.distribution.scale_h > fit("weibull", times().up_h).distribution.scale_h  # type: ignore[union-attr]


@pytest.mark.parametrize("system", [2, 16, 18, 19, 20])
def test_bursts_of_systems_equal_those_counted_elsewhere(system: int) -> None:
    told = json.loads((FITS / "burst_stats_w120.json").read_text())["stats"][f"lanl_sys{system}"]
    own = [record for record in records() if record.system == system]
    start_ms = np.asarray([round(record.started.timestamp() * 1_000) for record in own])
    found = burst_shares(start_ms, np.asarray([record.node for record in own]))
    assert found.share_two_or_more == pytest.approx(told["share_in_bursts_ge2"], abs=0.00006)
    assert found.share_ten_or_more == pytest.approx(told["share_in_bursts_ge10"], abs=0.00006)
    assert (found.bursts, found.largest) == (told["bursts"], told["max_nodes"])
