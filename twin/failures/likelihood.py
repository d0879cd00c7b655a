"""Maximum-likelihood fits of lifetimes, of which some may have been cut off by the end of the watch."""

import math
from collections.abc import Callable
from typing import Literal, get_args

import msgspec
import numpy as np
from scipy import optimize, special

from core.errors import InputError
from twin.failures.distributions import Exponential, Floats, Gamma, Lognormal, Weibull

Family = Literal["exponential", "weibull", "lognormal", "gamma"]
Parametric = Exponential | Weibull | Lognormal | Gamma
FAMILIES: tuple[Family, ...] = get_args(Family)

_SHAPE_MIN, _SHAPE_MAX = 1e-3, 1e3
"""Shapes looked for. Source: ours; every published fit of failures lies between 0.2 and 5."""


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """What was fitted to ``ended`` whole lifetimes and ``censored`` ones that were still going on.

    ``aic``: Akaike's criterion, 2 x parameters - 2 x ``log_likelihood``; the family with the least describes best.
    """

    distribution: Parametric
    ended: int
    censored: int
    log_likelihood: float
    aic: float


def fit(family: Family, ended: Floats, censored: Floats | None = None) -> Fitted:
    """Fit one family to lifetimes in hours. Those of length 0 say nothing about a scale and are left out.

    ``ended``: float64 array, hours of the lifetimes that ended. ``censored``: hours of those that were still going on
    (right-censored). Cost: O(lifetimes) for each of a few dozen steps.

    Raises: InputError with fewer than two different lifetimes that ended, or one that is not finite.
    """
    whole, cut = _checked(ended, "ended"), _checked(np.empty(0) if censored is None else censored, "censored")
    if (family != "exponential" and (len(whole) < 2 or np.ptp(whole) == 0.0)) or not len(whole):
        raise InputError([f"{family} fit: {len(whole)} lifetimes that ended; needed: two or more different ones"])
    unit_h = float(whole.mean())
    found = _scaled(family, whole / unit_h, cut / unit_h, unit_h)
    log_likelihood = _log_likelihood(found, whole, cut)
    parameters = 1 if family == "exponential" else 2
    return Fitted(
        distribution=found,
        ended=len(whole),
        censored=len(cut),
        log_likelihood=log_likelihood,
        aic=2.0 * parameters - 2.0 * log_likelihood,
    )


def fit_all(ended: Floats, censored: Floats | None = None) -> dict[Family, Fitted]:
    """Fit all four families. Raises: InputError as ``fit``."""
    return {family: fit(family, ended, censored) for family in FAMILIES}


def _checked(hours: Floats, name: str) -> Floats:
    values = np.asarray(hours, dtype=np.float64).ravel()
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        raise InputError([f"lifetimes {name}: some are negative or not finite; allowed: hours from 0 on"])
    return values[values > 0]


def _scaled(family: Family, whole: Floats, cut: Floats, unit_h: float) -> Parametric:
    match family:
        case "exponential":
            return Exponential(float(whole.sum() + cut.sum()) / len(whole) * unit_h)
        case "weibull":
            shape, scale = _weibull(whole, cut)
            return Weibull(shape, scale * unit_h)
        case "lognormal":
            mu, sigma = _lognormal(whole, cut)
            return Lognormal(mu + math.log(unit_h), sigma)
        case "gamma":
            shape, scale = _gamma(whole, cut)
            return Gamma(shape, scale * unit_h)


def _weibull(whole: Floats, cut: Floats) -> tuple[float, float]:
    """Solve the likelihood equation of the shape; the scale follows from it."""
    every, mean_log = np.concatenate([whole, cut]), float(np.log(whole).mean())
    logs = np.log(every)
    top = float(logs.max())

    def slope(shape: float) -> float:
        powers = np.exp(shape * (logs - top))
        return float((powers * logs).sum() / powers.sum()) - 1.0 / shape - mean_log

    shape = float(optimize.brentq(slope, _SHAPE_MIN, _SHAPE_MAX, xtol=1e-12, rtol=1e-12))
    scale = math.exp(top + math.log(float(np.exp(shape * (logs - top)).sum()) / len(whole)) / shape)
    return shape, scale


def _lognormal(whole: Floats, cut: Floats) -> tuple[float, float]:
    logs, cut_logs = np.log(whole), np.log(cut)
    start = float(logs.mean()), float(logs.std())
    if not len(cut):
        return start

    def loss(at: Floats) -> float:
        mu, sigma = float(at[0]), math.exp(float(at[1]))
        ended = -0.5 * (((logs - mu) / sigma) ** 2).sum() - len(logs) * math.log(sigma)
        return -float(ended + special.log_ndtr((mu - cut_logs) / sigma).sum()) / len(logs)

    found = _least(loss, np.asarray([start[0], math.log(start[1])]))
    return float(found[0]), math.exp(float(found[1]))


def _gamma(whole: Floats, cut: Floats) -> tuple[float, float]:
    gap = math.log(float(whole.mean())) - float(np.log(whole).mean())
    shape = float(optimize.brentq(lambda k: math.log(k) - float(special.digamma(k)) - gap, _SHAPE_MIN, 1e6, xtol=1e-12))
    scale = float(whole.mean()) / shape
    if not len(cut):
        return shape, scale
    log_sum, total = float(np.log(whole).mean()), float(whole.mean())

    def loss(at: Floats) -> float:
        k, theta = math.exp(float(at[0])), math.exp(float(at[1]))
        ended = (k - 1.0) * log_sum - total / theta - math.lgamma(k) - k * math.log(theta)
        with np.errstate(divide="ignore"):
            left = np.log(special.gammaincc(k, cut / theta))
        return -ended - float(np.maximum(left, -745.0).sum()) / len(whole)

    found = _least(loss, np.log(np.asarray([shape, scale])))
    return math.exp(float(found[0])), math.exp(float(found[1]))


def _least(loss: Callable[[Floats], float], start: Floats) -> Floats:
    found = optimize.minimize(
        loss, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4_000}
    )
    return np.asarray(found.x, dtype=np.float64)


def _log_likelihood(of: Parametric, whole: Floats, cut: Floats) -> float:
    """The logarithm of the density at what ended, and of the survival at what was cut off."""
    match of:
        case Exponential(mean):
            return -len(whole) * math.log(mean) - float(whole.sum() + cut.sum()) / mean
        case Weibull(k, scale):
            ended = len(whole) * math.log(k / scale) + (k - 1.0) * float(np.log(whole / scale).sum())
            return ended - float(((whole / scale) ** k).sum() + ((cut / scale) ** k).sum())
        case Lognormal(mu, sigma):
            standard = (np.log(whole) - mu) / sigma
            ended = -float((standard**2).sum()) / 2.0 - float(np.log(whole).sum())
            left = float(special.log_ndtr((mu - np.log(cut)) / sigma).sum())
            return ended - len(whole) * (math.log(sigma) + math.log(2.0 * math.pi) / 2.0) + left
        case Gamma(k, scale):
            ended = (k - 1.0) * float(np.log(whole).sum()) - float(whole.sum()) / scale
            left = float(np.log(special.gammaincc(k, cut / scale)).sum())
            return ended - len(whole) * (math.lgamma(k) + k * math.log(scale)) + left
