"""Draws from buckets, for many inputs at once: the five bucket algorithms, each exactly as Ceph computes it."""

import functools
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from twin.crush.compile import ALGORITHMS, Compiled
from twin.crush.hashing import WORDS, Words, hash3, hash3_into, hash4
from twin.crush.logarithm import negative_logs, ranks

DRAWS = 1 << 16
"""How many draws are made at once: as many as the workspaces hold, and these fit into a core's cache."""
Kind = Literal["equal", "straw2", "straw", "list", "tree", "uniform"]
Items = NDArray[np.int32]
Indices = NDArray[np.int64]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Buckets of one algorithm and size k, stacked: arrays of shape (k, buckets).

    ``hashed``: what is hashed, uint32. ``items``: what is returned, int32, flat. ``weights``: what the draws are
    divided by or scaled with, float64 (straw2) or uint64. ``zero``: where a straw2 weight is 0 (None: nowhere).
    ``ids``: the buckets' own ids, uint32, shape (buckets,). ``more``, uint64: running sums (k, buckets) of lists, node
    weights (nodes, buckets) of trees.
    """

    kind: Kind
    size: int
    hashed: Words
    items: Items
    weights: NDArray[np.float64] | NDArray[np.uint64]
    zero: NDArray[np.bool_] | None
    ids: Words
    more: NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Groups:
    """All buckets by group. ``of`` and ``slot``: a bucket's group and its column there, int64, by bucket index."""

    groups: tuple[Group, ...]
    of: Indices
    slot: Indices


class Space:
    """Workspaces for `DRAWS` draws, allocated once: a draw allocates nothing."""

    def __init__(self) -> None:
        """Allocate about 5 MB."""
        self.words = _aligned(WORDS * DRAWS, np.uint32).reshape(WORDS, DRAWS)
        self.index = _aligned(DRAWS, np.int64)
        self.scores = _aligned(DRAWS, np.float64)
        self.divisors = _aligned(DRAWS, np.float64)
        self.flags = _aligned(DRAWS, np.bool_)
        self.places = _aligned(DRAWS, np.uint16)


def _aligned(count: int, dtype: type[T]) -> NDArray[T]:
    """Allocate at a multiple of 64 bytes: elsewhere, vector instructions take a fifth longer (measured)."""
    raw = np.empty(count * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * np.dtype(dtype).itemsize].view(dtype)


def groups_of(compiled: Compiled, choose_args: str | None, position: int) -> Groups:
    """Stack the buckets by algorithm and size, with the weights and ids of a set of choose_args. Cached."""
    drawn = None if choose_args is None else compiled.drawn[choose_args]
    key = (choose_args, 0 if drawn is None else min(position, len(drawn.weights) - 1))
    cached = compiled.groups.get(key)
    if isinstance(cached, Groups):
        return cached
    weights = compiled.weights if drawn is None else drawn.weights[key[1]]
    hashed = compiled.items if drawn is None else drawn.ids
    members: dict[tuple[Kind, int], list[int]] = {}
    for bucket in np.flatnonzero(compiled.alg).tolist():
        members.setdefault((_kind(compiled, bucket, weights), int(compiled.size[bucket])), []).append(bucket)
    of, slot = np.zeros(len(compiled.alg), np.int64), np.zeros(len(compiled.alg), np.int64)
    groups = []
    for number, ((kind, size), buckets) in enumerate(sorted(members.items())):
        of[buckets], slot[buckets] = number, np.arange(len(buckets))
        groups.append(_group(compiled, kind, size, np.array(buckets), weights, hashed))
    made = Groups(groups=tuple(groups), of=of, slot=slot)
    compiled.groups[key] = made
    return made


def _kind(compiled: Compiled, bucket: int, weights: NDArray[np.int64]) -> Kind:
    alg, size = int(compiled.alg[bucket]), int(compiled.size[bucket])
    for name, number in ALGORITHMS.items():
        if number == alg and name != "straw2":
            return name
    own = weights[compiled.offset[bucket] : compiled.offset[bucket] + size]
    return "equal" if size and own.min() == own.max() and 0 < own.max() <= ranks()[1] else "straw2"


def _group(
    compiled: Compiled, kind: Kind, size: int, buckets: Indices, weights: NDArray[np.int64], hashed: Items
) -> Group:
    at = np.arange(size)[:, None] + compiled.offset[buckets]
    ids = (-1 - buckets).astype(np.int64).astype(np.uint32)
    zero = None
    more = np.zeros((0, len(buckets)), np.uint64)
    divided: NDArray[np.float64] | NDArray[np.uint64]
    match kind:
        case "equal" | "straw2":
            divided = weights[at].astype(np.float64)
            zero = divided == 0 if not divided.all() else None
            divided[divided == 0] = 1.0
        case "straw":
            divided = compiled.straws[at].astype(np.uint64)
        case "list":
            divided, more = compiled.weights[at].astype(np.uint64), compiled.sums[at].astype(np.uint64)
        case "tree":
            nodes = np.arange(int(compiled.node_count[buckets[0]]))[:, None] + compiled.node_offset[buckets]
            divided, more = compiled.weights[at].astype(np.uint64), compiled.nodes[nodes].astype(np.uint64)
        case "uniform":
            divided = np.zeros((0, len(buckets)), np.uint64)
    own = hashed if kind in ("equal", "straw2") else compiled.items
    return Group(
        kind=kind,
        size=size,
        hashed=np.ascontiguousarray(own[at].astype(np.int64).astype(np.uint32)),
        items=np.ascontiguousarray(compiled.items[at]).ravel(),
        weights=divided,
        zero=zero,
        ids=ids,
        more=more,
    )


def draw(space: Space, group: Group, slots: Indices, x: Words, r: Words) -> Items:
    """Choose an item for each input from its bucket: int32, shape (n,).

    ``slots``: the buckets' columns in the group, ``x`` and ``r`` the input and the attempt, all of shape (n,).
    """
    chosen = np.empty(len(x), np.int64)
    step = DRAWS // max(group.size, len(group.more), 1)
    step = step // 16 * 16 or step  # rows of whole vectors
    alone = len(group.ids) == 1
    for start in range(0, len(x), step):
        part = slice(start, min(start + step, len(x)))
        at = None if alone else slots[part]
        match group.kind:
            case "equal":
                _equal(space, group, at, x[part], r[part], chosen[part])
            case "straw2":
                _straw2(space, group, at, x[part], r[part], chosen[part])
            case "straw":
                _straw(space, group, at, x[part], r[part], chosen[part])
            case "list":
                _list(group, slots[part], x[part], r[part], chosen[part])
            case "tree":
                _tree(group, slots[part], x[part], r[part], chosen[part])
            case "uniform":
                chosen[part] = permuted(group.size, group.ids[slots[part]], x[part], r[part])
    chosen *= len(group.ids)
    chosen += slots
    return group.items.take(chosen)


def _hashes(space: Space, group: Group, at: Indices | None, x: Words, r: Words) -> tuple[Words, Words]:
    """The hashes (size, n), and a spare array of the same shape."""
    words = space.words[:, : group.size * len(x)].reshape(WORDS, group.size, len(x))
    items = group.hashed if at is None else np.take(group.hashed, at, axis=1, out=words[7], mode="clip")
    return hash3_into(words, x, items, r), words[8]


def _equal(space: Space, group: Group, at: Indices | None, x: Words, r: Words, chosen: Indices) -> None:
    """With equal weights the rank of the logarithm decides: no division. First on ties, as the place counts down."""
    hashed, keys = _hashes(space, group, at, x, r)
    index = space.index[: hashed.size].reshape(hashed.shape)
    np.bitwise_and(hashed, 0xFFFF, out=index)
    np.take(_keys(), index, out=keys, mode="clip")
    np.bitwise_or(keys, _places(group.size), out=keys)
    np.subtract(0xFFFF, np.bitwise_and(np.maximum.reduce(keys, axis=0), 0xFFFF), out=chosen)


def _straw2(space: Space, group: Group, at: Indices | None, x: Words, r: Words, chosen: Indices) -> None:
    """The smallest floor(logarithm / weight), first on ties.

    The quotient in float64 is exact once rounded down: logarithm + weight < 2^53, so that the gap below the next
    integer, at least 1 / weight, is wider than the rounding error.
    """
    hashed, _ = _hashes(space, group, at, x, r)
    shape = hashed.shape
    index, scores = space.index[: hashed.size].reshape(shape), space.scores[: hashed.size].reshape(shape)
    np.bitwise_and(hashed, 0xFFFF, out=index)
    np.take(_logs(), index, out=scores, mode="clip")
    weights = group.weights
    if at is not None:
        weights = np.take(weights, at, axis=1, out=space.divisors[: hashed.size].reshape(shape), mode="clip")
    np.divide(scores, weights, out=scores)
    np.floor(scores, out=scores)
    if group.zero is not None:
        np.copyto(scores, np.inf, where=group.zero if at is None else group.zero.take(at, axis=1))
    _first(space, scores, np.minimum.reduce(scores, axis=0), chosen)


def _straw(space: Space, group: Group, at: Indices | None, x: Words, r: Words, chosen: Indices) -> None:
    """The largest draw times straw, first on ties. Products below 2^48 are exact in float64."""
    hashed, _ = _hashes(space, group, at, x, r)
    straws = group.weights if at is None else group.weights.take(at, axis=1)
    scores = space.scores[: hashed.size].reshape(hashed.shape)
    np.multiply(np.bitwise_and(hashed, 0xFFFF), straws, out=scores)
    _first(space, scores, np.maximum.reduce(scores, axis=0), chosen)


def _first(space: Space, scores: NDArray[np.float64], best: NDArray[np.float64], chosen: Indices) -> None:
    """The first place with the best score in each column."""
    flags = space.flags[: scores.size].reshape(scores.shape)
    places = space.places[: scores.size].reshape(scores.shape)
    np.equal(scores, best, out=flags)
    np.multiply(flags, _places(len(scores)).astype(np.uint16), out=places)
    np.subtract(0xFFFF, np.maximum.reduce(places, axis=0), out=chosen, dtype=np.int64)


def _places(size: int) -> Words:
    """0xffff for the first item, and counting down: the largest is the first."""
    return (0xFFFF - np.arange(size, dtype=np.uint32))[:, None]


@functools.cache
def _logs() -> NDArray[np.float64]:
    return negative_logs().astype(np.float64)


@functools.cache
def _keys() -> Words:
    """Ranks in the upper half of a word: the lower half has room for the place."""
    return ranks()[0] << np.uint32(16)


def _list(group: Group, slots: Indices, x: Words, r: Words, chosen: Indices) -> None:
    """From the last item to the first: the one whose share of the sum so far the draw falls into; else the first."""
    ids = group.ids[slots]
    drawn = hash4(x, group.hashed.take(slots, axis=1), r, ids).astype(np.uint64) & np.uint64(0xFFFF)
    falls = (drawn * group.more.take(slots, axis=1)) >> np.uint64(16) < group.weights.take(slots, axis=1)
    place = np.arange(group.size)[:, None]
    chosen[:] = np.maximum.reduce(np.where(falls, place, 0), axis=0)


def _tree(group: Group, slots: Indices, x: Words, r: Words, chosen: Indices) -> None:
    """Down a binary tree, left or right by weight."""
    ids, count = group.ids[slots], len(group.more)
    node = np.full(len(x), count >> 1, np.int64)
    half = count >> 2
    while half:
        drawn = hash4(x, node, r, ids).astype(np.uint64) * group.more[node, slots]
        left = node - half
        node = np.where(drawn >> np.uint64(32) < group.more[left, slots], left, node + half)
        half >>= 1
    np.minimum(node >> 1, group.size - 1, out=chosen)  # a bucket without weight would lead beyond its items


def permuted(size: int | Indices, ids: Words, x: Words, r: Words) -> Indices:
    """Choose the (r mod size)-th place of a pseudo-random permutation of a bucket, for each input: int64, shape (n,).

    The permutation swaps place p with one at or after it, by a hash of p. To know one place, its swaps are followed
    back from the last, so nothing is permuted. Source: `bucket_perm_choose` of Ceph 16.2 (behaviour).
    """
    sizes = np.broadcast_to(np.asarray(size, np.int64), x.shape)
    last = r.astype(np.int64) % sizes
    at = last.copy()
    for place in range(int(last.max(initial=-1)), -1, -1):
        far = np.flatnonzero((last >= place) & (sizes - 1 > place))
        swap = place + hash3(x[far], ids[far], np.uint32(place)).astype(np.int64) % (sizes[far] - place)
        own, before = last[far] == place, at[far]
        at[far] = np.where(own, swap, np.where(before == swap, place, before))
    return at
