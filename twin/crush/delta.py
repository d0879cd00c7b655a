"""What-if: map again only the inputs that a change of the map can touch, and know exactly which those are.

A baseline keeps what each input looked at: the draws, with their winners, and the reweights. An input goes the same way
through the changed map if all of these come out as before; by induction it then looks at nothing else. Which draws come
out differently follows from the items that are new, gone, or of another weight, and from the winner: the others drew
what they drew.
"""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from twin.crush.compile import Compiled, compile_map
from twin.crush.compiled import Prefer, map_best
from twin.crush.hashing import hash2
from twin.crush.map import ONE, Bucket, CrushMap
from twin.crush.osdmap import OsdMap
from twin.crush.pools import Placed, choose_args_of, place, placement_seeds, pool_of, reweights, settle
from twin.crush.rivals import Winners, beats
from twin.crush.trace import Trace, trace_inputs

Ids = NDArray[np.int32]
Words = NDArray[np.uint32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Mapped inputs, what they looked at, and all that decided it. ``xs``, ``weights``: uint32."""

    compiled: Compiled
    rule: int
    xs: Words
    num_rep: int
    weights: Words
    choose_args: str | None
    trace: Trace


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """Inputs mapped through a changed map: int32, shape (inputs, replicas); ``again``: how many had to be."""

    mapped: Ids
    again: int


def baseline(
    compiled: Compiled,
    rule: int,
    xs: NDArray[np.integer],
    num_rep: int,
    weights: NDArray[np.integer],
    choose_args: str | None = None,
    prefer: Prefer = "auto",
) -> Baseline:
    """Map inputs and keep what is needed to answer ``what_if`` (about 12 bytes a draw).

    ``xs``: integers, shape (n,). ``weights``: reweights in 16.16 by device id.

    Raises: InputError if the rule or the choose_args do not exist.
    """
    seeds = np.asarray(xs).astype(np.int64).astype(np.uint32)
    kept = np.asarray(weights).astype(np.uint32)
    trace = trace_inputs(compiled, rule, seeds, num_rep, kept, choose_args, prefer)
    return Baseline(
        compiled=compiled, rule=rule, xs=seeds, num_rep=num_rep, weights=kept, choose_args=choose_args, trace=trace
    )


def what_if(base: Baseline, compiled: Compiled, weights: NDArray[np.integer], prefer: Prefer = "auto") -> WhatIf:
    """Map the baseline's inputs through a changed map or with other reweights: exactly as from scratch, mostly sooner.

    Any change is right: devices out and back in, other weights, new and removed devices, hosts and racks. A change
    of the rule, of tunables or of a bucket's type, or of the choose_args in use, maps all inputs again.

    Raises: InputError if the rule or the choose_args are no longer there.
    """
    kept = np.asarray(weights).astype(np.uint32)
    touched = _touched(base, compiled, kept, prefer)
    again = np.arange(len(base.xs)) if touched is None else np.flatnonzero(touched)
    mapped = base.trace.mapped.copy()
    if len(again):
        mapped[again] = map_best(
            compiled, base.rule, base.xs[again], base.num_rep, kept, base.choose_args, prefer=prefer
        )
    return WhatIf(mapped=mapped, again=len(again))


@dataclass(frozen=True, kw_only=True)
class PoolBaseline:
    """A pool as it is placed, ready for ``place_again``."""

    osdmap: OsdMap
    pool: int
    base: Baseline
    placed: Placed


def pool_baseline(osdmap: OsdMap, pool: int, compiled: Compiled | None = None, prefer: Prefer = "auto") -> PoolBaseline:
    """Place a pool and keep what is needed to place it again after changes. Raises: as ``place``."""
    found = pool_of(osdmap, pool)
    seeds = placement_seeds(found)
    made = compiled or compile_map(osdmap.crush)
    args = choose_args_of(osdmap.crush, pool)
    base = baseline(made, found.rule, seeds, found.size, reweights(osdmap), args, prefer)
    return PoolBaseline(osdmap=osdmap, pool=pool, base=base, placed=settle(osdmap, found, seeds, base.trace.mapped))


def place_again(
    before: PoolBaseline, osdmap: OsdMap, compiled: Compiled | None = None, prefer: Prefer = "auto"
) -> Placed:
    """Place the pool in a changed OSD map: the same as ``place``, mostly sooner. Raises: as ``place``."""
    old, new = pool_of(before.osdmap, before.pool), pool_of(osdmap, before.pool)
    seeds = placement_seeds(new)
    args = choose_args_of(osdmap.crush, before.pool)
    same = (old.rule, old.size, args) == (new.rule, new.size, before.base.choose_args)
    if not same or not np.array_equal(seeds, before.base.xs):
        return place(osdmap, before.pool, compiled, prefer)
    made = compiled or compile_map(osdmap.crush)
    return settle(osdmap, new, seeds, what_if(before.base, made, reweights(osdmap), prefer).mapped)


def _touched(base: Baseline, compiled: Compiled, weights: Words, prefer: Prefer) -> Mask | None:
    """Which inputs may come out differently; None: all."""
    old, new = base.compiled.crush, compiled.crush
    if not _comparable(base, compiled):
        return None
    changed = _changed_buckets(old, new)
    if any(before.type_id != after.type_id for before, after in changed):
        return None
    touched = np.zeros(len(base.xs), np.bool_)
    _test_again(base, weights, touched)
    tunables = new.tunables
    whole = base.choose_args is not None or tunables.choose_local_tries + tunables.choose_local_fallback_tries > 0
    for before, after in changed:
        found = base.trace.draws(before.id)
        if found.start == found.stop and not before.items and not _came_empty(base, before.id, touched):
            return None
        if whole or before.alg != "straw2" or before.alg != after.alg:
            touched[base.trace.drawn_for[found]] = True
        else:
            _draw_again(base, found, before, after, touched, prefer)
    return touched


def _comparable(base: Baseline, compiled: Compiled) -> bool:
    """Whether the ways through both maps can be compared: the same rule, tunables and choose_args."""
    old, new, name = base.compiled.crush, compiled.crush, base.choose_args
    if base.compiled.rules.get(base.rule) != compiled.rules.get(base.rule) or old.tunables != new.tunables:
        return False
    return name is None or old.choose_args.get(name) == new.choose_args.get(name)


def _changed_buckets(old: CrushMap, new: CrushMap) -> list[tuple[Bucket, Bucket]]:
    """Buckets that are in both maps and differ. One that is gone was an item of one that differs."""
    now = {bucket.id: bucket for bucket in new.buckets}
    pairs = ((bucket, now[bucket.id]) for bucket in old.buckets if bucket.id in now)
    return [
        (before, after)
        for before, after in pairs
        if before is not after and msgspec.structs.replace(after, name=before.name) != before
    ]


def _came_empty(base: Baseline, bucket: int, touched: Mask) -> bool:
    """Touch the inputs that met a bucket while it was empty; False if all may have, because the rule starts there."""
    trace = base.trace
    for parent in base.compiled.crush.buckets:
        if bucket in parent.items:
            found = trace.draws(parent.id)
            touched[trace.drawn_for[found][trace.winner[found] == parent.items.index(bucket)]] = True
    rule = base.compiled.rules[base.rule]
    return all(getattr(step, "item", None) != bucket for step in rule.steps)


def _test_again(base: Baseline, weights: Words, touched: Mask) -> None:
    """Touch the inputs for which a device is now out and was not, or the other way round."""
    count = max(len(weights), len(base.weights))
    old, new = np.zeros(count, np.int64), np.zeros(count, np.int64)
    old[: len(base.weights)], new[: len(weights)] = base.weights, weights
    for device in np.flatnonzero(np.minimum(old, ONE) != np.minimum(new, ONE)).tolist():
        inputs = base.trace.tests(device)
        if not len(inputs):
            continue
        drawn = (hash2(base.xs[inputs], np.uint32(device)) & np.uint32(0xFFFF)).astype(np.int64)
        touched[inputs[(drawn >= old[device]) != (drawn >= new[device])]] = True


def _draw_again(base: Baseline, found: slice, before: Bucket, after: Bucket, touched: Mask, prefer: Prefer) -> None:
    """Touch the inputs for which a draw from a straw2 bucket comes out differently.

    Items that are not new and have their old weight drew what they drew, so only the winner can lose to the others,
    unless the winner's own weight fell: then all items draw again.
    """
    trace = base.trace
    was, now = dict(zip(before.items, before.weights, strict=True)), dict(zip(after.items, after.weights, strict=True))
    kept = [item for item in after.items if item in was]
    if kept != [item for item in before.items if item in now] or len(was) != len(before.items):
        touched[trace.drawn_for[found]] = True  # another order, or an item that is there twice: ties may fall otherwise
        return
    places = np.array([after.items.index(item) if item in now else -1 for item in before.items], np.int64)
    weights = np.array([now.get(item, 0) for item in before.items], np.float64)
    lost = places < 0
    fell = ~lost & (weights < np.array(before.weights))
    winners = Winners(
        xs=base.xs,
        inputs=trace.drawn_for[found],
        rs=trace.drawn_r[found],
        drawn=trace.winner_hash[found],
        winner=trace.winner[found],
        weights=np.where(lost | fell, np.inf, weights),
        places=np.where(lost | fell, -1, places),
    )
    rivals = [item for item in after.items if item not in was or now[item] > was[item]]
    _challenge(winners, after, rivals, touched, prefer)
    if lost.any():
        touched[winners.inputs[lost.take(winners.winner)]] = True
    if fell.any():
        again = winners.some(np.flatnonzero(fell.take(winners.winner)), weights, places)
        _challenge(again, after, list(after.items), touched, prefer)


def _challenge(winners: Winners, bucket: Bucket, rivals: list[int], touched: Mask, prefer: Prefer) -> None:
    """Touch the inputs for which one of the rivals beats the winner."""
    for item in rivals if len(winners.inputs) else ():
        at = bucket.items.index(item)
        touched[winners.inputs[beats(winners, item, bucket.weights[at], at, prefer)]] = True
