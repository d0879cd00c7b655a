"""Mean time to data loss: the chain in exact arithmetic, published figures, and simulated lifetimes."""

import csv
import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate

from twin.durability.durations import (
    Duration,
    Exponential,
    Fixed,
    Life,
    Lognormal,
    Weibull,
    age_at,
    draw,
    draw_ages,
    hazard_rate,
    hazard_until,
    mean_hours,
)
from twin.durability.lifetimes import draw_lifetimes
from twin.durability.markov import Code, Repair, erasure, loss_within, mttdl_hours, replicated

DATA = Path(os.environ.get("MOXIE_DATA", Path(__file__).parents[3] / "shared" / "data"))
CHAIN = DATA / "expected" / "mttdl_ctmc.csv"
BROKEN = {("replica4", 1.2e6, 6.0): (0, 1), ("ec8+4", 1.2e6, 24.0): (0, 1)}
"""Rows of the table that lost their digits in a general solver: two figures are negative, two more are far off."""
LIVES: list[Life] = [
    Exponential(mean_hours=100.0),
    Weibull(shape=0.7, scale_hours=80.0),
    Weibull(shape=2.5, scale_hours=80.0),
    Lognormal(mu=3.0, sigma=1.2),
]


def code_of(name: str) -> Code:
    if name.startswith("replica"):
        return replicated(int(name.removeprefix("replica")))
    data, coding = map(int, name.removeprefix("ec").split("+"))
    return erasure(data, coding)


def exactly(code: Code, mttf: float, mttr: float, repair: Repair) -> Fraction:
    """Solve the chain's linear equations with fractions: h(i) = 1 + up h(i+1) + down h(i-1), scaled."""
    fail, mend = Fraction(1) / Fraction(mttf), Fraction(1) / Fraction(mttr)
    size = code.tolerance + 1
    rows = []
    for failed in range(size):
        up = (code.shards - failed) * fail
        down = (min(failed, 1) if repair == "serial" else failed) * mend
        row = [Fraction(0)] * size + [Fraction(1)]
        row[failed] += up + down
        if failed + 1 < size:
            row[failed + 1] -= up
        if failed:
            row[failed - 1] -= down
        rows.append(row)
    for pivot in range(size):
        rows[pivot] = [value / rows[pivot][pivot] for value in rows[pivot]]
        for other in range(size):
            if other != pivot:
                factor = rows[other][pivot]
                rows[other] = [a - factor * b for a, b in zip(rows[other], rows[pivot], strict=True)]
    return rows[0][-1]


@pytest.mark.parametrize("repair", ["serial", "parallel"])
@pytest.mark.parametrize("name", ["replica2", "replica3", "replica4", "ec4+2", "ec8+3", "ec8+4"])
def test_the_chain_is_solved_to_the_last_digit_however_rare_loss_is(name: str, repair: Repair) -> None:
    for mttf, mttr in ((1_000.0, 10.0), (100.0, 50.0), (1.2e6, 24.0), (1.2e6, 6.0)):
        found = mttdl_hours(code_of(name), mttf, mttr, repair)
        assert found == pytest.approx(float(exactly(code_of(name), mttf, mttr, repair)), rel=1e-13)


@pytest.mark.skipif(not CHAIN.exists(), reason="the shared data is not shipped; set MOXIE_DATA to its folder")
def test_the_published_table_is_met_where_it_is_sound() -> None:
    with CHAIN.open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 27
    for row in rows:
        mttf, mttr = float(row["mttf_h"]), float(row["mttr_h"])
        broken = BROKEN.get((row["scheme"], mttf, mttr), ())
        for place, (repair, key) in enumerate(
            (("serial", "mttdl_serial_repair_h"), ("parallel", "mttdl_parallel_repair_h"))
        ):
            code = code_of(row["scheme"])
            found = mttdl_hours(code, mttf, mttr, "serial" if repair == "serial" else "parallel")
            assert (abs(found / float(row[key]) - 1) < 0.02) == (place not in broken), row


def test_the_table_has_four_figures_that_lost_their_digits() -> None:
    assert mttdl_hours(replicated(4), 1.2e6, 6, "serial") == pytest.approx(4.0001e20, rel=1e-3)
    assert mttdl_hours(replicated(4), 1.2e6, 6, "parallel") == pytest.approx(2.4e21, rel=1e-3)
    assert mttdl_hours(erasure(8, 4), 1.2e6, 24, "serial") == pytest.approx(7.894e19, rel=1e-3)
    assert mttdl_hours(erasure(8, 4), 1.2e6, 24, "parallel") == pytest.approx(1.8945e21, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "mttf", "mttr"),
    [("replica2", 100, 10), ("replica2", 1_000, 50), ("replica3", 100, 10), ("ec4+2", 1_000, 50)],
)
@pytest.mark.parametrize("repair", ["serial", "parallel"])
def test_twenty_thousand_lifetimes_agree_with_the_chain(name: str, mttf: float, mttr: float, repair: Repair) -> None:
    life, mend = Exponential(mean_hours=mttf), Exponential(mean_hours=mttr)
    lives = draw_lifetimes(code_of(name), life, mend, repair, 20_000, np.random.default_rng(11))
    assert float(lives.mean()) == pytest.approx(mttdl_hours(code_of(name), mttf, mttr, repair), rel=0.02)


def test_lifetimes_follow_other_distributions() -> None:
    alone = Code(shards=5, tolerance=0)
    lives = draw_lifetimes(
        alone, Weibull(shape=2.0, scale_hours=100.0), Fixed(hours=1.0), "parallel", 40_000, np.random.default_rng(2)
    )
    assert float(lives.mean()) == pytest.approx(100.0 * 5**-0.5 * math.gamma(1.5), rel=0.01)


def test_repair_at_once_counts_by_its_mean_alone_where_loss_is_rare() -> None:
    code, life = replicated(2), Exponential(mean_hours=1_000.0)
    kinds: list[Duration] = [Fixed(hours=20.0), Lognormal(mu=math.log(20) - 0.5, sigma=1.0)]
    for mend in kinds:
        assert mean_hours(mend) == pytest.approx(20.0)
        lives = draw_lifetimes(code, life, mend, "parallel", 20_000, np.random.default_rng(5))
        assert float(lives.mean()) == pytest.approx(mttdl_hours(code, 1_000, 20, "parallel"), rel=0.03)


def test_the_chance_of_loss_has_all_its_digits_where_it_is_tiny() -> None:
    code = replicated(3)
    rate = 1 / mttdl_hours(code, 1.2e6, 6, "parallel")
    assert loss_within(code, 1.2e6, 6, "parallel", 876_600) == pytest.approx(rate * 876_600, rel=1e-3)
    assert loss_within(Code(shards=1, tolerance=0), 100, 1, "parallel", 50) == pytest.approx(
        -math.expm1(-0.5), rel=1e-12
    )
    assert loss_within(code, 100, 10, "parallel", 1e6) == pytest.approx(1.0)


@pytest.mark.parametrize("life", LIVES, ids=lambda life: type(life).__name__)
def test_ages_and_hazards_belong_together(life: Life) -> None:
    ages = np.array([0.5, 3.0, 40.0, 300.0])
    assert age_at(life, hazard_until(life, ages)) == pytest.approx(ages, rel=1e-9)
    for age in ages.tolist():
        area, _ = integrate.quad(lambda t: float(hazard_rate(life, t)), 0.0, age, limit=200)
        assert area == pytest.approx(float(hazard_until(life, age)), rel=1e-5)


@pytest.mark.parametrize("life", LIVES, ids=lambda life: type(life).__name__)
def test_draws_have_their_mean_and_ages_that_of_renewal_theory(life: Life) -> None:
    random = np.random.default_rng(4)
    whole = draw(life, random, 200_000)
    assert float(whole.mean()) == pytest.approx(mean_hours(life), rel=0.02)
    ages = draw_ages(life, random, 200_000)
    assert float(ages.mean()) == pytest.approx(float((whole**2).mean()) / 2 / mean_hours(life), rel=0.05)
