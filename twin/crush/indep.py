"""Choices of items below a bucket, each for its own position, in rounds: a failure leaves a hole, no other moves."""

import numpy as np

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
        if not (items == UNDEFINED).any():
            break
        for position in range(left):
            at = np.flatnonzero(items[:, position] == UNDEFINED)
            if len(at):
                zero = np.zeros(len(at), np.int64)
                base = zero + position
                item, r = _descend(lanes, lane[at], start[at], base, number, failed, type_id, zero)
                _keep(lanes, lane, at, item, r, items, leaves, position, number, type_id, tries if leaf else None)
    items[items == UNDEFINED] = NONE
    leaves[leaves == UNDEFINED] = NONE
    return items, leaves


def _keep(
    lanes: Lanes,
    lane: Indices,
    at: Indices,
    item: Items,
    r: Indices,
    items: Items,
    leaves: Items,
    position: int,
    number: int,
    type_id: int,
    tries: Tries | None,
) -> None:
    """Write the items of one position and round that are new, have a leaf (with ``tries``) and are not out."""
    hopeless = at[item == NONE]
    items[hopeless, position] = leaves[hopeless, position] = NONE
    fresh = np.flatnonzero((item < NONE - 1) & ~(items[at] == item[:, None]).any(axis=1))
    at, item, r = at[fresh], item[fresh], r[fresh]
    if tries is not None:
        below = np.flatnonzero(item < 0)
        device = item.copy()
        device[below] = _indep_leaf(
            lanes, lane[at[below]], -1 - item[below].astype(np.int64), r[below], position, number, tries
        )
        leaves[at, position] = device
        some = np.flatnonzero(device != NONE)
        at, item = at[some], item[some]
    if type_id == 0:
        usable = np.flatnonzero(~lanes.out(item, lane[at]))
        at, item = at[usable], item[usable]
    items[at, position] = item


def _indep_leaf(
    lanes: Lanes, lane: Indices, start: Indices, parent: Indices, position: int, number: int, tries: Tries
) -> Items:
    """Find a device below each bucket for one position; `NONE` if there is none. It may be taken elsewhere."""
    device = np.full(len(lane), UNDEFINED, np.int32)
    for failed in range(tries.leaf or 1):
        at = np.flatnonzero(device == UNDEFINED)
        if not len(at):
            break
        where = np.full(len(at), position, np.int64)
        item, _ = _descend(lanes, lane[at], start[at], parent[at] + position, number, failed, 0, where)
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
