"""The chance that k units, lost for good at the same moment, take data along: exact where small, else sampled."""

import math

import numpy as np
import numpy.typing as npt
from scipy import sparse

from twin.durability.estimate import Estimate, exact, of_counts, of_sums
from twin.durability.fatal import fatal_sets
from twin.durability.layout import Layout, Unit, Whole
from twin.table import Table

ENUMERATED_MAX = 22
"""Up to this many units every subset is looked at."""
PAIRS_MAX = 4_000_000
"""Up to this many (fatal set, one more unit) the next larger losses are counted exactly."""
BATCH = 512
SURE, SURE_TRIALS = 20.0, 2_000
"""Where so many fatal sets are expected among the lost, loss is nearly sure and few samples say so."""


def loss_of_k(
    layout: Layout, unit: Unit, ks: list[int], trials: int = 20_000, rng: np.random.Generator | None = None
) -> dict[int, Estimate]:
    """Return the chance of data loss for each number of units in ``ks``, lost together, each choice equally likely."""
    rng = rng if rng is not None else np.random.Generator(np.random.Philox(key=0))
    known = layout.unit_of(unit)
    units = np.unique(known[known >= 0])
    dense = np.full(int(units.max(initial=-1)) + 1, -1, dtype=np.int32)
    dense[units] = np.arange(len(units), dtype=np.int32)
    listed = fatal_sets(layout, unit)
    if listed is None:
        counted = sparse.csr_array(layout.incidence(unit)[:, units])
        return {k: _counted(counted, layout, k, trials, rng) for k in ks}
    sets = [dense[group] for group in listed]
    if not sets:
        return dict.fromkeys(ks, exact(0.0))
    if len(units) <= ENUMERATED_MAX:
        every = _enumerate(sets, len(units))
        return {k: exact(float(every[k])) if k <= len(units) else exact(1.0) for k in ks}
    return {k: _of_sets(sets, len(units), k, trials, rng) for k in ks}


def _enumerate(sets: list[Whole], units: int) -> npt.NDArray[np.float64]:
    """Share of losing subsets by size, from all 2^units of them: a subset loses if one with a unit less does."""
    fatal = np.zeros(1 << units, dtype=bool)
    for group in sets:
        fatal[(1 << group.astype(np.int64)).sum(axis=1)] = True
    for bit in range(units):
        halves = fatal.reshape(-1, 2, 1 << bit)
        halves[:, 1] |= halves[:, 0]
    sizes = np.bitwise_count(np.arange(1 << units, dtype=np.uint32))
    losing = np.bincount(sizes[fatal], minlength=units + 1)
    return np.asarray(losing / np.array([math.comb(units, k) for k in range(units + 1)]))


def _of_sets(sets: list[Whole], units: int, k: int, trials: int, rng: np.random.Generator) -> Estimate:
    smallest = sets[0].shape[1]
    if k < smallest:
        return exact(0.0)
    if k >= units:
        return exact(1.0)
    here = [group for group in sets if group.shape[1] <= k]
    if k == smallest:
        return exact(len(here[0]) / math.comb(units, k))
    if k == smallest + 1 and sum(map(len, here)) * units <= PAIRS_MAX and units**k < 2**62:
        return exact(_one_more(here, units, k) / math.comb(units, k))
    return _sampled(here, units, k, trials, rng)


def _one_more(sets: list[Whole], units: int, k: int) -> int:
    """Count the sets of ``k`` units that hold a fatal one, each counted once."""
    codes: list[npt.NDArray[np.int64]] = []
    powers = units ** np.arange(k, dtype=np.int64)
    for group in sets:
        whole = group.astype(np.int64)
        if group.shape[1] < k:
            extra = np.broadcast_to(np.arange(units, dtype=np.int64), (len(group), units))
            fresh = ~(whole[:, :, None] == extra[:, None, :]).any(axis=1)
            whole = np.concatenate([np.repeat(whole, fresh.sum(axis=1), axis=0), extra[fresh][:, None]], axis=1)
        codes.append(np.sort(whole, axis=1) @ powers)
    return len(np.unique(np.concatenate(codes)))


def _sampled(sets: list[Whole], units: int, k: int, trials: int, rng: np.random.Generator) -> Estimate:
    """Sample which units are gone: as they come where loss is likely, else by Karp and Luby.

    Theirs is the union of the events "this fatal set is gone", one of which is chosen first, so there is always a hit.
    Each sample counts 1 / (how many fatal sets are gone in it); the relative error does not grow as loss gets rare.
    Source: R. Karp, M. Luby, N. Madras: Monte-Carlo approximation algorithms for enumeration problems, J. Algorithms
    10, 1989.
    """
    chances = [math.comb(units - group.shape[1], k - group.shape[1]) / math.comb(units, k) for group in sets]
    sums = np.array([len(group) * chance for group, chance in zip(sets, chances, strict=True)])
    bound = float(sums.sum())
    ordered = [group[np.argsort(group[:, 0], kind="stable")] for group in sets]
    plain = bound > 1.0
    trials = min(trials, SURE_TRIALS) if bound > SURE else trials
    hits, total, squares = 0, 0.0, 0.0
    for start in range(0, trials, BATCH):
        number = min(BATCH, trials - start)
        order = rng.random((number, units), dtype=np.float32)
        if not plain:
            kind = rng.choice(len(sets), number, p=sums / bound)
            for which, group in enumerate(sets):
                rows = np.flatnonzero(kind == which)
                order[rows[:, None], group[rng.integers(0, len(group), len(rows))]] = -1.0
        picked = np.argpartition(order, k - 1, axis=1)[:, :k]
        held = sum((_held(group, units, picked) for group in ordered), np.zeros(number, dtype=np.int64))
        if plain:
            hits += int((held > 0).sum())
        else:
            share = bound / held
            total += float(share.sum())
            squares += float((share * share).sum())
    return of_counts(hits, trials) if plain else of_sums(total, squares, trials, "Karp and Luby")


def _held(group: Whole, units: int, picked: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """Count the sets of ``group`` (ordered by their first unit) inside each row of ``picked``: int64, shape (rows,)."""
    gone = np.zeros((len(picked), units), dtype=bool)
    gone[np.arange(len(picked))[:, None], picked] = True
    bounds = np.searchsorted(group[:, 0], np.arange(units + 1))
    flat = picked.ravel()
    counts = bounds[flat + 1] - bounds[flat]
    row = np.repeat(np.repeat(np.arange(len(picked)), picked.shape[1]), counts)
    skipped = np.repeat(np.cumsum(counts) - counts, counts)
    which = np.repeat(bounds[flat], counts) + np.arange(int(counts.sum())) - skipped
    whole = gone[row[:, None], group[which]].all(axis=1)
    return np.bincount(row[whole], minlength=len(picked))


def _counted(matrix: sparse.csr_array, layout: Layout, k: int, trials: int, rng: np.random.Generator) -> Estimate:
    """Count losses among random subsets, with the groups themselves instead of a list of fatal sets."""
    units = matrix.shape[1]
    if k >= units:
        return exact(1.0)
    spare = layout.tolerance - (layout.shards < 0).sum(axis=1)
    hits = 0
    for start in range(0, trials, BATCH):
        number = min(BATCH, trials - start)
        order = np.argpartition(rng.random((number, units)), k - 1, axis=1)[:, :k]
        gone = np.zeros((units, number), dtype=np.int32)
        gone[order, np.arange(number)[:, None]] = 1
        hits += int(((matrix @ gone) > spare[:, None]).any(axis=0).sum())
    return of_counts(hits, trials)


def loss_table(layout: Layout, trials: int = 20_000, seed: int = 0) -> Table:
    """Tabulate the chance of data loss for simultaneous losses of disks, nodes, PDUs and racks.

    Columns: unit, lost, units, probability (NaN where sampling did not converge), low, high, method.
    """
    rows: list[tuple[str, int, int, float, float, float, str]] = []
    for unit in ("disk", "node", "pdu", "rack"):
        count = layout.units(unit)
        ks = _ks(count)
        rng = np.random.Generator(np.random.Philox(key=[seed, len(rows)]))
        for k, found in loss_of_k(layout, unit, ks, trials, rng).items():
            value = math.nan if found.value is None else found.value
            rows.append((unit, k, count, value, found.low, found.high, found.method))
    names = ("unit", "lost", "units", "probability", "low", "high", "method")
    return Table({name: [row[index] for row in rows] for index, name in enumerate(names)}, title="Lost at once")


def _ks(units: int) -> list[int]:
    """Numbers of units worth asking for: all up to 6, then some up to a fifth of them."""
    first = list(range(1, min(units, 6) + 1))
    return sorted({*first, *(k for k in (8, 10, 15, 20, 30, 50, 100) if 6 < k <= max(8, units // 5) and k < units)})
