"""The chance that a pool loses data within a time: paths of the whole site, from each strike a branch that is aimed.

A path is simulated as it comes. At each strike on it a branch estimates the chance that the first loss of data goes
back to that strike; the sum of these over the strikes before the first loss is an unbiased sample of the chance of
loss. Only a branch is weighted, never a whole path, so weights do not multiply up over a year.
"""

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
COPIES_MAX = 30.0
"""Not more branches than this start after one strike."""
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


class _Sums:
    """What is gathered over paths: sums for the figure, and by family for where to spend samples."""

    def __init__(self, families: int) -> None:
        self.curve = np.zeros(BINS)
        self.paths = self.lost = self.strikes = self.branches = 0
        self.total = self.squares = self.weights = self.weights_squared = 0.0
        self.family_squares = np.zeros(families)
        self.family_branches = np.zeros(families)

    def estimate(self) -> Estimate:
        carried = self.weights * self.weights / self.weights_squared if self.weights_squared > 0.0 else 0.0
        return of_sums(self.total, self.squares, self.paths, "importance sampling", carried=carried)


def annual_loss(site: Site, hours: float = HOURS_A_YEAR, branches: int = 4_000, seed: int = 0) -> Loss:
    """Estimate the chance that the pool loses data within ``hours``.

    ``branches``: about how many aimed samples to spend. A fifth of them is a pilot that tells after which kind of
    strike they say most; it does not count for the figure. The same seed gives the same result.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, 0x1055]))
    rates = np.array([family.count * hours / mean_hours(family.life) for family in site.families])
    pilot = _run(site, hours, _shares(rates, np.ones(len(rates))), rates, branches / 5.0, rng)
    spread = np.sqrt(pilot.family_squares / np.maximum(pilot.family_branches, 1.0))
    found = _run(site, hours, _shares(rates, spread), rates, branches * 0.8, rng)
    return Loss(
        hours=hours,
        probability=found.estimate(),
        counted=of_counts(found.lost, found.paths),
        curve=np.cumsum(found.curve) / found.paths,
        strikes=found.strikes / found.paths,
        branches=found.branches + pilot.branches,
    )


def _shares(rates: npt.NDArray[np.float64], spread: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How many branches to start after a strike of each family: by the spread of what they say, none left out."""
    most = float(spread.max(initial=0.0))
    wanted = np.maximum(spread / most, 0.02) if most > 0.0 else np.ones(len(rates))
    scale = min(1.0, BRANCHES_A_PATH / max(float(rates @ wanted), 1e-9))
    least = float(rates.sum()) / max(float(rates @ wanted), 1e-9)  # as many in all as one after each strike
    return np.asarray(wanted * min(least, COPIES_MAX) if scale >= 1.0 else wanted * scale)


def _run(
    site: Site,
    hours: float,
    shares: npt.NDArray[np.float64],
    rates: npt.NDArray[np.float64],
    branches: float,
    rng: np.random.Generator,
) -> _Sums:
    sums = _Sums(len(rates))
    paths = int(min(max(branches / max(float(rates @ shares), 1e-9), PATHS_MIN), PATHS_MAX))
    for _ in range(paths):
        gained, ended = _path(site, hours, shares, rng, sums)
        sums.total += gained
        sums.squares += gained * gained
        sums.lost += ended
        sums.paths += 1
    return sums


def _path(
    site: Site, hours: float, shares: npt.NDArray[np.float64], rng: np.random.Generator, sums: _Sums
) -> tuple[float, bool]:
    """Simulate one path. Returns a sample of the chance of loss, and whether the path itself lost data."""
    state = begin(site, rng)
    gained = 0.0
    for strike in range(1, STRIKES_MAX):
        clock = int(state.dues.argmin())
        now = float(state.dues[clock])
        if now >= hours:
            return gained, False
        state.recover(now)
        sums.strikes += 1
        family = site.family_number(clock)
        share = float(shares[family])
        copies = int(share) + int(rng.random() < share - int(share))
        for _ in range(copies):
            weight, at = goes_back(site, state, strike, clock, now, hours, rng)
            sums.branches += 1
            sums.family_branches[family] += 1
            sums.family_squares[family] += weight * weight
            weight /= share
            gained += weight
            sums.weights += weight
            sums.weights_squared += weight * weight
            sums.curve[min(BINS - 1, int(at / hours * BINS))] += weight
        if _strike(site, state, clock, strike, now, rng):
            return gained, True
    raise AssertionError(f"more than {STRIKES_MAX} strikes in {hours} hours")


def counted_loss(site: Site, hours: float, paths: int, seed: int = 0) -> Estimate:
    """Count losses on plain paths: the brute force that importance sampling is compared with."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 0xB1]))
    nothing = np.zeros(len(site.families))
    sums = _Sums(len(site.families))
    return of_counts(sum(_path(site, hours, nothing, rng, sums)[1] for _ in range(paths)), paths)


def _strike(site: Site, state: State, clock: int, strike: int, now: float, rng: np.random.Generator) -> bool:
    taken = as_it_comes(site, state, clock, rng)
    if clock >= site.layout.disks:
        state.restart(site, clock, now, rng)
    return state.take(site, taken, strike, now, rng) != 0
