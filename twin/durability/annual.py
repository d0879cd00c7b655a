"""The chance that a pool loses data within a time: paths of the whole site, and from each strike a branch that is aimed.

A path is simulated as it comes. At each strike on it a branch estimates the chance that the first loss of data goes back
to that strike; the sum of these over the strikes before the first loss is an unbiased sample of the chance of loss. Only
a branch is weighted, never a whole path, so weights do not multiply up over a year.
"""

import math

import msgspec
import numpy as np
import numpy.typing as npt

from twin.durability.branch import goes_back
from twin.durability.durations import mean_hours
from twin.durability.estimate import Estimate, of_counts, of_sums
from twin.durability.site import Site
from twin.durability.state import State, begin
from twin.durability.strike import as_it_comes

HOURS_A_YEAR = 8_766.0
PATHS_MIN, PATHS_MAX = 60, 50_000
BRANCHES_A_PATH = 60.0
STRIKES_MAX = 10_000_000
BINS = 40


class Loss(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What the simulation of a pool found.

    ``probability``: of data loss within ``hours``. ``counted``: the same, from the paths alone, without importance
    sampling. ``curve``: float64, shape (BINS,): the chance of loss until the end of each part of the time. ``strikes``:
    mean number of strikes on a path. ``branches``: how many were simulated.
    """

    hours: float
    probability: Estimate
    counted: Estimate
    curve: npt.NDArray[np.float64]
    strikes: float
    branches: int


def expected_strikes(site: Site, hours: float) -> float:
    """Return how many strikes a path of that length has, on average."""
    return sum(family.count * hours / mean_hours(family.life) for family in site.families)


def annual_loss(site: Site, hours: float = HOURS_A_YEAR, branches: int = 4_000, seed: int = 0) -> Loss:
    """Estimate the chance that the pool loses data within ``hours``.

    ``branches``: about how many aimed samples to spend. The same seed gives the same result.
    """
    strikes = expected_strikes(site, hours)
    thinned = min(1.0, BRANCHES_A_PATH / max(strikes, 1e-9))
    paths = int(min(max(branches / max(strikes * thinned, 1e-9), PATHS_MIN), PATHS_MAX))
    rng = np.random.Generator(np.random.Philox(key=[seed, 0x1055]))
    curve = np.zeros(BINS)
    total = squares = spent_total = spent_squares = 0.0
    lost = seen = done = 0
    for _ in range(paths):
        gained, number, ended, samples = _path(site, hours, thinned, rng, curve)
        total += gained
        squares += gained * gained
        lost += ended
        seen += number
        done += len(samples)
        spent_total += sum(samples)
        spent_squares += math.fsum(sample * sample for sample in samples)
    effective = spent_total * spent_total / spent_squares if spent_squares > 0.0 else 0.0
    return Loss(
        hours=hours,
        probability=of_sums(total, squares, paths, "importance sampling", carried=effective),
        counted=of_counts(lost, paths),
        curve=np.cumsum(curve) / paths,
        strikes=seen / paths,
        branches=done,
    )


def _path(
    site: Site, hours: float, thinned: float, rng: np.random.Generator, curve: npt.NDArray[np.float64]
) -> tuple[float, int, bool, list[float]]:
    """Simulate one path. Returns (sample of the chance of loss, strikes, whether it lost data, the branches' samples)."""
    state = begin(site, rng)
    gained, samples = 0.0, []
    for strike in range(1, STRIKES_MAX):
        clock = int(state.dues.argmin())
        now = float(state.dues[clock])
        if now >= hours:
            return gained, strike - 1, False, samples
        state.recover(now)
        if thinned >= 1.0 or rng.random() < thinned:
            weight, at = goes_back(site, state, strike, clock, now, hours, rng)
            samples.append(weight)
            gained += weight / thinned
            if weight:
                curve[min(BINS - 1, int(at / hours * BINS))] += weight / thinned
        if _strike(site, state, clock, strike, now, rng):
            return gained, strike, True, samples
    raise AssertionError(f"more than {STRIKES_MAX} strikes in {hours} hours")


def _strike(site: Site, state: State, clock: int, strike: int, now: float, rng: np.random.Generator) -> bool:
    taken = as_it_comes(site, state, clock, rng)
    if clock >= site.layout.disks:
        state.restart(site, clock, now, rng)
    return state.take(site, taken, strike, now, rng) != 0
