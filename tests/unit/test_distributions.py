"""Distributions of lifetimes: what is drawn has the shares, means and residual lifetimes that theory says."""

import numpy as np
import pytest
from scipy import stats

from twin.failures.bulk import uniforms
from twin.failures.distributions import (
    YEAR_H,
    Bathtub,
    Distribution,
    Exponential,
    Gamma,
    Lognormal,
    Weibull,
    mean_h,
    quantile,
    residual,
    scaled,
    survival,
)

ALL: tuple[Distribution, ...] = (
    Exponential(30.0),
    Weibull(0.48, 816.6),
    Weibull(1.4, 50.0),
    Lognormal(0.05, 0.9),
    Gamma(0.35, 5102.71),
    Bathtub((0.0, 1.5, 3.0), (0.051, 0.014, 0.118)),
    Bathtub((0.0, 1.0), (0.0, 0.5)),
)
OTHERS = {
    Weibull(0.48, 816.6): stats.weibull_min(0.48, scale=816.6),
    Lognormal(0.05, 0.9): stats.lognorm(0.9, scale=np.exp(0.05)),
    Gamma(0.35, 5102.71): stats.gamma(0.35, scale=5102.71),
}
GRID = (np.arange(400_000) + 0.5) / 400_000


@pytest.mark.parametrize("of", ALL)
def test_survival_undoes_the_quantile(of: Distribution) -> None:
    shares = np.linspace(0.001, 0.999, 97)
    assert survival(of, quantile(of, shares)) == pytest.approx(1 - shares, abs=1e-9)


@pytest.mark.parametrize("of", ALL)
def test_the_mean_is_that_of_the_quantiles(of: Distribution) -> None:
    assert quantile(of, GRID).mean() == pytest.approx(mean_h(of), rel=0.01)


@pytest.mark.parametrize("of", ALL)
def test_a_longer_life_is_longer_at_every_share(of: Distribution) -> None:
    shares = np.linspace(0.01, 0.99, 9)
    assert quantile(scaled(of, 2.5), shares) == pytest.approx(2.5 * quantile(of, shares))


@pytest.mark.parametrize("of", ALL)
def test_what_is_left_at_a_random_moment_is_distributed_as_survival_over_the_mean(of: Distribution) -> None:
    left = np.sort(residual(of, uniforms(1, "left", 0, 100_000), uniforms(1, "left", 1, 100_000)))
    lives = quantile(of, GRID)
    for share in (0.1, 0.5, 0.9):
        moment = left[int(share * len(left))]
        expected = np.minimum(lives, moment).mean() / lives.mean()  # the integral of survival / mean up to the moment
        assert expected == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("of", OTHERS)
def test_quantiles_are_those_of_scipy(of: Distribution) -> None:
    shares = np.linspace(0.01, 0.99, 9)
    assert quantile(of, shares) == pytest.approx(OTHERS[of].ppf(shares))
    assert mean_h(of) == pytest.approx(OTHERS[of].mean())


def test_a_bathtub_has_its_rates_at_its_ages() -> None:
    of = Bathtub((0.0, 1.5, 3.0), (0.051, 0.014, 0.118))
    alive = survival(of, np.asarray([0.0, 1.5, 3.0, 4.0]) * YEAR_H)
    assert -np.diff(np.log(alive)) == pytest.approx([1.5 * 0.051, 1.5 * 0.014, 0.118])


def test_a_component_more_changes_no_draw_of_the_others() -> None:
    assert (uniforms(7, "disk.up", 3, 1_000) == uniforms(7, "disk.up", 3, 1_001)[:-1]).all()
    assert not (uniforms(7, "disk.up", 3, 10) == uniforms(7, "disk.up", 4, 10)).any()
    assert not (uniforms(7, "disk.up", 3, 10) == uniforms(8, "disk.up", 3, 10)).any()
    assert not (uniforms(7, "disk.up", 3, 10) == uniforms(7, "node.up", 3, 10)).any()


def test_draws_are_uniform_and_never_0_or_1() -> None:
    drawn = uniforms(1, "even", 0, 200_000)
    assert 0.0 < drawn.min() <= drawn.max() < 1.0
    assert stats.kstest(drawn, "uniform").pvalue > 0.001
