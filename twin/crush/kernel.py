"""The CRUSH rules as machine code: numba compiles this file, and no other imports numba.

It maps what real maps of the last years hold: straw2 buckets and no local retries; ``twin.crush.compiled`` asks before.

All functions take the same arrays one by one: a record of arrays, or a slice, costs more to pass than a draw takes.

Source: ``crush_do_rule``, ``crush_choose_firstn``, ``crush_choose_indep`` and ``bucket_straw2_choose`` of Ceph 16.2.
"""

from typing import Any

import numba
import numpy as np

LANES = 16
"""Buckets are padded to a multiple of this many items, so that every pass of a draw is whole vectors."""
TAKE, FIRSTN, INDEP, EMIT = 0, 1, 2, 3
"""The kinds of a compiled step."""
_NONE = 0x7FFFFFFF
_OPEN = 0x7FFFFFFE
_ONE = 0x10000
TEST = -1
"""Stands for the bucket in the note of a test."""
ITEM, HASHED = 0, 1
"""Rows of ``names``."""
START, COUNT, SIZE, KIND = 0, 1, 2, 3
"""Columns of ``buckets``: first item, items with padding, items in earnest, type."""
_SEED = np.uint32(1315423911)
_X, _Y = np.uint32(231232), np.uint32(1232)
_FIRST, _CHOSEN, _LEAVES = 0, 1, 2


def _jit(function: Any) -> Any:
    """Compile, and keep the machine code on disk where there is a folder for it."""
    try:
        return numba.njit(cache=True, error_model="numpy", boundscheck=False)(function)
    except RuntimeError:
        return numba.njit(error_model="numpy", boundscheck=False)(function)


def _inline(function: Any) -> Any:
    """Compile into its callers: a call in a loop would keep the loop from becoming vector instructions."""
    return numba.njit(inline="always", error_model="numpy")(function)


_word = np.uint32
"""numba widens 32-bit arithmetic to 64 bits; each result is cut back to a word."""


@_inline
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


@_inline
def _hash2(a: Any, b: Any) -> Any:
    h = _word(_SEED ^ a ^ b)
    x, y = _X, _Y
    a, b, h = _mix(a, b, h)
    x, a, h = _mix(x, a, h)
    b, y, h = _mix(b, y, h)
    return h


@_inline
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
def _straw2(
    buckets: Any, names: Any, weights: Any, logs: Any, hashes: Any, quotients: Any, keys: Any, b: Any, x: Any, r: Any, row: Any
) -> Any:
    """The place of the item that wins: the first one with the least quotient.

    Quotients are whole and not negative, so they are in the order of their bits; by weight 0 they are infinite.
    """
    start, count = buckets[b, START], buckets[b, COUNT]
    own, weighed = names[HASHED, start : start + count], weights[row, start : start + count]
    for i in range(count):
        hashes[i] = _hash3(x, _word(own[i]), r) & _word(0xFFFF)
    for i in range(count):
        quotients[i] = np.floor(logs[hashes[i]] / weighed[i])
    best = keys[0]
    for i in range(count):
        best = min(best, keys[i])
    place = 0
    while keys[place] != best:
        place += 1
    return place


@_inline
def _descend(
    buckets: Any, names: Any, weights: Any, logs: Any, reweights: Any, devices: Any, hashes: Any, quotients: Any, keys: Any, room: Any, notes: Any, used: Any, n: Any, b: Any, kind: Any, x: Any, r: Any, position: Any
) -> Any:
    """Draw downwards until an item of the kind: its id; ``_NONE`` if there can be none, ``_OPEN`` at an empty bucket."""
    row = min(position, weights.shape[0] - 1)
    for _ in range(buckets.shape[0] + 1):
        place = -1
        if buckets[b, SIZE] > 0:
            place = _straw2(buckets, names, weights, logs, hashes, quotients, keys, b, x, _word(r), row)
        if notes.shape[0] > 0:
            _note(notes, used, n, b, r, place)
        if place < 0:
            return _OPEN
        item = np.int64(names[ITEM, buckets[b, START] + place])
        if item >= devices:
            return _NONE
        found = buckets[-1 - item, KIND] if item < 0 else 0
        if found == kind:
            return item
        if item >= 0:
            return _NONE
        b = -1 - item
    return _NONE


@_inline
def _note(notes: Any, used: Any, n: Any, b: Any, r: Any, place: Any) -> None:
    """Keep a draw, or (bucket ``TEST``) the test of a device; beyond the room there is, only count it."""
    at = used[0]
    if at < notes.shape[0]:
        notes[at, 0], notes[at, 1], notes[at, 2], notes[at, 3] = n, b, r, place
    used[0] = at + 1


@_jit
def _is_out(reweights: Any, notes: Any, used: Any, n: Any, x: Any, device: Any) -> Any:
    if notes.shape[0] > 0:
        _note(notes, used, n, TEST, 0, device)
    if device >= reweights.shape[0]:
        return True
    weight = reweights[device]
    if weight >= _ONE:
        return False
    return weight == 0 or np.int64(_hash2(x, _word(device)) & _word(0xFFFF)) >= weight


@_inline
def _has(room: Any, row: Any, low: Any, high: Any, item: Any) -> Any:
    for i in range(low, high):
        if room[row, i] == item:
            return True
    return False


@_inline
def _leaf_firstn(
    buckets: Any, names: Any, weights: Any, logs: Any, reweights: Any, devices: Any, hashes: Any, quotients: Any, keys: Any, room: Any, notes: Any, used: Any, n: Any, b: Any, x: Any, r: Any, tries: Any, base: Any, got: Any
) -> Any:
    """Find a device under a chosen bucket that the replicas before have not got; whether there is one."""
    for failed in range(tries):
        item = _descend(buckets, names, weights, logs, reweights, devices, hashes, quotients, keys, room, notes, used, n, b, 0, x, r + failed, got)
        if item == _NONE:
            return False
        if item == _OPEN or _has(room, _LEAVES, base, base + got, item):
            continue
        if not _is_out(reweights, notes, used, n, x, item):
            room[_LEAVES, base + got] = item
            return True
    return False


@_inline
def _firstn(
    buckets: Any, names: Any, weights: Any, logs: Any, reweights: Any, devices: Any, hashes: Any, quotients: Any, keys: Any, room: Any, notes: Any, used: Any, n: Any, x: Any, b: Any, step: Any, base: Any, most: Any
) -> Any:
    """Choose up to as many items as the step says into the room from ``base`` on, leaves beside them; how many."""
    num, kind, leaf, tries, leaf_tries, vary_r, stable = step[2], step[3], step[4], step[5], step[6], step[7], step[8]
    got = 0
    for rep in range(num):
        if got >= most:
            break
        for failed in range(tries):
            r = rep + failed
            item = _descend(buckets, names, weights, logs, reweights, devices, hashes, quotients, keys, room, notes, used, n, b, kind, x, r, got)
            if item == _NONE:
                break
            if item == _OPEN or _has(room, _CHOSEN, base, base + got, item):
                continue
            if leaf and item < 0:
                leaf_r = (r >> (vary_r - 1) if vary_r else 0) + (0 if stable else got)
                if not _leaf_firstn(buckets, names, weights, logs, reweights, devices, hashes, quotients, keys, room, notes, used, n, -1 - item, x, leaf_r, leaf_tries, base, got):
                    continue
            elif leaf:
                room[_LEAVES, base + got] = item
            if kind == 0 and _is_out(reweights, notes, used, n, x, item):
                continue
            room[_CHOSEN, base + got] = item
            got += 1
            break
    return got


@_inline
def _leaf_indep(
    buckets: Any, names: Any, weights: Any, logs: Any, reweights: Any, devices: Any, hashes: Any, quotients: Any, keys: Any, room: Any, notes: Any, used: Any, n: Any, b: Any, x: Any, place: Any, r: Any, num: Any, tries: Any
) -> Any:
    """Find a device under a chosen bucket: its id, or ``_NONE``."""
    for failed in range(tries):
        item = _descend(buckets, names, weights, logs, reweights, devices, hashes, quotients, keys, room, notes, used, n, b, 0, x, place + r + num * failed, place)
        if item == _NONE:
            return _NONE
        if item != _OPEN and not _is_out(reweights, notes, used, n, x, item):
            return item
    return _NONE


@_inline
def _indep(
    buckets: Any, names: Any, weights: Any, logs: Any, reweights: Any, devices: Any, hashes: Any, quotients: Any, keys: Any, room: Any, notes: Any, used: Any, n: Any, x: Any, b: Any, step: Any, base: Any, size: Any
) -> None:
    """Choose ``size`` items into the room from ``base`` on, each at its place, and leaves beside them."""
    num, kind, leaf, tries, leaf_tries = step[2], step[3], step[4], step[5], step[6]
    left, end = size, base + size
    room[_CHOSEN, base:end] = _OPEN
    room[_LEAVES, base:end] = _OPEN
    for failed in range(tries):
        for rep in range(size if left > 0 else 0):
            if room[_CHOSEN, base + rep] != _OPEN:
                continue
            r = rep + num * failed
            item = _descend(buckets, names, weights, logs, reweights, devices, hashes, quotients, keys, room, notes, used, n, b, kind, x, r, 0)
            if item == _NONE:
                room[_CHOSEN, base + rep] = room[_LEAVES, base + rep] = _NONE
                left -= 1
                continue
            if item == _OPEN or _has(room, _CHOSEN, base, end, item):
                continue
            if leaf:
                if item < 0:
                    room[_LEAVES, base + rep] = _leaf_indep(buckets, names, weights, logs, reweights, devices, hashes, quotients, keys, room, notes, used, n, -1 - item, x, rep, r, num, leaf_tries)
                else:
                    room[_LEAVES, base + rep] = item
                if room[_LEAVES, base + rep] == _NONE:
                    continue
            if kind == 0 and _is_out(reweights, notes, used, n, x, item):
                continue
            room[_CHOSEN, base + rep] = item
            left -= 1
    for i in range(base, end):
        for row in (_CHOSEN, _LEAVES):
            if room[row, i] == _OPEN:
                room[row, i] = _NONE


@_inline
def _choose(
    buckets: Any, names: Any, weights: Any, logs: Any, reweights: Any, devices: Any, hashes: Any, quotients: Any, keys: Any, room: Any, notes: Any, used: Any, n: Any, x: Any, step: Any, count: Any, most: Any
) -> Any:
    """Run a choose step over the ``count`` items that are there; how many are there after it."""
    got = 0
    for i in range(count):
        b = -1 - np.int64(room[_FIRST, i])
        if b < 0 or b >= buckets.shape[0] or step[2] <= 0:
            continue
        if step[0] == FIRSTN:
            got += _firstn(buckets, names, weights, logs, reweights, devices, hashes, quotients, keys, room, notes, used, n, x, b, step, got, most - got)
        else:
            size = min(step[2], most - got)
            _indep(buckets, names, weights, logs, reweights, devices, hashes, quotients, keys, room, notes, used, n, x, b, step, got, size)
            got += size
    chosen = _LEAVES if step[4] else _CHOSEN
    for i in range(got):
        room[_FIRST, i] = room[chosen, i]
    return got


@_jit
def map_all(
    buckets: Any, names: Any, weights: Any, logs: Any, reweights: Any, devices: Any, hashes: Any, quotients: Any, keys: Any, room: Any, notes: Any, used: Any, steps: Any, xs: Any, out: Any
) -> None:
    """Map every input through the steps.

    The map: ``buckets`` int64, shape (buckets, 4): first item, items with padding, items in earnest, type. ``names``
    int32, shape (2, items): each item's id, and the one that is hashed. ``weights`` float64, shape (positions, items),
    16.16. ``logs`` float64, shape (65536,): 2^48 - crush_ln(u), the 0 among them 0.5 (so that no weight makes it more
    than the infinity of weight 0). ``reweights`` int64, by device id. ``devices``: ids from here on do not exist.

    Room to work in: ``hashes`` uint32 and ``quotients`` float64, as long as the largest bucket; ``keys``: the
    quotients, seen as int64; ``room`` int32, shape (3, replicas and one). ``notes`` int32, shape (capacity, 4), what
    was looked at: input, bucket index, r, place of the winner (-1: empty), or input, ``TEST``, 0, device; of no
    length: not wanted. ``used`` int64, shape (1,): how many notes there are, kept or not.

    ``steps``: int64, shape (steps, 9): kind, item to take, number, type, whether down to a leaf, tries, tries for the
    leaf, vary_r, stable. ``xs``: uint32, shape (inputs,). ``out``: int32, shape (inputs, replicas), all NONE before.
    """
    most = out.shape[1]
    for n in range(xs.shape[0]):
        count, length = 0, 0
        for s in range(steps.shape[0]):
            step = steps[s]
            if step[0] == TAKE:
                room[_FIRST, 0] = step[1]
                count = 1
            elif step[0] == EMIT:
                for i in range(min(count, most - length)):
                    out[n, length] = room[_FIRST, i]
                    length += 1
                count = 0
            elif count > 0:
                count = _choose(buckets, names, weights, logs, reweights, devices, hashes, quotients, keys, room, notes, used, n, xs[n], step, count, most)
