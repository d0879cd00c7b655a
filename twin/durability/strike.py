"""Which disks a strike takes for good: as they come, or aimed at groups of shards and weighted for it."""

from itertools import combinations

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import special

from twin.durability.site import Index, Site, drawn
from twin.durability.state import State

Floats = npt.NDArray[np.float64]


class Reach(msgspec.Struct, frozen=True, eq=False):
    """How hard a strike may be. ``weights``: float64, shape (levels,), of sum 1.

    ``together``: float64, shape (levels, depths): the chance that 0, 1, 2 … given nodes of the place are all struck.
    ``numbers``: how many nodes a level strikes; None where it strikes each for itself.
    """

    nodes: Index
    weights: Floats
    together: Floats
    numbers: tuple[int, ...] | None


def as_it_comes(site: Site, state: State, clock: int, rng: np.random.Generator) -> Index:
    """Draw the disks that a strike takes: each one behind the clock with the family's chance, if it is not lost yet."""
    family = site.family_of(clock)
    behind = site.struck(clock, rng)
    behind = behind[state.is_fine(behind)]
    return behind if family.lost_ratio >= 1.0 else behind[rng.random(len(behind)) < family.lost_ratio]


def aimed(site: Site, state: State, clock: int, groups: Index | None, rng: np.random.Generator) -> tuple[Index, float]:
    """Draw the disks that a strike takes, often those that hurt a group. Returns them and the weight of the draw.

    A mixture, in equal parts: as they come; and for each number of shards up to those whose loss is fatal, a group (of
    ``groups``; None: any) is chosen and that many of its shards are taken in any case. The weight is the chance of the
    disks as they come over that under the mixture, so it never exceeds the number of parts.
    Source: multiple importance sampling with the balance heuristic: E. Veach, L. Guibas, SIGGRAPH 1995.
    """
    family = site.family_of(clock)
    ratio = family.lost_ratio
    if family.burst is None:
        behind = site.struck(clock, rng)
        if ratio >= 1.0:
            return behind[state.is_fine(behind)], 1.0
        nodes = np.unique(site.layout.node_of[behind]).astype(np.intp)
    else:
        nodes = site.place_of(family.burst, rng)
        behind = site.on_nodes(nodes)
    behind = behind[state.is_fine(behind)]
    candidates = site.groups_of(behind) if groups is None else groups
    exposed = np.zeros(site.layout.disks, dtype=bool)
    exposed[behind] = True
    shards = site.shards[candidates]
    within = exposed[shards] & (shards >= 0)
    held = within.sum(axis=1)
    need = np.maximum(site.spare[candidates] + 1 - state.missing(site, candidates), 1)
    reach = _reach(site, clock, nodes, int(np.minimum(held, need).max(initial=0)))
    sums = reach.weights @ reach.together
    deepest = int(np.flatnonzero(sums > 0.0).max())
    depth = int(rng.integers(0, deepest + 1)) if deepest else 0
    forced = np.empty(0, dtype=np.intp)
    if depth:
        rows = np.flatnonzero(held >= depth)
        row = int(rows[rng.integers(0, len(rows))])
        forced = rng.choice(shards[row][within[row]], depth, replace=False).astype(np.intp)
    level = drawn((reach.weights * reach.together[:, depth]).tolist(), rng)
    hit = _taken(site, reach, level, behind, forced, ratio, rng)
    if deepest == 0:
        return np.flatnonzero(hit), 1.0
    density = _densities(site, shards, within, hit, reach.together[level], sums, deepest, ratio)
    return np.flatnonzero(hit), (deepest + 1) / (1.0 + density)


def _reach(site: Site, clock: int, nodes: Index, deepest: int) -> Reach:
    """How hard a clock strikes in a place, for up to ``deepest`` nodes together."""
    burst = site.family_of(clock).burst
    depths = np.arange(deepest + 1)
    if burst is None:
        return Reach(nodes, np.ones(1), np.ones((1, deepest + 1)), (len(nodes),))
    levels = burst.ratios or burst.nodes
    weights = np.array([weight for _, weight in levels])
    weights = weights / weights.sum()
    if burst.ratios:
        chances = np.array([chance for chance, _ in burst.ratios])
        return Reach(nodes, weights, chances[:, None] ** depths, None)
    numbers = np.array([min(number, len(nodes)) for number, _ in burst.nodes])
    together = np.ones((len(numbers), deepest + 1))
    for depth in range(1, deepest + 1):
        left = max(len(nodes) - depth + 1, 1)
        together[:, depth] = together[:, depth - 1] * np.maximum(numbers - depth + 1, 0) / left
    return Reach(nodes, weights, together, tuple(numbers.tolist()))


def _taken(
    site: Site, reach: Reach, level: int, behind: Index, forced: Index, ratio: float, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Draw nodes and then disks, with the forced ones among them: bool, shape (disks,)."""
    struck = np.zeros(site.layout.nodes, dtype=bool)
    own = np.unique(site.layout.node_of[forced])
    struck[own] = True
    if reach.numbers is None:
        chance = float(reach.together[level, 1]) if reach.together.shape[1] > 1 else 0.0
        struck[reach.nodes[rng.random(len(reach.nodes)) < chance]] = True
    else:
        rest = reach.nodes[~struck[reach.nodes]]
        struck[rng.choice(rest, max(0, min(reach.numbers[level] - len(own), len(rest))), replace=False)] = True
    hit = np.zeros(site.layout.disks, dtype=bool)
    alive = behind[struck[site.layout.node_of[behind]]]
    hit[alive[rng.random(len(alive)) < ratio]] = True
    hit[forced] = True
    return hit


def _densities(
    site: Site,
    shards: npt.NDArray[np.int32],
    within: npt.NDArray[np.bool_],
    hit: npt.NDArray[np.bool_],
    together: Floats,
    sums: Floats,
    deepest: int,
    ratio: float,
) -> float:
    """Sum over the aimed parts of the mixture of their density relative to that of the disks as they come."""
    struck = hit[shards] & within
    count, held = struck.sum(axis=1), within.sum(axis=1)
    hurt = np.flatnonzero(count)
    crowded: dict[int, npt.NDArray[np.int32]] = {}
    if site.crowded:
        nodes = [site.layout.node_of[shards[row][struck[row]]] for row in hurt.tolist()]
        crowded = {row: on for row, on in zip(hurt.tolist(), nodes, strict=True) if len(set(on.tolist())) < len(on)}
    total = 0.0
    for depth in range(1, deepest + 1):
        ways = special.binom(count[hurt], depth)
        for index, row in enumerate(hurt.tolist() if crowded else ()):
            if row in crowded:  # shards that share a node are struck together more often than others
                ways[index] = sum(
                    together[depth] / together[len(set(group))] for group in combinations(crowded[row].tolist(), depth)
                )
        share = float((ways / np.maximum(special.binom(held[hurt], depth), 1.0)).sum()) / int((held >= depth).sum())
        total += share * ratio**-depth / sums[depth]
    return total
