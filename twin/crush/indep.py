"""Choices of items below a bucket, each for its own position, in rounds: a failure leaves a hole, no other moves."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin.crush.compile import ALGORITHMS
from twin.crush.draw import Indices, Items
from twin.crush.lanes import UNDEFINED, Lanes, Tries
from twin.crush.map import NONE

UNIFORM = ALGORITHMS["uniform"]


def choose_indep(
    lanes: Lanes,
    lane: Indices,
    start: Indices,
    number: int,
    left: int,
    type_id: int,
    leaf: bool,
    tries: Tries,
) -> tuple[Items, Items]:
    """Choose ``left`` items of a type below each lane's bucket, each for its own position; holes are `NONE`.

    ``number`` is how far apart the attempts of one position are. Returns items and leaves, int32, shape (n, left).

    Source: `crush_choose_indep` of Ceph 16.2 (behaviour).
    """
    items = np.full((len(lane), left), UNDEFINED, np.int32)
    leaves = items.copy() if leaf else items
    for failed in range(tries.choose):
        row, position = np.nonzero(items == UNDEFINED)
        if not len(row):
            break
        tried = _tried(lanes, lane[row], start[row], position, number, failed, type_id, tries if leaf else None)
        for one in range(left):
            _keep(tried, row, np.flatnonzero(position == one), one, items, leaves)
    items[items == UNDEFINED] = NONE
    leaves[leaves == UNDEFINED] = NONE
    return items, leaves


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """One round's items for all open positions, whatever the others take: int32 and bool, shape (open,).

    ``item``: `UNDEFINED` if an empty bucket was met, `NONE` if a device of no use. ``device``: the one under it, `NONE`
    if there is none. ``out``: the item is a device that is out.
    """

    item: Items
    device: Items
    out: NDArray[np.bool_]


def _tried(
    lanes: Lanes,
    lane: Indices,
    start: Indices,
    position: Indices,
    number: int,
    failed: int,
    type_id: int,
    tries: Tries | None,
) -> _Tried:
    """Draw for all open positions at once: no draw depends on another, only what is kept does."""
    item, r = _descend(lanes, lane, start, position, number, failed, type_id, np.zeros_like(position))
    device = item.copy()
    if tries is not None:
        below = np.flatnonzero(item < 0)
        inner = -1 - item[below].astype(np.int64)
        device[below] = _indep_leaf(lanes, lane[below], inner, r[below], position[below], number, tries)
    out = np.zeros(len(item), np.bool_)
    if type_id == 0:
        usable = np.flatnonzero(item < UNDEFINED)
        out[usable] = lanes.out(item[usable], lane[usable])
    return _Tried(item=item, device=device, out=out)


def _keep(tried: _Tried, row: Indices, some: Indices, position: int, items: Items, leaves: Items) -> None:
    """Write one position's items of a round that no other position has, with a device below, and not out."""
    hopeless = row[some[tried.item[some] == NONE]]
    items[hopeless, position] = leaves[hopeless, position] = NONE
    some = some[tried.item[some] < UNDEFINED]
    at, item = row[some], tried.item[some]
    taken = np.zeros(len(at), np.bool_)
    for other in range(items.shape[1]):
        taken |= items[at, other] == item
    some = some[~taken]
    leaves[row[some], position] = np.where(leaves is items, UNDEFINED, tried.device[some])
    some = some[(tried.device[some] != NONE) & ~tried.out[some]]
    items[row[some], position] = tried.item[some]


def _indep_leaf(
    lanes: Lanes, lane: Indices, start: Indices, parent: Indices, position: Indices, number: int, tries: Tries
) -> Items:
    """Find a device below each bucket for a position; `NONE` if there is none. It may be taken elsewhere."""
    device = np.full(len(lane), UNDEFINED, np.int32)
    for failed in range(tries.leaf or 1):
        at = np.flatnonzero(device == UNDEFINED)
        if not len(at):
            break
        where = position[at]
        item, _ = _descend(lanes, lane[at], start[at], parent[at] + where, number, failed, 0, where)
        out = (item < NONE - 1) & lanes.out(np.maximum(item, 0), lane[at])
        device[at] = np.where(out, UNDEFINED, item)
    device[device == UNDEFINED] = NONE
    return device


def _descend(
    lanes: Lanes,
    lane: Indices,
    start: Indices,
    base: Indices,
    number: int,
    failed: int,
    type_id: int,
    position: Indices,
) -> tuple[Items, Indices]:
    """Go down to an item of a type: `UNDEFINED` if an empty bucket was met, `NONE` if a device of no use.

    Also returns the r of the last draw: uniform buckets whose size is a multiple of ``number`` are tried further apart.
    """
    size, alg = lanes.compiled.size, lanes.compiled.alg
    found, tried = np.full(len(lane), UNDEFINED, np.int32), base.copy()
    at, bucket = np.arange(len(lane)), start
    while len(at):
        filled = np.flatnonzero(size[bucket] > 0)
        if len(filled) < len(at):
            at, bucket = at[filled], bucket[filled]
        apart = (alg[bucket] == UNIFORM) & (size[bucket] % number == 0)
        r = base[at] + (number + apart) * failed
        item = lanes.pick(bucket, lane[at], r, position[at])
        tried[at] = r
        match = lanes.types(item) == type_id
        found[at] = np.where(match, item, np.where(item >= 0, NONE, UNDEFINED))
        deeper = np.flatnonzero(~match & (item < 0))
        at, bucket = at[deeper], -1 - item[deeper].astype(np.int64)
    return found, tried
