"""How often lateness exceeds a limit that was rarely or never exceeded while somebody watched."""

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import InputError
from twin.advise.jitter import Lateness
from twin.streams import Stream

HOURS_PER_YEAR = 8_766.0
SHARE = 0.05
"""The share of the samples that the tail is fitted to."""
EXCEEDANCES_MIN = 30
RESAMPLES = 200


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """A generalized Pareto distribution of what exceeds ``threshold_ms``, which happens ``per_hour`` times an hour.

    Source: Pickands, Annals of Statistics 3 (1975): excesses over a high threshold; fitted by probability-weighted
    moments: Hosking and Wallis, Technometrics 29 (1987).
    """

    threshold_ms: float
    per_hour: float
    shape: float
    scale_ms: float

    def yearly(self, limit_ms: float) -> float:
        """How often a year lateness exceeds ``limit_ms``, which must not be below the threshold."""
        excess = max(0.0, limit_ms - self.threshold_ms)
        if abs(self.shape) < 1e-9:
            beyond = math.exp(-excess / self.scale_ms)
        else:
            base = 1 + self.shape * excess / self.scale_ms
            beyond = base ** (-1 / self.shape) if base > 0 else 0.0
        return self.per_hour * beyond * HOURS_PER_YEAR


class Rarity(msgspec.Struct, frozen=True, kw_only=True):
    """The fitted tail and those of resampled data, by which its uncertainty is judged; ``largest_ms`` was seen."""

    tail: Tail
    resampled: tuple[Tail, ...]
    largest_ms: int
    hours: float

    def yearly(self, limit_ms: float) -> tuple[float, float]:
        """How often a year ``limit_ms`` is exceeded: as fitted, and the upper end of the 95 % interval."""
        rates = sorted(tail.yearly(limit_ms) for tail in self.resampled)
        return self.tail.yearly(limit_ms), rates[math.ceil(0.975 * len(rates)) - 1]


def rarity_of(lateness: Lateness, what: str, stream: Stream) -> Rarity:
    """Fit the tail of one lateness.

    Raises: InputError if there are too few samples to say anything about rare ones.
    """
    needed = round(EXCEEDANCES_MIN / SHARE)
    late = lateness.late_ms
    if len(late) < needed or lateness.hours <= 0:
        raise InputError(
            [f"journals: {len(late)} answered {what} beats; needed: at least {needed}, of a singleton with a volume"]
        )
    threshold = float(np.quantile(late, 1 - SHARE))
    excess = np.sort(late[late > threshold] - threshold).astype(np.float64)
    if len(excess) < EXCEEDANCES_MIN // 2:  # many equal values at the threshold: everything above it is the tail
        threshold = float(np.min(late))
        excess = np.sort(late[late > threshold] - threshold).astype(np.float64)
    per_hour = len(excess) / lateness.hours
    tail = _fit(excess, threshold, per_hour)
    resampled = []
    for _ in range(RESAMPLES):
        drawn = np.array([stream.integers(0, len(excess)) for _ in range(len(excess))], np.int64)
        resampled.append(_fit(np.sort(excess[drawn]), threshold, per_hour))
    return Rarity(tail=tail, resampled=tuple(resampled), largest_ms=int(late.max()), hours=lateness.hours)


def _fit(excess: NDArray[np.float64], threshold_ms: float, per_hour: float) -> Tail:
    """Fit to sorted excesses. A shape below 0 means that lateness has an end, which no watching can show: 0 then."""
    count = len(excess)
    if count == 0:
        return Tail(threshold_ms=threshold_ms, per_hour=0.0, shape=0.0, scale_ms=1.0)
    first = float(excess.mean())
    weights = (count - 1 - np.arange(count)) / max(1, count - 1)
    second = float((weights * excess).mean())
    spread = first - 2 * second
    if spread <= 1e-9:
        return Tail(threshold_ms=threshold_ms, per_hour=per_hour, shape=0.0, scale_ms=max(first, 1.0))
    shape = min(max(2 - first / spread, 0.0), 0.95)
    scale_ms = first if shape == 0 else 2 * first * second / spread
    return Tail(threshold_ms=threshold_ms, per_hour=per_hour, shape=shape, scale_ms=max(scale_ms, 1e-6))
