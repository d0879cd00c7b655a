"""Whether two samples may come from one distribution: the test of Kolmogorov and Smirnov."""

from collections.abc import Sequence
from math import exp, pi, sqrt

TERMS_MAX = 100
"""Both series below converge within a few terms wherever they are used."""

SMALL = 1.18
"""Below it the series in 1/x² converges faster, above it the alternating one."""


def statistic(one: Sequence[int], other: Sequence[int]) -> float:
    """The largest distance of the two empirical distribution functions; neither sample is empty. O(n log n)."""
    first, second = sorted(one), sorted(other)
    i = j = 0
    found = 0.0
    while i < len(first) and j < len(second):
        value = min(first[i], second[j])
        while i < len(first) and first[i] == value:
            i += 1
        while j < len(second) and second[j] == value:
            j += 1
        found = max(found, abs(i / len(first) - j / len(second)))
    return found


def p_value(distance: float, size: int, other_size: int) -> float:
    """How likely two samples of one continuous distribution are at least that far apart, for large samples.

    Ties make it larger than it should be. Source: Smirnov, Table for Estimating the Goodness of Fit of Empirical
    Distributions, Annals of Mathematical Statistics 19(2), 1948.
    """
    return tail(distance * sqrt(size * other_size / (size + other_size)))


def tail(x: float) -> float:
    """The probability that Kolmogorov's limiting distribution exceeds ``x``."""
    if x <= 0.0:
        return 1.0
    if x < SMALL:
        total = 0.0
        for k in range(1, TERMS_MAX):
            term = exp(-((2 * k - 1) ** 2) * pi * pi / (8.0 * x * x))
            total += term
            if term < 1e-17:
                break
        return 1.0 - sqrt(2.0 * pi) / x * total
    total = 0.0
    for k in range(1, TERMS_MAX):
        term = exp(-2.0 * k * k * x * x)
        total += term if k % 2 else -term
        if term < 1e-17:
            break
    return 2.0 * total
