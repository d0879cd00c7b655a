"""Maximum-likelihood fits: as scipy's where it has them, right where lifetimes are cut off, clear about nonsense."""

import math

import numpy as np
import pytest
from scipy import stats

from core.errors import InputError
from twin.failures.bulk import uniforms
from twin.failures.distributions import Exponential, Gamma, Lognormal, Weibull, quantile
from twin.failures.likelihood import FAMILIES, Family, Parametric, fit, fit_all

TRUE: dict[Family, Parametric] = {
    "exponential": Exponential(120.0),
    "weibull": Weibull(0.6, 90.0),
    "lognormal": Lognormal(2.0, 1.3),
    "gamma": Gamma(0.5, 300.0),
}
DRAWS = uniforms(5, "lives", 0, 20_000)


def parameters(of: Parametric) -> list[float]:
    return [getattr(of, name) for name in of.__struct_fields__]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fit_finds_what_was_drawn(family: Family) -> None:
    found = fit(family, quantile(TRUE[family], DRAWS)).distribution
    assert parameters(found) == pytest.approx(parameters(TRUE[family]), rel=0.03)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fit_finds_it_although_a_third_was_cut_off(family: Family) -> None:
    lives = quantile(TRUE[family], DRAWS)
    watched = uniforms(6, "watch", 0, len(lives)) * np.quantile(lives, 0.9) * 2
    cut = lives > watched
    assert 0.1 < cut.mean() < 0.6
    found = fit(family, lives[~cut], watched[cut])
    assert found.censored == int(cut.sum())
    assert parameters(found.distribution) == pytest.approx(parameters(TRUE[family]), rel=0.06)
    biased = fit(family, lives[~cut]).distribution
    assert parameters(biased) != pytest.approx(parameters(TRUE[family]), rel=0.06), "cutting off must matter here"


def test_fits_and_likelihoods_are_those_of_scipy() -> None:
    lives = quantile(TRUE["weibull"], DRAWS[:2_000])
    shape, _, scale = stats.weibull_min.fit(lives, floc=0)
    found = fit_all(lives)
    assert parameters(found["weibull"].distribution) == pytest.approx([shape, scale], rel=1e-3)
    assert found["weibull"].log_likelihood == pytest.approx(stats.weibull_min(shape, scale=scale).logpdf(lives).sum())
    k, _, theta = stats.gamma.fit(lives, floc=0)
    assert parameters(found["gamma"].distribution) == pytest.approx([k, theta], rel=1e-3)
    assert found["gamma"].log_likelihood == pytest.approx(stats.gamma(k, scale=theta).logpdf(lives).sum())
    sigma, _, median = stats.lognorm.fit(lives, floc=0)
    assert parameters(found["lognormal"].distribution) == pytest.approx([math.log(median), sigma], rel=1e-3)
    assert found["lognormal"].log_likelihood == pytest.approx(stats.lognorm(sigma, scale=median).logpdf(lives).sum())


def test_the_family_that_was_drawn_describes_best() -> None:
    for family, of in TRUE.items():
        found = fit_all(quantile(of, DRAWS))
        best = min(found, key=lambda name: found[name].aic)
        assert best == family


def test_lengths_of_zero_are_left_out_and_units_do_not_matter() -> None:
    lives = quantile(TRUE["weibull"], DRAWS[:500])
    hours = fit("weibull", np.append(lives, 0.0))
    assert hours.ended == 500
    tiny = fit("weibull", lives * 1e-9).distribution
    assert parameters(tiny) == pytest.approx(
        [parameters(hours.distribution)[0], parameters(hours.distribution)[1] * 1e-9]
    )


@pytest.mark.parametrize("lives", [[], [3.0], [2.0, 2.0]])
def test_too_few_lifetimes_are_bad_input(lives: list[float]) -> None:
    with pytest.raises(InputError, match="needed: two or more different ones"):
        fit("weibull", np.asarray(lives))


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_a_lifetime_that_is_none_is_bad_input(bad: float) -> None:
    with pytest.raises(InputError, match="allowed: hours from 0 on"):
        fit("gamma", np.asarray([1.0, 2.0, bad]))
