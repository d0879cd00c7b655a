"""Failures that come together: how many there are in a recording, how much of it is chance, how they lie in racks."""

import math
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

WINDOW_S = 120.0
"""Source: D. Ford et al.: Availability in Globally Distributed Storage Systems, OSDI 2010, section 4."""

_REDRAWS_MAX = 1_000
"""At most a third of the rows is drawn again each time, since bursts are small here."""

Ints = npt.NDArray[np.int64]


class Burst(msgspec.Struct, frozen=True, eq=False):
    """Failures each within the window of the next. ``nodes``: int64 array, the different nodes, ascending."""

    first: int
    failures: int
    nodes: Ints


class BurstShares(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a recording happens in bursts; the shares are of failures, in [0, 1].

    ``bursts`` counts those of one failure too. ``largest``: the most different nodes of one.
    """

    failures: int
    bursts: int
    share_two_or_more: float
    share_ten_or_more: float
    largest: int


def find_bursts(start_ms: Ints, node: Ints, window_s: float = WINDOW_S) -> list[Burst]:
    """Divide failures into bursts: maximal sequences in which each starts within the window after the one before.

    ``start_ms`` and ``node``: int64 arrays, one entry a failure, in any order. O(n log n).
    Source: Ford et al., OSDI 2010, section 4.
    """
    order = np.lexsort((node, start_ms))
    times, nodes = start_ms[order], node[order]
    cuts = np.flatnonzero(np.diff(times) > window_s * 1_000.0) + 1
    edges = [0, *cuts.tolist(), len(times)]
    return [
        Burst(int(times[low]), high - low, np.unique(nodes[low:high])) for low, high in pairwise(edges) if high > low
    ]


def burst_shares(start_ms: Ints, node: Ints, window_s: float = WINDOW_S) -> BurstShares:
    """Count which share of the failures lies in bursts that touch two or more, and ten or more, different nodes."""
    order = np.lexsort((node, start_ms))
    times, nodes = start_ms[order], node[order]
    if not len(times):
        return BurstShares(failures=0, bursts=0, share_two_or_more=0.0, share_ten_or_more=0.0, largest=0)
    number = np.concatenate([[0], np.cumsum(np.diff(times) > window_s * 1_000.0)])
    pairs = np.unique(np.stack([number, nodes]), axis=1)[0]
    sizes, failures = np.bincount(pairs), np.bincount(number)
    return BurstShares(
        failures=len(times),
        bursts=len(sizes),
        share_two_or_more=float(failures[sizes >= 2].sum() / len(times)),
        share_ten_or_more=float(failures[sizes >= 10].sum() / len(times)),
        largest=int(sizes.max()),
    )


def chance_of_false_burst(nodes: int, mttf_h: float, window_s: float = WINDOW_S) -> float:
    """How likely a failure has another within the window by pure chance, if nodes fail independently.

    All failures together are nearly a Poisson process then: 1 - exp(-2 x window x nodes / mttf).
    """
    return -math.expm1(-2.0 * window_s * nodes / (mttf_h * 3_600.0))


def rack_affinity(burst: Ints, rack_of: Ints, draws: int = 10_000, seed: int = 1) -> float:
    """How much a burst keeps to racks: 0.5 like chance, near 1 all in one rack, near 0 spread on purpose.

    ``burst``: int64 array of different nodes; ``rack_of``: int64 array, the rack of every node of the site. The score
    of a burst is the number of pairs within one rack, sum of k(k - 1)/2; the affinity is the chance that as many nodes
    at random score less, plus half the chance that they score the same. ``draws`` random bursts estimate it.

    Source: Ford et al., OSDI 2010, section 4.3.
    """
    racks = int(rack_of.max()) + 1
    sizes = np.bincount(rack_of, minlength=racks)
    own = _pairs(np.bincount(rack_of[burst], minlength=racks))
    generator = np.random.Generator(np.random.Philox(key=seed))
    if len(burst) ** 2 > len(rack_of):
        scores = _pairs(generator.multivariate_hypergeometric(sizes, len(burst), size=draws))
    else:
        racked = rack_of[_distinct(generator, len(rack_of), len(burst), draws)]
        flat = racked + np.arange(draws)[:, None] * racks
        scores = _pairs(np.bincount(flat.ravel(), minlength=draws * racks).reshape(draws, racks))
    return float(np.mean(scores < own) + np.mean(scores == own) / 2.0)


def _distinct(generator: np.random.Generator, nodes: int, count: int, draws: int) -> Ints:
    """Choose ``count`` different nodes so many times: whole rows with a node twice are drawn again. (draws, count)."""
    chosen = generator.integers(0, nodes, size=(draws, count))
    for _ in range(_REDRAWS_MAX):
        ordered = np.sort(chosen, axis=1)
        again = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
        if not len(again):
            break
        chosen[again] = generator.integers(0, nodes, size=(len(again), count))
    return chosen


def _pairs(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.asarray((counts * (counts - 1) // 2).sum(axis=-1))
