"""Distributions of how long things last, in hours: drawn from, aged, and read as hazards.

A cumulative hazard H(t) is minus the logarithm of the share that lives longer than t. Every draw of a remaining life is
the inverse of H at an exponential variate, so one formula serves all of them, whatever the age.
"""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import special

Hours = npt.NDArray[np.float64]


class Exponential(msgspec.Struct, frozen=True, kw_only=True, tag="exponential", forbid_unknown_fields=True):
    """Memoryless: what a Markov chain supposes."""

    mean_hours: float


class Weibull(msgspec.Struct, frozen=True, kw_only=True, tag="weibull", forbid_unknown_fields=True):
    """A shape below 1: failures come in clumps after a repair; above 1: wear."""

    shape: float
    scale_hours: float


class Lognormal(msgspec.Struct, frozen=True, kw_only=True, tag="lognormal", forbid_unknown_fields=True):
    """``mu`` and ``sigma``: mean and deviation of the logarithm of the hours."""

    mu: float
    sigma: float


class Fixed(msgspec.Struct, frozen=True, kw_only=True, tag="fixed", forbid_unknown_fields=True):
    """Always as long."""

    hours: float


Life = Exponential | Weibull | Lognormal
"""How long something lasts until it fails: a distribution with a hazard."""
Duration = Exponential | Weibull | Lognormal | Fixed
"""How long an outage or a repair takes."""


def mean_hours(duration: Duration) -> float:
    """Return the mean."""
    match duration:
        case Exponential(mean_hours=mean):
            return mean
        case Weibull(shape=shape, scale_hours=scale):
            return float(scale * special.gamma(1.0 + 1.0 / shape))
        case Lognormal(mu=mu, sigma=sigma):
            return float(np.exp(mu + sigma * sigma / 2.0))
        case Fixed(hours=hours):
            return hours


def draw(duration: Duration, rng: np.random.Generator, size: int | tuple[int, ...]) -> Hours:
    """Draw whole durations. Returns float64, shape ``size``."""
    match duration:
        case Exponential(mean_hours=mean):
            return rng.exponential(mean, size)
        case Weibull(shape=shape, scale_hours=scale):
            return np.asarray(scale * rng.weibull(shape, size))
        case Lognormal(mu=mu, sigma=sigma):
            return rng.lognormal(mu, sigma, size)
        case Fixed(hours=hours):
            return np.full(size, hours)


def draw_ages(life: Life, rng: np.random.Generator, size: int | tuple[int, ...]) -> Hours:
    """Draw the ages at which a renewal process that has run for long is found. Returns float64, shape ``size``.

    The life that covers a moment is drawn by its length, and the moment lies anywhere in it.
    Source: D. R. Cox, Renewal Theory, 1962, ch. 5 (backward recurrence time).
    """
    match life:
        case Exponential(mean_hours=mean):
            return rng.exponential(mean, size)
        case Weibull(shape=shape, scale_hours=scale):
            whole = scale * rng.gamma(1.0 + 1.0 / shape, 1.0, size) ** (1.0 / shape)
        case Lognormal(mu=mu, sigma=sigma):
            whole = rng.lognormal(mu + sigma * sigma, sigma, size)
    return np.asarray(whole * rng.random(size))


def hazard_until(life: Life, ages: Any) -> Hours:
    """Return the cumulative hazard H(age), float64, the shape of ``ages`` (hours)."""
    ages = np.asarray(ages, dtype=np.float64)
    match life:
        case Exponential(mean_hours=mean):
            return np.asarray(ages / mean)
        case Weibull(shape=shape, scale_hours=scale):
            return np.asarray((ages / scale) ** shape)
        case Lognormal(mu=mu, sigma=sigma):
            with np.errstate(divide="ignore"):
                return np.asarray(-special.log_ndtr((mu - np.log(ages)) / sigma))


def hazard_rate(life: Life, ages: Any) -> Hours:
    """Return the hazard rate h(age) per hour: the derivative of `hazard_until`. Ages above 0."""
    ages = np.asarray(ages, dtype=np.float64)
    match life:
        case Exponential(mean_hours=mean):
            return np.full(ages.shape, 1.0 / mean)
        case Weibull(shape=shape, scale_hours=scale):
            return np.asarray(shape / scale * (ages / scale) ** (shape - 1.0))
        case Lognormal(mu=mu, sigma=sigma):
            z = (np.log(ages) - mu) / sigma
            return np.asarray(np.exp(-z * z / 2.0 - special.log_ndtr(-z)) / (ages * sigma * np.sqrt(2.0 * np.pi)))


def age_at(life: Life, hazards: Any) -> Hours:
    """Return the age (hours) at which the cumulative hazard reaches ``hazards``: the inverse of `hazard_until`."""
    hazards = np.asarray(hazards, dtype=np.float64)
    match life:
        case Exponential(mean_hours=mean):
            return np.asarray(hazards * mean)
        case Weibull(shape=shape, scale_hours=scale):
            return np.asarray(scale * hazards ** (1.0 / shape))
        case Lognormal(mu=mu, sigma=sigma):
            with np.errstate(divide="ignore"):
                return np.asarray(np.exp(mu - sigma * special.ndtri_exp(-hazards)))


def same_mean(life: Life) -> Exponential:
    """Return the exponential distribution of the same mean: the rate alone, without its ageing."""
    return Exponential(mean_hours=mean_hours(life))
