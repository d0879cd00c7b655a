"""The smallest sets of units whose loss takes data along, from where the shards of a pool really are."""

from itertools import combinations

import numpy as np

from twin.durability.layout import Layout, Unit, Whole, unique_rows

SETS_MAX = 3_000_000
"""With more candidates than this, sets are not listed and loss is sampled from the groups themselves."""


def fatal_sets(layout: Layout, unit: Unit) -> list[Whole] | None:
    """Return the minimal fatal sets of units, by size: arrays int32, shape (sets, units in a set), rows sorted.

    None if there are more than ``SETS_MAX`` candidates. A group that has already lost too many shards is not counted.
    Cost: C(size, tolerance + 1) candidates for each distinct placement.
    """
    known = layout.unit_of(unit)
    on = np.where(layout.shards >= 0, known[layout.shards], -1)
    missing = (layout.shards < 0).sum(axis=1)
    found: dict[int, list[Whole]] = {}
    budget = SETS_MAX
    for holes in np.unique(missing[missing <= layout.tolerance]).tolist():
        rows = unique_rows(np.sort(on[missing == holes], axis=1).astype(np.int32))
        need = layout.tolerance + 1 - holes
        rows = rows[:, holes:]  # sorted: the holes, and units that cannot fail, come first
        plain = (rows[:, 0] >= 0) & (np.diff(rows, axis=1) > 0).all(axis=1)
        picks = np.array(list(combinations(range(rows.shape[1]), need)), dtype=np.intp)
        budget -= int(plain.sum()) * len(picks)
        if budget < 0:
            return None
        found.setdefault(need, []).append(rows[plain][:, picks].reshape(-1, need))
        for row in rows[~plain].tolist():
            for group in _minimal(row, need):
                found.setdefault(len(group), []).append(np.array([group], dtype=np.int32))
    by_size = {size: unique_rows(np.concatenate(parts).astype(np.int32)) for size, parts in found.items()}
    return _without_supersets([by_size[size] for size in sorted(by_size) if len(by_size[size])])


def _minimal(row: list[int], need: int) -> list[tuple[int, ...]]:
    """List the minimal sets of units that hold ``need`` shards of one group; some units hold several."""
    held: dict[int, int] = {}
    for unit in row:
        if unit >= 0:
            held[unit] = held.get(unit, 0) + 1
    found: list[tuple[int, ...]] = []
    for size in range(1, min(need, len(held)) + 1):
        for group in combinations(sorted(held), size):
            if sum(held[unit] for unit in group) >= need and not any(set(less) <= set(group) for less in found):
                found.append(group)
    return found


def _without_supersets(by_size: list[Whole]) -> list[Whole]:
    """Drop the sets that contain a smaller fatal set."""
    kept: list[Whole] = []
    smaller: dict[tuple[int, ...], None] = {}
    for order, sets in enumerate(by_size):
        if smaller:
            sizes = sorted({len(less) for less in smaller})
            good = [
                not any(less in smaller for size in sizes for less in combinations(row, size)) for row in sets.tolist()
            ]
            sets = sets[np.array(good, dtype=bool)]
        if len(sets):
            kept.append(sets)
        if order + 1 < len(by_size):
            smaller.update(dict.fromkeys(map(tuple, sets.tolist())))
    return kept
