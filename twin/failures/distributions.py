"""The distributions that lifetimes and repairs are fitted with: quantiles, survival, means, and residual lifetimes.

All take arrays of uniform numbers and give arrays, one number in, one number out: so a draw stays the same draw
whatever else is drawn beside it. Times are hours.
"""

import math

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]


class Exponential(msgspec.Struct, frozen=True, tag=True):
    """Constant hazard; ``mean_h`` hours on average."""

    mean_h: float


class Weibull(msgspec.Struct, frozen=True, tag=True):
    """Hazard falls with age where ``shape`` < 1 and rises where it is above; 63.2 % are over at ``scale_h`` hours."""

    shape: float
    scale_h: float


class Lognormal(msgspec.Struct, frozen=True, tag=True):
    """The logarithm of the hours is normal with mean ``mu`` and deviation ``sigma``."""

    mu: float
    sigma: float


class Gamma(msgspec.Struct, frozen=True, tag=True):
    """Gamma distribution of mean ``shape * scale_h`` hours."""

    shape: float
    scale_h: float


class Bathtub(msgspec.Struct, frozen=True, tag=True):
    """Piecewise constant hazard: ``per_year[i]`` failures a year of service from the age ``from_years[i]`` on.

    ``from_years`` starts with 0 and rises; the last rate holds for ever, so it must not be 0.
    """

    from_years: tuple[float, ...]
    per_year: tuple[float, ...]


Distribution = Exponential | Weibull | Lognormal | Gamma | Bathtub

YEAR_H = 8_766.0
"""Hours of a year of 365.25 days."""


def quantile(of: Distribution, uniform: Floats) -> Floats:
    """Hours by which the share ``uniform`` of all lifetimes is over (the inverse distribution function)."""
    match of:
        case Exponential(mean):
            return np.asarray(-mean * np.log1p(-uniform))
        case Weibull(shape, scale_h):
            return np.asarray(scale_h * (-np.log1p(-uniform)) ** (1.0 / shape))
        case Lognormal(mu, sigma):
            return np.asarray(np.exp(mu + sigma * np.asarray(special.ndtri(uniform))))
        case Gamma(shape, scale_h):
            return np.asarray(scale_h * np.asarray(special.gammaincinv(shape, uniform)))
        case Bathtub():
            return _age_at(of, np.asarray(-np.log1p(-uniform)))


def survival(of: Distribution, hours: Floats) -> Floats:
    """The share of lifetimes longer than ``hours``."""
    match of:
        case Exponential(mean):
            return np.asarray(np.exp(-hours / mean))
        case Weibull(shape, scale_h):
            return np.exp(-((hours / scale_h) ** shape))
        case Lognormal(mu, sigma):
            with np.errstate(divide="ignore"):
                return np.asarray(special.ndtr(-(np.log(hours) - mu) / sigma))
        case Gamma(shape, scale_h):
            return np.asarray(special.gammaincc(shape, hours / scale_h))
        case Bathtub():
            starts_h, rates, hazards = _pieces(of)
            piece = np.searchsorted(starts_h, hours, side="right") - 1
            return np.exp(-(hazards[piece] + rates[piece] * (hours - starts_h[piece])))


def mean_h(of: Distribution) -> float:
    """The mean lifetime in hours."""
    match of:
        case Exponential(mean):
            return mean
        case Weibull(shape, scale_h):
            return scale_h * math.gamma(1.0 + 1.0 / shape)
        case Lognormal(mu, sigma):
            return math.exp(mu + sigma**2 / 2.0)
        case Gamma(shape, scale_h):
            return shape * scale_h
        case Bathtub():
            return float(_means(of)[-1])


def scaled(of: Distribution, factor: float) -> Distribution:
    """The same distribution of lifetimes ``factor`` times as long."""
    match of:
        case Exponential(mean):
            return Exponential(mean * factor)
        case Weibull(shape, scale_h):
            return Weibull(shape, scale_h * factor)
        case Lognormal(mu, sigma):
            return Lognormal(mu + math.log(factor), sigma)
        case Gamma(shape, scale_h):
            return Gamma(shape, scale_h * factor)
        case Bathtub(from_years, per_year):
            return Bathtub(tuple(age * factor for age in from_years), tuple(rate / factor for rate in per_year))


def residual(of: Distribution, uniform: Floats, second: Floats) -> Floats:
    """Hours left at a moment that knows nothing of the past: the first lifetime of a site that has long been running.

    A moment falls into long lifetimes more often than into short ones, and anywhere within: a uniform part (``second``)
    of a lifetime drawn in proportion to its length. Source: D. R. Cox: Renewal Theory, 1962, chapter 5 (the
    equilibrium renewal process); its density is survival divided by the mean.
    """
    match of:
        case Exponential():
            return quantile(of, uniform)
        case Weibull(shape, scale_h):
            long = np.asarray(special.gammaincinv(1.0 + 1.0 / shape, uniform)) ** (1.0 / shape)
            return second * scale_h * long
        case Lognormal(mu, sigma):
            return second * quantile(Lognormal(mu + sigma**2, sigma), uniform)
        case Gamma(shape, scale_h):
            return second * quantile(Gamma(shape + 1.0, scale_h), uniform)
        case Bathtub():
            return _residual(of, uniform)


def _pieces(of: Bathtub) -> tuple[Floats, Floats, Floats]:
    """Start in hours, hazard an hour, and the hazard gathered until the start, of each piece."""
    starts_h = np.asarray(of.from_years) * YEAR_H
    rates = np.asarray(of.per_year) / YEAR_H
    return starts_h, rates, np.concatenate([[0.0], np.cumsum(rates[:-1] * np.diff(starts_h))])


def _age_at(of: Bathtub, hazard: Floats) -> Floats:
    starts_h, rates, hazards = _pieces(of)
    piece = np.searchsorted(hazards, hazard, side="right") - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        return starts_h[piece] + np.where(rates[piece] > 0, (hazard - hazards[piece]) / rates[piece], 0.0)


def _means(of: Bathtub) -> Floats:
    """The integral of the survival up to the start of each piece, and at last the whole: the mean."""
    starts_h, rates, hazards = _pieces(of)
    lengths = np.append(np.diff(starts_h), np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        areas = np.where(rates > 0, -np.expm1(-rates * lengths) / rates, lengths) * np.exp(-hazards)
    return np.concatenate([[0.0], np.cumsum(areas)])


def _residual(of: Bathtub, uniform: Floats) -> Floats:
    """Invert the integral of the survival, which is exponential or straight on each piece."""
    starts_h, rates, hazards = _pieces(of)
    areas = _means(of)
    wanted = uniform * areas[-1]
    piece = np.clip(np.searchsorted(areas, wanted, side="right") - 1, 0, len(rates) - 1)
    inside = (wanted - areas[piece]) * np.exp(hazards[piece])
    rate = rates[piece]
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(rate > 0, -np.log1p(-np.minimum(rate * inside, 1 - 1e-16)) / rate, inside)
    return np.asarray(starts_h[piece] + left)
