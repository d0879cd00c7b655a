"""Choices of several different items below a bucket, one after the other, with retries as Ceph makes them.

A lane that has its item drops out while the others try again.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin.crush.draw import Indices, Items
from twin.crush.lanes import UNDEFINED, Lanes, Tries

KEPT = 8
"""How many attempts beyond the number of items asked for keep the first draw of each lane."""


@dataclass(kw_only=True)
class Attempt:
    """One position of a firstn choice, for some lanes: where to start, what attempt, and what has been taken.

    ``start``: bucket index. ``base``: r of the first attempt. ``position``: how many items the lane has. ``taken``: its
    items, int32, shape (n, width), unused ones `UNDEFINED`. ``roots``: kept draws from the start, shape (attempts, n),
    and ``first``: those of the first attempt.
    """

    lane: Indices
    start: Indices
    base: Indices
    position: Indices
    taken: Items
    tries: int
    roots: Items | None = None
    first: Items | None = None


def choose_firstn(
    lanes: Lanes, lane: Indices, start: Indices, number: int, type_id: int, leaf: bool, tries: Tries, room: Indices
) -> tuple[Items, Items, Indices]:
    """Choose ``number`` different items of a type below each lane's bucket, and a device under each if ``leaf``.

    ``room``: how many items each lane may still hold. Returns items and leaves, int32, shape (n, number), and how many
    of them each lane got, int64: a position that cannot be filled is left out, and the next takes its place.

    Source: `crush_choose_firstn` of Ceph 16.2 (behaviour).
    """
    items = np.full((len(lane), number), UNDEFINED, np.int32)
    leaves = items.copy() if leaf else items
    count = np.zeros(len(lane), np.int64)
    roots = _roots(lanes, lane, start, number)
    for replica in range(number):
        active = np.flatnonzero(count < room)
        whole = len(active) == len(lane)
        attempt = Attempt(
            lane=lane if whole else lane[active],
            start=start if whole else start[active],
            base=np.full(len(active), replica, np.int64),
            position=count[active],
            taken=items[active, :replica],
            tries=tries.choose,
            roots=None if roots is None else roots if whole else roots[:, active],
            first=None if roots is None else roots[replica] if whole else roots[replica, active],
        )
        item, device = _attempt(lanes, attempt, type_id, tries, leaves[active, :replica] if leaf else None)
        got = np.flatnonzero(item != UNDEFINED)
        where = active[got]
        items[where, count[where]] = item[got]
        if leaf:
            leaves[where, count[where]] = device[got]
        count[where] += 1
    return items, leaves, count


def _roots(lanes: Lanes, lane: Indices, start: Indices, number: int) -> Items | None:
    """Keep the draws from the first bucket: replica i's retry is replica i+1's first try.

    None if the draws depend on the position, or a start has no items.
    """
    if lanes.positions > 1 or not len(lane) or not lanes.compiled.size[start].all():
        return None
    roots = np.full((number + KEPT, len(lane)), UNDEFINED, np.int32)
    for replica in range(number):
        roots[replica] = lanes.pick(start, lane, np.full(len(lane), replica, np.int64), start)
    return roots


def _attempt(lanes: Lanes, one: Attempt, type_id: int, tries: Tries, leaves: Items | None) -> tuple[Items, Items]:
    """Find an item for one position of each lane, and a leaf below it if leaves are wanted; `UNDEFINED` if none."""
    size = lanes.compiled.size
    found = np.full(len(one.lane), UNDEFINED, np.int32)
    devices = found.copy()
    at, first = np.arange(len(one.lane)), one.first
    bucket, failed, local = one.start.copy(), np.zeros(len(at), np.int64), np.zeros(len(at), np.int64)
    while len(at):
        r = one.base[at] + failed
        item = _draw(lanes, one, at, bucket, r, local, tries) if first is None else first.copy()
        first = None
        kind = lanes.types(item)
        retry = item == UNDEFINED  # an empty bucket
        match = (kind == type_id) & ~retry
        deeper = ~match & (item < 0)
        if deeper.all():
            bucket = -1 - item.astype(np.int64)
            continue
        collided = np.zeros(len(at), np.bool_)
        here = np.flatnonzero(match)
        if len(here):
            collided[here] = _taken(one, at[here], item[here])
            fine, device = _accept(lanes, one, at, here[~collided[here]], item, r, type_id, tries, leaves)
            retry |= match
            retry[fine] = False
            found[at[fine]], devices[at[fine]] = item[fine], device
        bucket = np.where(deeper, -1 - item.astype(np.int64), bucket)
        failed += retry
        local += retry
        stay = retry & collided & (local <= tries.local)
        if tries.fallback > 0:
            stay |= retry & (local <= size[bucket] + tries.fallback)
        again = retry & ~stay & (failed < one.tries)
        bucket[again] = one.start[at[again]]
        local[again] = 0
        keep = np.flatnonzero(deeper | stay | again)
        if len(keep) < len(at):
            at, bucket, failed, local = at[keep], bucket[keep], failed[keep], local[keep]
    return found, devices


def _taken(one: Attempt, at: Indices, item: Items) -> NDArray[np.bool_]:
    """Whether each lane has its item already. A lane of n items has them in its first n columns."""
    taken = np.zeros(len(at), np.bool_)
    for column in range(one.taken.shape[1]):
        taken |= one.taken[at, column] == item
    return taken


def _draw(lanes: Lanes, one: Attempt, at: Indices, bucket: Indices, r: Indices, local: Indices, tries: Tries) -> Items:
    """Draw from each lane's bucket: kept draws first; `UNDEFINED` where the bucket is empty."""
    size, lane = lanes.compiled.size[bucket], one.lane[at]
    item = np.full(len(at), UNDEFINED, np.int32)
    todo = size > 0
    kept = np.zeros(0, np.int64)
    if tries.fallback > 0:
        last = np.flatnonzero(todo & (local >= size >> 1) & (local > tries.fallback))
        item[last] = lanes.permute(bucket[last], lane[last], r[last])
        todo[last] = False
    if one.roots is not None:
        kept = np.flatnonzero(todo & (bucket == one.start[at]) & (r < len(one.roots)))
        item[kept] = one.roots[r[kept], at[kept]]
        todo[kept] = item[kept] == UNDEFINED
    if todo.all():
        item = lanes.pick(bucket, lane, r, one.position[at])
    elif todo.any():
        new = np.flatnonzero(todo)
        item[new] = lanes.pick(bucket[new], lane[new], r[new], one.position[at[new]])
    if one.roots is not None and len(kept):
        one.roots[r[kept], at[kept]] = item[kept]
    return item


def _accept(
    lanes: Lanes,
    one: Attempt,
    at: Indices,
    here: Indices,
    item: Items,
    r: Indices,
    type_id: int,
    tries: Tries,
    leaves: Items | None,
) -> tuple[Indices, Items]:
    """Which lanes of ``here`` may keep their item, and their devices: one was found below it, and it is not out."""
    device = item[here]
    if leaves is not None:
        below = np.flatnonzero(device < 0)
        device[below] = _leaf(lanes, one, at[here[below]], item[here[below]], r[here[below]], tries, leaves)
    fine = device != UNDEFINED
    if type_id == 0:
        fine &= ~lanes.out(item[here], one.lane[at[here]])
    return here[fine], device[fine]


def _leaf(lanes: Lanes, one: Attempt, at: Indices, item: Items, r: Indices, tries: Tries, leaves: Items) -> Items:
    """Find a device below each item that none of the lane's items has yet; `UNDEFINED` if none."""
    parent = r >> (tries.vary_r - 1) if tries.vary_r else np.zeros(len(r), np.int64)
    own = np.zeros(len(at), np.int64) if tries.stable else one.position[at]
    once = lanes.compiled.crush.tunables.chooseleaf_descend_once
    attempt = Attempt(
        lane=one.lane[at],
        start=-1 - item.astype(np.int64),
        base=own + parent,
        position=one.position[at],
        taken=leaves[at],
        tries=tries.leaf or (1 if once else tries.choose),
    )
    return _attempt(lanes, attempt, 0, tries, None)[0]
