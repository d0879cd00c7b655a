"""The CRUSH rules as machine code: numba compiles this file, and no other imports numba.

It maps what real maps of the last years hold: straw2 buckets and no local retries; ``twin.crush.compiled`` asks before.

Source: ``crush_do_rule``, ``crush_choose_firstn``, ``crush_choose_indep`` and ``bucket_straw2_choose`` of Ceph 16.2.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

LANES = 16
"""Buckets are padded to a multiple of this many items, so that every pass of a draw is whole vectors."""
TAKE, FIRSTN, INDEP, EMIT = 0, 1, 2, 3
"""The kinds of a compiled step."""
_NONE = 0x7FFFFFFF
_OPEN = 0x7FFFFFFE
_ONE = 0x10000
_SEED = np.uint32(1315423911)
_X, _Y = np.uint32(231232), np.uint32(1232)
_NO_KEY = np.uint64(0xFFFFFFFFFFFFFFFF)
_QUOTIENT_MAX = float((1 << 48) - 1)


class Tables(NamedTuple):
    """One map, padded, for one choose_args.

    Per bucket: ``start`` and ``count`` int64 (items, whole lanes), ``size`` int64 (items in earnest), ``kind`` int32.
    Per padded item: ``items`` int32; ``ids`` uint32, what is hashed; ``weights`` float64, shape (positions, items),
    16.16. ``ranks``: float64, shape (65536,): 2^48 - crush_ln(u). ``reweights``: int64, by device id.
    ``device_count``: devices from here on do not exist.
    """

    start: NDArray[np.int64]
    count: NDArray[np.int64]
    size: NDArray[np.int64]
    kind: NDArray[np.int32]
    items: NDArray[np.int32]
    ids: NDArray[np.uint32]
    weights: NDArray[np.float64]
    ranks: NDArray[np.float64]
    reweights: NDArray[np.int64]
    device_count: int


class Notes(NamedTuple):
    """What a mapping looked at. ``draws``: int32, shape (capacity, 4): input, bucket index, r, place of the winner.

    ``tests``: int32, shape (capacity, 2): input, device whose reweight was asked. ``used``: int64, how many rows of
    each are filled; beyond the capacity they are counted and not kept. ``wanted``: whether to note anything.
    """

    draws: NDArray[np.int32]
    tests: NDArray[np.int32]
    used: NDArray[np.int64]
    wanted: bool


class Space(NamedTuple):
    """Room to work in: ``hashes`` uint32 and ``quotients`` float64, as long as the largest bucket; four int32 rows."""

    hashes: NDArray[np.uint32]
    quotients: NDArray[np.float64]
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    leaves: NDArray[np.int32]


def _jit(function: Any) -> Any:
    """Compile, and keep the machine code on disk where there is a folder for it."""
    try:
        return numba.njit(cache=True, error_model="numpy", boundscheck=False)(function)
    except RuntimeError:
        return numba.njit(error_model="numpy", boundscheck=False)(function)


_word = np.uint32
"""numba widens 32-bit arithmetic to 64 bits; each result is cut back to a word."""


@_jit
def _mix(a: Any, b: Any, c: Any) -> Any:
    a = _word(_word(a - b - c) ^ (c >> _word(13)))
    b = _word(_word(b - c - a) ^ _word(a << _word(8)))
    c = _word(_word(c - a - b) ^ (b >> _word(13)))
    a = _word(_word(a - b - c) ^ (c >> _word(12)))
    b = _word(_word(b - c - a) ^ _word(a << _word(16)))
    c = _word(_word(c - a - b) ^ (b >> _word(5)))
    a = _word(_word(a - b - c) ^ (c >> _word(3)))
    b = _word(_word(b - c - a) ^ _word(a << _word(10)))
    c = _word(_word(c - a - b) ^ (b >> _word(15)))
    return a, b, c


@_jit
def _hash2(a: Any, b: Any) -> Any:
    h = _word(_SEED ^ a ^ b)
    x, y = _X, _Y
    a, b, h = _mix(a, b, h)
    x, a, h = _mix(x, a, h)
    b, y, h = _mix(b, y, h)
    return h


@_jit
def _hash3(a: Any, b: Any, c: Any) -> Any:
    h = _word(_SEED ^ a ^ b ^ c)
    x, y = _X, _Y
    a, b, h = _mix(a, b, h)
    c, x, h = _mix(c, x, h)
    y, a, h = _mix(y, a, h)
    b, x, h = _mix(b, x, h)
    y, c, h = _mix(y, c, h)
    return h


@_jit
def _hash_all(x: Any, ids: Any, r: Any, out: Any) -> None:
    for i in range(ids.shape[0]):
        out[i] = _hash3(x, ids[i], r) & np.uint32(0xFFFF)


@_jit
def _weigh_all(hashes: Any, weights: Any, ranks: Any, out: Any) -> None:
    for i in range(weights.shape[0]):
        out[i] = np.floor(ranks[hashes[i]] / weights[i])


@_jit
def _straw2(tables: Any, space: Any, bucket: Any, x: Any, r: Any, position: Any) -> Any:
    """The place of the item that wins: the first one with the least quotient; all weights 0: the first one."""
    start, count = tables.start[bucket], tables.count[bucket]
    hashes, quotients = space.hashes[:count], space.quotients[:count]
    row = min(position, tables.weights.shape[0] - 1)
    _hash_all(x, tables.ids[start : start + count], np.uint32(r), hashes)
    _weigh_all(hashes, tables.weights[row, start : start + count], tables.ranks, quotients)
    best, place = np.inf, 0
    for i in range(tables.size[bucket]):
        if quotients[i] < best:
            best, place = quotients[i], i
    return place


@_jit
def _draw(tables: Any, space: Any, notes: Any, n: Any, bucket: Any, x: Any, r: Any, position: Any) -> Any:
    """Draw from a bucket and note it; the place of the winner, -1 from an empty bucket."""
    place = -1
    if tables.size[bucket] > 0:
        place = _straw2(tables, space, bucket, x, r, position)
    if notes.wanted:
        at = notes.used[0]
        if at < notes.draws.shape[0]:
            notes.draws[at, 0], notes.draws[at, 1], notes.draws[at, 2], notes.draws[at, 3] = n, bucket, r, place
        notes.used[0] = at + 1
    return place


@_jit
def _is_out(tables: Any, notes: Any, n: Any, x: Any, device: Any) -> Any:
    if notes.wanted:
        at = notes.used[1]
        if at < notes.tests.shape[0]:
            notes.tests[at, 0], notes.tests[at, 1] = n, device
        notes.used[1] = at + 1
    if device >= tables.reweights.shape[0]:
        return True
    weight = tables.reweights[device]
    if weight >= _ONE:
        return False
    return weight == 0 or np.int64(_hash2(x, np.uint32(device)) & np.uint32(0xFFFF)) >= weight


@_jit
def _descend(tables: Any, space: Any, notes: Any, n: Any, bucket: Any, kind: Any, x: Any, r: Any, position: Any) -> Any:
    """Draw downwards until an item of the kind: its id; ``_NONE`` if there can be none, ``_OPEN`` at an empty bucket."""
    for _ in range(tables.size.shape[0] + 1):
        place = _draw(tables, space, notes, n, bucket, x, r, position)
        if place < 0:
            return _OPEN
        item = tables.items[tables.start[bucket] + place]
        if item >= tables.device_count:
            return _NONE
        found = tables.kind[-1 - item] if item < 0 else 0
        if found == kind:
            return item
        if item >= 0:
            return _NONE
        bucket = -1 - item
    return _NONE


@_jit
def _has(row: Any, low: Any, high: Any, item: Any) -> Any:
    for i in range(low, high):
        if row[i] == item:
            return True
    return False


@_jit
def _leaf_firstn(
    tables: Any, space: Any, notes: Any, n: Any, bucket: Any, x: Any, place: Any, r: Any, tries: Any, out: Any, base: Any
) -> Any:
    """Find a device under a chosen bucket that the replicas before have not got; whether there is one."""
    for failed in range(tries):
        item = _descend(tables, space, notes, n, bucket, 0, x, r + failed, place)
        if item == _NONE:
            return False
        if item == _OPEN or _has(out, base, base + place, item) or _is_out(tables, notes, n, x, item):
            continue
        out[base + place] = item
        return True
    return False


@_jit
def _firstn(tables: Any, space: Any, notes: Any, n: Any, x: Any, bucket: Any, step: Any, base: Any, room: Any) -> Any:
    """Choose up to ``step.num`` items into ``space.second[base:]``, their leaves beside them; how many there are."""
    num, kind, leaf, tries, leaf_tries, vary_r, stable = step[2], step[3], step[4], step[5], step[6], step[7], step[8]
    out, leaves, got = space.second, space.leaves, 0
    for rep in range(num):
        if got >= room:
            break
        for failed in range(tries):
            r = rep + failed
            item = _descend(tables, space, notes, n, bucket, kind, x, r, got)
            if item == _NONE:
                break
            if item == _OPEN or _has(out, base, base + got, item):
                continue
            if leaf and item < 0:
                leaf_r = (r >> (vary_r - 1) if vary_r else 0) + (0 if stable else got)
                if not _leaf_firstn(tables, space, notes, n, -1 - item, x, got, leaf_r, leaf_tries, leaves, base):
                    continue
            elif leaf:
                leaves[base + got] = item
            if kind == 0 and _is_out(tables, notes, n, x, item):
                continue
            out[base + got] = item
            got += 1
            break
    return got


@_jit
def _leaf_indep(
    tables: Any, space: Any, notes: Any, n: Any, bucket: Any, x: Any, place: Any, r: Any, num: Any, tries: Any
) -> Any:
    """Find a device under a chosen bucket: its id, or ``_NONE``."""
    for failed in range(tries):
        item = _descend(tables, space, notes, n, bucket, 0, x, place + r + num * failed, place)
        if item == _NONE:
            return _NONE
        if item != _OPEN and not _is_out(tables, notes, n, x, item):
            return item
    return _NONE


@_jit
def _indep(tables: Any, space: Any, notes: Any, n: Any, x: Any, bucket: Any, step: Any, base: Any, size: Any) -> None:
    """Choose ``size`` items into ``space.second[base:]``, each at its place, and their leaves beside them."""
    num, kind, leaf, tries, leaf_tries = step[2], step[3], step[4], step[5], step[6]
    out, leaves, left = space.second, space.leaves, size
    for i in range(base, base + size):
        out[i] = leaves[i] = _OPEN
    for failed in range(tries):
        if left <= 0:
            break
        for rep in range(size):
            if out[base + rep] != _OPEN:
                continue
            r = rep + num * failed
            item = _descend(tables, space, notes, n, bucket, kind, x, r, 0)
            if item == _OPEN:
                continue
            if item == _NONE:
                out[base + rep] = leaves[base + rep] = _NONE
                left -= 1
                continue
            if _has(out, base, base + size, item):
                continue
            if leaf and item < 0:
                found = _leaf_indep(tables, space, notes, n, -1 - item, x, rep, r, num, leaf_tries)
                leaves[base + rep] = found
                if found == _NONE:
                    continue
            elif leaf:
                leaves[base + rep] = item
            if kind == 0 and _is_out(tables, notes, n, x, item):
                continue
            out[base + rep] = item
            left -= 1
    for i in range(base, base + size):
        out[i] = _NONE if out[i] == _OPEN else out[i]
        leaves[i] = _NONE if leaves[i] == _OPEN else leaves[i]


@_jit
def _choose(tables: Any, space: Any, notes: Any, n: Any, x: Any, step: Any, count: Any, most: Any) -> Any:
    """Run a choose step over the ``count`` items in ``space.first``; how many are there after it."""
    got = 0
    for i in range(count):
        bucket = -1 - space.first[i]
        if bucket < 0 or bucket >= tables.size.shape[0] or step[2] <= 0:
            continue
        if step[0] == FIRSTN:
            got += _firstn(tables, space, notes, n, x, bucket, step, got, most - got)
        else:
            size = min(step[2], most - got)
            _indep(tables, space, notes, n, x, bucket, step, got, size)
            got += size
    for i in range(got):
        space.first[i] = space.leaves[i] if step[4] else space.second[i]
    return got


@_jit
def map_all(tables: Any, steps: Any, xs: Any, space: Any, notes: Any, out: Any, lengths: Any) -> None:
    """Map every input through the steps.

    ``steps``: int64, shape (steps, 9): kind, item to take, number, type, whether down to a leaf, tries, tries for the
    leaf, vary_r, stable. ``xs``: uint32, shape (inputs,). ``out``: int32, shape (inputs, replicas), filled with NONE
    before; ``lengths``: int64, shape (inputs,): how many each has got, holes included.
    """
    most = out.shape[1]
    for n in range(xs.shape[0]):
        count, length = 0, 0
        for s in range(steps.shape[0]):
            step = steps[s]
            if step[0] == TAKE:
                space.first[0] = step[1]
                count = 1
            elif step[0] == EMIT:
                for i in range(min(count, most - length)):
                    out[n, length] = space.first[i]
                    length += 1
                count = 0
            elif count > 0:
                count = _choose(tables, space, notes, n, xs[n], step, count, most)
        lengths[n] = length
