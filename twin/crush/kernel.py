"""The CRUSH rules as machine code: numba compiles this file, and no other imports numba.

It maps what real maps of the last years hold: straw2 buckets and no local retries; ``twin.crush.compiled`` asks before.

Source: ``crush_do_rule``, ``crush_choose_firstn``, ``crush_choose_indep`` and ``bucket_straw2_choose`` of Ceph 16.2
(behaviour).
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numba import carray  # type: ignore[attr-defined]  # it is there, without types
from numba.core import cgutils
from numba.extending import intrinsic

TAKE, FIRSTN, INDEP, EMIT = 0, 1, 2, 3
"""The kinds of a step."""
TEST = -1
"""Stands for the bucket in the note of a test."""
START, COUNT, SIZE, KIND = 0, 1, 2, 3
"""Columns of ``Desk.buckets``."""
ITEM, HASHED = 0, 1
"""Rows of ``Desk.names``."""
_FIRST, _CHOSEN, _LEAVES = 0, 1, 2
_NONE = 0x7FFFFFFF
_OPEN = 0x7FFFFFFE
_ONE = 0x10000
_BLOCK = 1024
_SEED = np.uint32(1315423911)
_X, _Y = np.uint32(231232), np.uint32(1232)
_word = np.uint32
"""numba widens 32-bit arithmetic to 64 bits; each result is cut back to a word."""


class Desk(NamedTuple):
    """A map laid out for one run, and the room to work in.

    ``buckets``: int64, shape (buckets, 4): first item, items with padding, items in earnest, type. ``names``: int32,
    shape (2, items): each item's id, and the one that is hashed. ``weights``: float64, shape (positions, items), 16.16.
    ``logs``: float64, shape (65536,): 2^48 - crush_ln(u), 0.5 instead of 0 (so that by weight 0 all become infinite).
    ``reweights``: int64, by device id. ``devices``: ids from here on do not exist.

    ``hashes``: uint32, and ``quotients``: float64, as long as the largest bucket; ``keys``: the quotients as int64.
    ``room``: int32, shape (3, replicas and one). ``notes``: int32, shape (capacity, 4), what was looked at: input,
    bucket index, r, place of the winner (-1: it is empty), or input, ``TEST``, 0, device; of no length: not wanted.
    ``used``: int64, shape (1,): how many notes there are, kept or not.
    """

    buckets: Any
    names: Any
    weights: Any
    logs: Any
    reweights: Any
    devices: int
    hashes: Any
    quotients: Any
    keys: Any
    room: Any
    notes: Any
    used: Any


def _jit(function: Any) -> Any:
    """Compile, and keep the machine code on disk where there is a folder for it."""
    try:
        return numba.njit(cache=True, error_model="numpy", boundscheck=False)(function)
    except RuntimeError:
        return numba.njit(error_model="numpy", boundscheck=False)(function)


def _inline(function: Any) -> Any:
    """Compile into its callers: a call in a loop would keep the loop from becoming vector instructions."""
    return numba.njit(inline="always", error_model="numpy")(function)


@intrinsic
def _pointer(_context: Any, address: Any) -> Any:
    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return numba.types.voidptr(address), generate


@_inline
def _bare(array: Any) -> Any:
    """The same memory as an array that counts no references: counting took half of the time.

    The caller holds the array itself for as long.
    """
    return carray(_pointer(array.ctypes.data), array.shape, array.dtype)  # type: ignore[call-arg]  # an intrinsic's context


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
def hash_draws(xs: Any, items: Any, rs: Any, out: Any) -> None:
    """Draw for one item each: 16 bits of the hash of an input, an item and an r.

    ``xs``, ``items``, ``rs``: uint32, shape (draws,). ``out``: uint16, shape (draws,).
    """
    for i in range(out.shape[0]):
        out[i] = _hash3(xs[i], items[i], rs[i]) & _word(0xFFFF)


@_jit
def beats(
    xs: Any, inputs: Any, rs: Any, drawn: Any, winner: Any, weights: Any, places: Any, logs: Any, rival: Any, out: Any
) -> None:
    """Compare a rival with the winners of draws, as ``twin.crush.rivals.beats`` says, in blocks of a cache's size."""
    item, weight, at = _word(rival[0]), np.float64(rival[1]), rival[2]
    asked, hashes = np.empty(_BLOCK, np.uint32), np.empty(_BLOCK, np.uint32)
    marks, scores = np.empty(_BLOCK), np.empty(_BLOCK)
    for start in range(0, inputs.shape[0], _BLOCK):
        count = min(_BLOCK, inputs.shape[0] - start)
        own, tried, found = inputs[start : start + count], rs[start : start + count], out[start : start + count]
        draws, won = drawn[start : start + count], winner[start : start + count]
        for i in range(count):
            asked[i] = xs[own[i]]
        for i in range(count):
            hashes[i] = _hash3(asked[i], item, tried[i]) & _word(0xFFFF)
        for i in range(count):
            scores[i] = np.floor(logs[hashes[i]] / weight)
        for i in range(count):
            marks[i] = np.floor(logs[draws[i]] / weights[won[i]])
        for i in range(count):
            found[i] = (scores[i] < marks[i]) | ((scores[i] == marks[i]) & (at < places[won[i]]))


@_jit
def _straw2(m: Any, b: Any, x: Any, r: Any, row: Any) -> Any:
    """The place of the item that wins: the first one with the least quotient.

    Quotients are whole and not negative, so they are in the order of their bits; by weight 0 they are infinite.
    """
    start, count = m.buckets[b, START], m.buckets[b, COUNT]
    ids, weights, logs = m.names[HASHED, start : start + count], m.weights[row, start : start + count], m.logs
    hashes, quotients, keys = m.hashes, m.quotients, m.keys
    for i in range(count):
        hashes[i] = _hash3(x, _word(ids[i]), r) & _word(0xFFFF)
    for i in range(count):
        quotients[i] = np.floor(logs[hashes[i]] / weights[i])
    best = keys[0]
    for i in range(count):
        best = min(best, keys[i])
    place = 0
    while keys[place] != best:
        place += 1
    return place


@_inline
def _note(m: Any, n: Any, b: Any, r: Any, place: Any) -> None:
    """Keep what was looked at; beyond the capacity, only count it."""
    at = m.used[0]
    if at < m.notes.shape[0]:
        m.notes[at, 0], m.notes[at, 1], m.notes[at, 2], m.notes[at, 3] = n, b, r, place
    m.used[0] = at + 1


@_inline
def _descend(m: Any, n: Any, b: Any, kind: Any, x: Any, r: Any, position: Any) -> Any:
    """Draw downwards until an item of the kind: its id. ``_NONE``: there can be none. ``_OPEN``: an empty bucket."""
    row = min(position, m.weights.shape[0] - 1)
    for _ in range(m.buckets.shape[0] + 1):
        place = -1
        if m.buckets[b, SIZE] > 0:
            place = _straw2(m, b, x, _word(r), row)
        if m.notes.shape[0] > 0:
            _note(m, n, b, r, place)
        if place < 0:
            return _OPEN
        item = np.int64(m.names[ITEM, m.buckets[b, START] + place])
        if item >= m.devices:
            return _NONE
        found = m.buckets[-1 - item, KIND] if item < 0 else 0
        if found == kind:
            return item
        if item >= 0:
            return _NONE
        b = -1 - item
    return _NONE


@_jit
def _is_out(m: Any, n: Any, x: Any, device: Any) -> Any:
    if m.notes.shape[0] > 0:
        _note(m, n, TEST, 0, device)
    if device >= m.reweights.shape[0]:
        return True
    weight = m.reweights[device]
    if weight >= _ONE:
        return False
    return weight == 0 or np.int64(_hash2(x, _word(device)) & _word(0xFFFF)) >= weight


@_inline
def _has(m: Any, row: Any, low: Any, high: Any, item: Any) -> Any:
    for i in range(low, high):  # noqa: SIM110 - numba compiles no generators here
        if m.room[row, i] == item:
            return True
    return False


@_inline
def _leaf_firstn(m: Any, n: Any, b: Any, x: Any, r: Any, tries: Any, base: Any, got: Any) -> Any:
    """Find a device under a chosen bucket that the replicas before have not got; whether there is one."""
    for failed in range(tries):
        item = _descend(m, n, b, 0, x, r + failed, got)
        if item == _NONE:
            return False
        if item == _OPEN or _has(m, _LEAVES, base, base + got, item):
            continue
        if not _is_out(m, n, x, item):
            m.room[_LEAVES, base + got] = item
            return True
    return False


@_inline
def _firstn(m: Any, n: Any, x: Any, b: Any, step: Any, base: Any, most: Any) -> Any:
    """Choose up to as many items as the step says into the room from ``base`` on, leaves beside them; how many."""
    num, kind, leaf, tries, leaf_tries, vary_r, stable = step[2], step[3], step[4], step[5], step[6], step[7], step[8]
    got = 0
    for rep in range(num):
        if got >= most:
            break
        for failed in range(tries):
            r = rep + failed
            item = _descend(m, n, b, kind, x, r, got)
            if item == _NONE:
                break
            if item == _OPEN or _has(m, _CHOSEN, base, base + got, item):
                continue
            if leaf and item < 0:
                leaf_r = (r >> (vary_r - 1) if vary_r else 0) + (0 if stable else got)
                if not _leaf_firstn(m, n, -1 - item, x, leaf_r, leaf_tries, base, got):
                    continue
            elif leaf:
                m.room[_LEAVES, base + got] = item
            if kind == 0 and _is_out(m, n, x, item):
                continue
            m.room[_CHOSEN, base + got] = item
            got += 1
            break
    return got


@_inline
def _leaf_indep(m: Any, n: Any, b: Any, x: Any, place: Any, r: Any, num: Any, tries: Any) -> Any:
    """Find a device under a chosen bucket: its id, or ``_NONE``."""
    for failed in range(tries):
        item = _descend(m, n, b, 0, x, place + r + num * failed, place)
        if item == _NONE:
            return _NONE
        if item != _OPEN and not _is_out(m, n, x, item):
            return item
    return _NONE


@_inline
def _indep(m: Any, n: Any, x: Any, b: Any, step: Any, base: Any, size: Any) -> None:
    """Choose ``size`` items into the room from ``base`` on, each at its place, and leaves beside them."""
    num, kind, leaf, tries, leaf_tries = step[2], step[3], step[4], step[5], step[6]
    left, end = size, base + size
    m.room[_CHOSEN, base:end] = _OPEN
    m.room[_LEAVES, base:end] = _OPEN
    for failed in range(tries):
        for rep in range(size if left > 0 else 0):
            if m.room[_CHOSEN, base + rep] != _OPEN:
                continue
            r = rep + num * failed
            item = _descend(m, n, b, kind, x, r, 0)
            if item == _NONE:
                m.room[_CHOSEN, base + rep] = m.room[_LEAVES, base + rep] = _NONE
                left -= 1
                continue
            if item == _OPEN or _has(m, _CHOSEN, base, end, item):
                continue
            if leaf:
                if item < 0:
                    m.room[_LEAVES, base + rep] = _leaf_indep(m, n, -1 - item, x, rep, r, num, leaf_tries)
                else:
                    m.room[_LEAVES, base + rep] = item
                if m.room[_LEAVES, base + rep] == _NONE:
                    continue
            if kind == 0 and _is_out(m, n, x, item):
                continue
            m.room[_CHOSEN, base + rep] = item
            left -= 1
    for i in range(base, end):
        for row in (_CHOSEN, _LEAVES):
            if m.room[row, i] == _OPEN:
                m.room[row, i] = _NONE


@_inline
def _choose(m: Any, n: Any, x: Any, step: Any, count: Any, most: Any) -> Any:
    """Run a choose step over the ``count`` items that are there; how many are there after it."""
    got = 0
    for i in range(count):
        b = -1 - np.int64(m.room[_FIRST, i])
        if b < 0 or b >= m.buckets.shape[0] or step[2] <= 0:
            continue
        if step[0] == FIRSTN:
            got += _firstn(m, n, x, b, step, got, most - got)
        else:
            size = min(step[2], most - got)
            _indep(m, n, x, b, step, got, size)
            got += size
    chosen = _LEAVES if step[4] else _CHOSEN
    for i in range(got):
        m.room[_FIRST, i] = m.room[chosen, i]
    return got


@_jit
def map_all(desk: Any, steps: Any, xs: Any, out: Any) -> None:
    """Map every input through the steps.

    ``steps``: int64, shape (steps, 9): kind, item to take, number, type, whether down to a leaf, tries, tries for the
    leaf, vary_r, stable. ``xs``: uint32, shape (inputs,). ``out``: int32, shape (inputs, replicas), all NONE before.
    """
    m = Desk(
        _bare(desk.buckets), _bare(desk.names), _bare(desk.weights), _bare(desk.logs), _bare(desk.reweights),
        desk.devices, _bare(desk.hashes), _bare(desk.quotients), _bare(desk.keys), _bare(desk.room),
        _bare(desk.notes), _bare(desk.used),
    )  # fmt: skip
    most = out.shape[1]
    for n in range(xs.shape[0]):
        count, length = 0, 0
        for s in range(steps.shape[0]):
            step = steps[s]
            if step[0] == TAKE:
                m.room[_FIRST, 0] = step[1]
                count = 1
            elif step[0] == EMIT:
                for i in range(min(count, most - length)):
                    out[n, length] = m.room[_FIRST, i]
                    length += 1
                count = 0
            elif count > 0:
                count = _choose(m, n, xs[n], step, count, most)
