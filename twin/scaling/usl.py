"""The Universal Scalability Law fitted to throughputs, and power laws to costs, with confidence intervals.

``X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1))``: sigma is contention (what is done in one place), kappa
coherency (what every node does for every other).
Source: N. J. Gunther, Guerrilla Capacity Planning, 2007, chapter 4.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares, nnls

from twin.streams import Streams

DRAWS = 100
"""Bootstrap samples; a fit takes some milliseconds."""
LEVEL = 0.95

Floats = npt.NDArray[np.float64]


class Usl(msgspec.Struct, frozen=True, kw_only=True, rename={"lambda_": "lambda"}):
    """A fit. The intervals are of 95 %: percentiles of fits to resampled seeds; ``linear_ratio`` is X(N) / (lambda N)
    at the largest size, ``residual_max`` the largest relative distance between a mean and the curve.
    """

    sigma: float
    sigma_ci: tuple[float, float]
    kappa: float
    kappa_ci: tuple[float, float]
    lambda_: float
    lambda_ci: tuple[float, float]
    linear_ratio: float
    residual_max: float

    def throughput(self, nodes: npt.ArrayLike) -> Floats:
        """Say what the curve gives at these sizes. float64 array of the shape of ``nodes``."""
        return curve(np.asarray(nodes, float), self.lambda_, self.sigma, self.kappa)


class Power(msgspec.Struct, frozen=True, kw_only=True):
    """``y = factor * N ** exponent``, fitted to logarithms; the interval is of 95 %, from resampled seeds."""

    factor: float
    exponent: float
    exponent_ci: tuple[float, float]


def curve(nodes: Floats, lambda_: float, sigma: float, kappa: float) -> Floats:
    """Compute the law at these sizes. float64 arrays of one shape."""
    bent: Floats = lambda_ * nodes / (1 + sigma * (nodes - 1) + kappa * nodes * (nodes - 1))
    return bent


def fit(measured: Mapping[int, Sequence[float]], seed: int = 1) -> Usl:
    """Fit the law to throughputs by size, one for each seed, with sigma and kappa not below 0.

    Relative distances are minimised: every size counts as much. ``seed`` is that of the bootstrap.

    Raises: ValueError for fewer than three sizes or throughputs that are not above 0.
    """
    if len(measured) < 3 or any(not x > 0 for row in measured.values() for x in row):
        raise ValueError(f"needed: throughputs above 0 at three sizes at least; got: {sorted(measured)}")
    nodes = np.array(sorted(measured), float)
    means = np.array([float(np.mean(measured[int(n)])) for n in nodes])
    best = _solve(nodes, means)
    drawn = np.array([_solve(nodes, sample) for sample in _resampled(measured, seed)])
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    fitted = curve(nodes, *best)
    return Usl(
        lambda_=best[0],
        lambda_ci=(float(low[0]), float(high[0])),
        sigma=best[1],
        sigma_ci=(float(low[1]), float(high[1])),
        kappa=best[2],
        kappa_ci=(float(low[2]), float(high[2])),
        linear_ratio=float(fitted[-1] / (best[0] * nodes[-1])),
        residual_max=float(np.max(np.abs(fitted / means - 1))),
    )


def power(measured: Mapping[int, Sequence[float]], seed: int = 1) -> Power | None:
    """Fit a power law to costs by size, one for each seed; None where a mean is not above 0 or sizes are too few."""
    nodes = np.array(sorted(measured), float)
    means = np.array([float(np.mean(measured[int(n)])) for n in nodes])
    if len(nodes) < 2 or np.any(means <= 0):
        return None
    exponent, constant = np.polyfit(np.log(nodes), np.log(means), 1)
    samples = [sample for sample in _resampled(measured, seed) if np.all(sample > 0)]
    drawn = [float(np.polyfit(np.log(nodes), np.log(sample), 1)[0]) for sample in samples]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if drawn else (exponent, exponent)
    return Power(factor=math.exp(constant), exponent=float(exponent), exponent_ci=(float(low), float(high)))


def _resampled(measured: Mapping[int, Sequence[float]], seed: int) -> list[Floats]:
    """Means by size, of seeds drawn with replacement within each size."""
    stream = Streams(seed).get("scaling/bootstrap")
    rows = [list(measured[size]) for size in sorted(measured)]
    return [np.array([sum(stream.choice(row) for _ in row) / len(row) for row in rows]) for _ in range(DRAWS)]


def _solve(nodes: Floats, throughput: Floats) -> tuple[float, float, float]:
    """Lambda, sigma and kappa: N / X is linear in them, which begins the nonlinear fit."""
    one, two = nodes - 1, nodes * (nodes - 1)
    scales = np.array([1.0, max(float(one[-1]), 1.0), max(float(two[-1]), 1.0)])
    level = float(np.mean(throughput / nodes))
    shares = throughput / (nodes * level)
    columns = np.stack([np.ones_like(nodes), one, two], axis=1) / scales
    begin, _ = nnls(columns * shares[:, None], np.ones_like(nodes))
    a = max(float(begin[0]), 1e-9)

    def distance(x: Floats) -> Floats:
        bent: Floats = x[0] / (1 + (columns[:, 1:] @ x[1:])) / shares - 1
        return bent

    start = np.array([1 / a, begin[1] / a, begin[2] / a])
    scale = np.maximum(start, 1e-6)
    found = least_squares(distance, start, bounds=(0, np.inf), x_scale=scale, xtol=1e-10, ftol=1e-10, gtol=1e-10)
    x = found.x if found.cost < 0.5 * float(np.sum(distance(start) ** 2)) else start
    return float(x[0] * level), float(x[1] / scales[1]), float(x[2] / scales[2])
