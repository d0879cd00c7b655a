"""A probability as it was found: exactly, or by sampling with an interval, or not at all."""

import math

import msgspec
from scipy import stats

ERROR_MAX = 0.25
"""A sampled figure with a larger relative standard error is not printed."""
EFFECTIVE_MIN = 20.0
"""Nor is one that so few samples carry (effective sample size)."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A probability.

    ``low``, ``high``: the 95 % confidence interval. ``samples``: 0 where the figure is exact. ``effective``: effective
    sample size, (sum w)^2 / sum w^2 over the samples' contributions. ``value`` is None where sampling has not
    converged; then ``high`` is still an upper bound if there is one, else 1.
    """

    value: float | None
    low: float
    high: float
    samples: int = 0
    effective: float = 0.0
    method: str = "exact"

    @property
    def relative_error(self) -> float | None:
        """The relative standard error, from the interval's width; None without a value or for 0."""
        if not self.value:
            return None
        return (self.high - self.low) / (2 * 1.959964) / self.value

    @property
    def text(self) -> str:
        """Say the figure with its interval, or why there is none."""
        if self.value is None:
            bound = f"; below {self.high:.2g} (95 %)" if self.high < 1.0 else ""
            return f"not converged: {self.samples:,} samples, {self.effective:.0f} of them carry weight{bound}"
        if self.samples == 0:
            return f"{self.value:.4g}"
        return f"{self.value:.3g} (95 %: {self.low:.3g} to {self.high:.3g})"


def exact(value: float) -> Estimate:
    """Return a figure that was computed, not sampled."""
    return Estimate(value=value, low=value, high=value)


def of_counts(hits: int, trials: int, method: str = "Monte Carlo") -> Estimate:
    """Return a share that was counted, with the interval of Clopper and Pearson (Biometrika 26, 1934)."""
    low = float(stats.beta.ppf(0.025, hits, trials - hits + 1)) if hits else 0.0
    high = float(stats.beta.ppf(0.975, hits + 1, trials - hits)) if hits < trials else 1.0
    few = hits < EFFECTIVE_MIN and trials - hits > 0
    value = None if few else hits / trials
    return Estimate(value=value, low=low, high=high, samples=trials, effective=float(hits), method=method)


def of_sums(total: float, squares: float, count: int, method: str, carried: float | None = None) -> Estimate:
    """Return a probability: the mean of ``count`` contributions of sum ``total`` and sum of squares ``squares``.

    ``carried``: the effective sample size where it is not that of the contributions themselves.
    The interval is normal; converged means a relative error up to ``ERROR_MAX`` and ``EFFECTIVE_MIN`` effective
    samples. Without that there is no bound either: the samples that matter may all be missing.
    """
    total, squares = float(total), float(squares)
    mean = total / count
    spread = math.sqrt(max(0.0, squares / count - mean * mean) / max(1, count - 1))
    effective = carried if carried is not None else total * total / squares if squares > 0 else 0.0
    good = mean > 0 and spread <= ERROR_MAX * mean and effective >= EFFECTIVE_MIN
    return Estimate(
        value=min(1.0, mean) if good else None,
        low=min(1.0, max(0.0, mean - 1.959964 * spread)) if good else 0.0,
        high=min(1.0, mean + 1.959964 * spread) if good else 1.0,
        samples=count,
        effective=float(effective),
        method=method,
    )
