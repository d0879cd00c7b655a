"""Choices below a bucket, for many inputs in lockstep: firstn and indep, with retries as Ceph makes them.

An input is a *lane*: all arrays are by lane, and a lane that has its item drops out while the others try again.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twin.crush.compile import ALGORITHMS, Compiled
from twin.crush.draw import Groups, Indices, Items, Space, draw, groups_of, permuted
from twin.crush.hashing import Words, hash2
from twin.crush.map import NONE

UNDEFINED = 0x7FFFFFFE
"""Not chosen yet: `CRUSH_ITEM_UNDEF`."""
UNIFORM = ALGORITHMS["uniform"]
KEPT = 8
"""How many attempts beyond the number of items asked for keep the first draw of each lane."""


@dataclass(frozen=True, kw_only=True)
class Tries:
    """What a rule's steps set: how often to try. ``leaf``: 0 means "not set"."""

    choose: int
    leaf: int
    local: int
    fallback: int
    vary_r: int
    stable: int


@dataclass(kw_only=True)
class Lanes:
    """A map and a stretch of inputs. ``x``: uint32, the inputs. ``weights``: int64, the devices' reweights, 16.16."""

    compiled: Compiled
    x: Words
    weights: NDArray[np.int64]
    choose_args: str | None
    space: Space = field(default_factory=Space)
    positions: int = 1
    always_in: bool = False

    def __post_init__(self) -> None:
        """Look up how many positions the choose_args tell apart, and whether any device can be out."""
        if self.choose_args is not None:
            self.positions = len(self.compiled.drawn[self.choose_args].weights)
        count = self.compiled.device_count
        self.always_in = len(self.weights) >= count and bool((self.weights[:count] >= 0x10000).all())

    def pick(self, bucket: Indices, lane: Indices, r: Indices, position: Indices) -> Items:
        """Choose an item of each bucket (none empty): int32. All arguments int64 of one shape (n,)."""
        if self.positions == 1 or not len(position):
            return self._pick(groups_of(self.compiled, self.choose_args, 0), bucket, lane, r)
        at, items = np.minimum(position, self.positions - 1), np.empty(len(bucket), np.int32)
        for one in range(self.positions):
            part = np.flatnonzero(at == one)
            if len(part):
                groups = groups_of(self.compiled, self.choose_args, one)
                items[part] = self._pick(groups, bucket[part], lane[part], r[part])
        return items

    def _pick(self, groups: Groups, bucket: Indices, lane: Indices, r: Indices) -> Items:
        group, slot, x, tried = groups.of[bucket], groups.slot[bucket], self.x[lane], r.astype(np.uint32)
        if not len(group) or group.min() == group.max():
            return draw(self.space, groups.groups[group[0]], slot, x, tried) if len(group) else bucket.astype(np.int32)
        items = np.empty(len(bucket), np.int32)
        for one in np.flatnonzero(np.bincount(group)).tolist():
            part = np.flatnonzero(group == one)
            items[part] = draw(self.space, groups.groups[one], slot[part], x[part], tried[part])
        return items

    def permute(self, bucket: Indices, lane: Indices, r: Indices) -> Items:
        """Choose by permutation, whatever the bucket's algorithm: the last resort of the oldest tunables."""
        ids = (-1 - bucket).astype(np.uint32)
        place = permuted(self.compiled.size[bucket], ids, self.x[lane], r.astype(np.uint32))
        return self.compiled.items[self.compiled.offset[bucket] + place]

    def types(self, items: Items) -> NDArray[np.int32]:
        """The types of items: 0 for a device. int32."""
        if not len(items) or items.max() < 0:
            return self.compiled.type_id[-1 - items.astype(np.int64)]
        if items.min() >= 0:
            return np.zeros(len(items), np.int32)
        return np.where(items < 0, self.compiled.type_id[np.maximum(-1 - items.astype(np.int64), 0)], 0)

    def out(self, items: Items, lane: Indices) -> NDArray[np.bool_]:
        """Whether each device is out for its lane: always with weight 0, never with 1, else by a hash of both."""
        if self.always_in or not len(items):
            return np.zeros(len(items), np.bool_)
        known = items < len(self.weights)
        weight = np.where(known, self.weights.take(items, mode="clip"), 0) if len(self.weights) else known.astype(int)
        out = weight == 0
        partly = np.flatnonzero((weight > 0) & (weight < 0x10000))
        drawn = hash2(self.x[lane[partly]], items[partly]) & np.uint32(0xFFFF)
        out[partly] = drawn >= weight[partly]
        return out


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


def _attempt(
    lanes: Lanes, one: Attempt, type_id: int, tries: Tries, leaves: Items | None
) -> tuple[Items, Items]:
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


def _draw(
    lanes: Lanes, one: Attempt, at: Indices, bucket: Indices, r: Indices, local: Indices, tries: Tries
) -> Items:
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


def _leaf(
    lanes: Lanes, one: Attempt, at: Indices, item: Items, r: Indices, tries: Tries, leaves: Items
) -> Items:
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
