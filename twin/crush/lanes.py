"""Inputs in lockstep: a *lane* is one input on its way through a rule, and all arrays are by lane."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twin.crush.compile import Compiled
from twin.crush.draw import Groups, Indices, Items, Space, draw, groups_of, permuted
from twin.crush.hashing import Words, hash2

UNDEFINED = 0x7FFFFFFE
"""Not chosen yet: `CRUSH_ITEM_UNDEF`."""


@dataclass(frozen=True, kw_only=True)
class Tries:
    """What a rule's steps set: how often to try. ``leaf``: 0 means "not set"."""

    choose: int
    leaf: int
    local: int
    fallback: int
    vary_r: int
    stable: int


class Watch(Protocol):
    """Looks on while inputs are mapped: at every draw, and at every device whose reweight is asked."""

    def drew(self, bucket: Indices, lane: Indices, r: Indices, items: Items) -> None:
        """Note draws: bucket index, lane, r, and the item that won, all of shape (n,)."""

    def tested(self, items: Items, lane: Indices) -> None:
        """Note devices whose reweight was asked, and their lanes."""


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
    watch: Watch | None = None

    def __post_init__(self) -> None:
        """Look up how many positions the choose_args tell apart, and whether any device can be out."""
        if self.choose_args is not None:
            self.positions = len(self.compiled.drawn[self.choose_args].weights)
        count = self.compiled.device_count
        self.always_in = len(self.weights) >= count and bool((self.weights[:count] >= 0x10000).all())

    def pick(self, bucket: Indices, lane: Indices, r: Indices, position: Indices) -> Items:
        """Choose an item of each bucket (none empty): int32. All arguments int64 of one shape (n,)."""
        items = self._pick_at(bucket, lane, r, position)
        if self.watch is not None:
            self.watch.drew(bucket, lane, r, items)
        return items

    def _pick_at(self, bucket: Indices, lane: Indices, r: Indices, position: Indices) -> Items:
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
        if len(group) and group.min() == group.max():
            return draw(self.space, groups.groups[group[0]], slot, x, tried)
        items = np.empty(len(bucket), np.int32)
        for one in np.flatnonzero(np.bincount(group)).tolist():
            part = np.flatnonzero(group == one)
            items[part] = draw(self.space, groups.groups[one], slot[part], x[part], tried[part])
        return items

    def permute(self, bucket: Indices, lane: Indices, r: Indices) -> Items:
        """Choose by permutation, whatever the bucket's algorithm: the last resort of the oldest tunables."""
        ids = (-1 - bucket).astype(np.uint32)
        place = permuted(self.compiled.size[bucket], ids, self.x[lane], r.astype(np.uint32))
        items = self.compiled.items.take(self.compiled.offset[bucket] + place)
        if self.watch is not None:
            self.watch.drew(bucket, lane, r, items)
        return items

    def types(self, items: Items) -> NDArray[np.int32]:
        """The types of items: 0 for a device. int32."""
        if not len(items) or items.max() < 0:
            return self.compiled.type_id[-1 - items.astype(np.int64)]
        if items.min() >= 0:
            return np.zeros(len(items), np.int32)
        inner = self.compiled.type_id[np.maximum(-1 - items.astype(np.int64), 0)]
        return np.where(items < 0, inner, 0).astype(np.int32)

    def out(self, items: Items, lane: Indices) -> NDArray[np.bool_]:
        """Whether each device is out for its lane: always with weight 0, never with 1, else by a hash of both."""
        if self.watch is not None:
            self.watch.tested(items, lane)
        if self.always_in or not len(items):
            return np.zeros(len(items), np.bool_)
        known = items < len(self.weights)
        weight = np.where(known, self.weights.take(items, mode="clip"), 0) if len(self.weights) else known.astype(int)
        out: NDArray[np.bool_] = weight == 0
        partly = np.flatnonzero((weight > 0) & (weight < 0x10000))
        drawn = hash2(self.x[lane[partly]], items[partly]) & np.uint32(0xFFFF)
        out[partly] = drawn >= weight[partly]
        return out
