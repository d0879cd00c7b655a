"""Which disks a strike takes for good: as they come, or aimed at groups of shards and weighted for it."""

import numpy as np
import numpy.typing as npt
from scipy import special

from twin.durability.site import Index, Site
from twin.durability.state import State


def as_it_comes(site: Site, state: State, clock: int, rng: np.random.Generator) -> Index:
    """Draw the disks that a strike takes: each one behind the clock with the family's chance, if it is not lost yet."""
    family = site.family_of(clock)
    behind = site.struck(clock, rng)
    behind = behind[state.is_fine(behind)]
    return behind if family.lost_ratio >= 1.0 else behind[rng.random(len(behind)) < family.lost_ratio]


def aimed(
    site: Site, state: State, clock: int, groups: Index | None, rng: np.random.Generator
) -> tuple[Index, float]:
    """Draw the disks that a strike takes, often those that hurt a group. Returns them and the weight of the draw.

    A mixture, in equal parts: as they come; and for each number of shards up to those whose loss is fatal, a group (of
    ``groups``; None: any) is chosen and that many of its shards are taken in any case. The weight is the chance of the
    disks as they come over that under the mixture, so it never exceeds the number of parts.
    Source: multiple importance sampling with the balance heuristic: E. Veach, L. Guibas, SIGGRAPH 1995.
    """
    family = site.family_of(clock)
    behind = site.struck(clock, rng)
    behind = behind[state.is_fine(behind)]
    ratio = family.lost_ratio
    if ratio >= 1.0 or not len(behind):
        return behind, 1.0
    taken = rng.random(len(behind)) < ratio
    candidates = site.groups_of(behind) if groups is None else groups
    exposed = np.zeros(site.layout.disks, dtype=bool)
    exposed[behind] = True
    shards = site.shards[candidates]
    within = exposed[shards] & (shards >= 0)
    held = within.sum(axis=1)
    need = np.maximum(site.spare[candidates] + 1 - state.missing(site, candidates), 1)
    deepest = int(np.minimum(held, need).max(initial=0))
    if deepest == 0:
        return behind[taken], 1.0
    depth = int(rng.integers(0, deepest + 1))
    hit = np.zeros(site.layout.disks, dtype=bool)
    hit[behind[taken]] = True
    if depth:
        rows = np.flatnonzero(held >= depth)
        row = int(rows[rng.integers(0, len(rows))])
        own = shards[row][within[row]]
        hit[rng.choice(own, depth, replace=False)] = True
    count = (hit[shards] & within).sum(axis=1)
    return np.flatnonzero(hit), (deepest + 1) / (1.0 + _densities(count, held, deepest, ratio))


def _densities(
    count: npt.NDArray[np.int64], held: npt.NDArray[np.int64], deepest: int, ratio: float
) -> float:
    """Sum over the aimed parts of the mixture of their density relative to that of the disks as they come."""
    total = 0.0
    for depth in range(1, deepest + 1):
        rows = held >= depth
        ways = special.binom(count[rows], depth) / special.binom(held[rows], depth)
        total += float(ways.mean()) * ratio**-depth
    return total
