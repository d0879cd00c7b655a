"""Which shards of one pool move, and how its placement groups stand meanwhile: one row for each."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from twin.capacity.cluster import PoolUse
from twin.crush.map import NONE
from twin.crush.osdmap import Pool
from twin.crush.pools import NOBODY, Placed

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

NOWHERE = -1
"""The source of a shard that fills a hole: no OSD held it before."""


class Moves(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One row for each shard that moves, in order of pool, PG and position.

    ``source``: the OSD whose place ``target`` takes (``NOWHERE``: a hole, or a disk that was emptied); ``size_bytes``:
    the shard's own bytes; ``degraded``: the PG has one shard too few until this one is complete. All arrays int64 but
    ``degraded`` (bool), shape (shards moved,).
    """

    pool: Ints
    pg: Ints
    position: Ints
    source: Ints
    target: Ints
    size_bytes: Ints
    objects: Ints
    degraded: Flags


class Groups(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One row for each PG that changes or has lost a copy, in order of pool and PG. int64, flags bool, shape (PGs,).

    ``whole``: complete copies or shards from the moment of the change until its recovery has finished;
    ``whole_before`` and ``whole_after``: at other times; ``needed``: what reading takes (1, or the data shards).
    ``survivors``: copies or shards that still exist, also on OSDs that the PG leaves.
    ``serving``: how many OSDs of the PG take part in its IO while it recovers (its acting set, which Ceph compares with
    min_size; OSDs that recover by the log are members); ``serving_first``: right after the change, as long as lost OSDs
    are waited for. ``by_log``: the PG's log reaches back to its birth, so that Ceph recovers by it instead of
    backfilling. ``driver``: the OSD that runs its recovery (``NOBODY``: none can).
    """

    pool: Ints
    pg: Ints
    objects: Ints
    size: Ints
    min_size: Ints
    needed: Ints
    whole_before: Ints
    whole: Ints
    whole_after: Ints
    survivors: Ints
    serving: Ints
    serving_first: Ints
    by_log: Flags
    driver: Ints


def shard_bytes(pool: Pool, use: PoolUse | None) -> Ints:
    """Compute the bytes of one shard or copy of each PG: int64, shape (pg_num,); a PG's bytes / data shards, up."""
    if use is None:
        return np.zeros(pool.pg_num, np.int64)
    return -(-use.pg_bytes // pool.data_shards)


def _ints(parts: Sequence[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *(part.astype(np.int64) for part in parts)])


def _flags(parts: Sequence[Flags]) -> Flags:
    return np.concatenate([np.zeros(0, np.bool_), *parts])


def all_moves(parts: Sequence[Moves]) -> Moves:
    """Put the moves of all pools together."""
    return Moves(
        pool=_ints([part.pool for part in parts]),
        pg=_ints([part.pg for part in parts]),
        position=_ints([part.position for part in parts]),
        source=_ints([part.source for part in parts]),
        target=_ints([part.target for part in parts]),
        size_bytes=_ints([part.size_bytes for part in parts]),
        objects=_ints([part.objects for part in parts]),
        degraded=_flags([part.degraded for part in parts]),
    )


def all_groups(parts: Sequence[Groups]) -> Groups:
    """Put the groups of all pools together."""
    return Groups(
        pool=_ints([part.pool for part in parts]),
        pg=_ints([part.pg for part in parts]),
        objects=_ints([part.objects for part in parts]),
        size=_ints([part.size for part in parts]),
        min_size=_ints([part.min_size for part in parts]),
        needed=_ints([part.needed for part in parts]),
        whole_before=_ints([part.whole_before for part in parts]),
        whole=_ints([part.whole for part in parts]),
        whole_after=_ints([part.whole_after for part in parts]),
        survivors=_ints([part.survivors for part in parts]),
        serving=_ints([part.serving for part in parts]),
        serving_first=_ints([part.serving_first for part in parts]),
        by_log=_flags([part.by_log for part in parts]),
        driver=_ints([part.driver for part in parts]),
    )


def of_pool(
    pool: Pool, use: PoolUse | None, first: Placed, second: Placed, alive: Ints, emptied: Ints
) -> tuple[Moves, Groups]:
    """Compare two placements of a pool; ``alive``: the OSDs whose data is there, ``emptied``: those with a new disk."""
    old = np.where(np.isin(first.up, emptied), NONE, first.up).astype(np.int64)
    new = second.up.astype(np.int64)
    groups_both = min(len(old), len(new))
    old, new = old[:groups_both], new[:groups_both]
    old_safe, by_log = np.isin(old, alive), _logged(pool, use)[:groups_both]
    comes, source = _compared(pool, old, new)
    source_safe = np.isin(source, alive)
    changed = comes.any(axis=1)
    by_log &= changed
    stays = old_safe & ~_leaves(pool, old, new)
    whole = np.where(by_log, stays.sum(axis=1), old_safe.sum(axis=1))
    rows, columns = np.nonzero(comes)
    objects = use.pg_objects if use is not None else np.zeros(pool.pg_num, np.int64)
    moves = Moves(
        pool=np.full(len(rows), pool.id, np.int64),
        pg=rows.astype(np.int64),
        position=columns.astype(np.int64),
        source=source[rows, columns],
        target=new[rows, columns],
        size_bytes=shard_bytes(pool, use)[rows],
        objects=objects[rows],
        degraded=by_log[rows] | ~source_safe[rows, columns],
    )
    before = (first.up[:groups_both] != NONE).sum(axis=1)
    survivors = old_safe.sum(axis=1)
    serving = np.where(by_log, _serving_by_log(pool, comes, new, use), survivors)
    pgs = np.nonzero(changed | (whole < before))[0]
    full = np.full(len(pgs), 1, np.int64)
    groups = Groups(
        pool=full * pool.id,
        pg=pgs.astype(np.int64),
        objects=objects[pgs],
        size=full * pool.size,
        min_size=full * pool.min_size,
        needed=full * pool.data_shards,
        whole_before=before[pgs],
        whole=whole[pgs],
        whole_after=(new != NONE).sum(axis=1)[pgs],
        survivors=survivors[pgs],
        serving=serving[pgs],
        serving_first=np.where(survivors < before, survivors, serving)[pgs],
        by_log=by_log[pgs],
        driver=_drivers(old, old_safe, second.primary[:groups_both].astype(np.int64), by_log, use)[pgs],
    )
    return moves, groups


def _compared(pool: Pool, old: Ints, new: Ints) -> tuple[Flags, Ints]:
    """Which entries of ``new`` are shards that arrive, and which OSD each replaces (``NOWHERE``: none)."""
    if pool.kind == "erasure":
        comes: Flags = (new != old) & (new != NONE)
        return comes, np.where(old == NONE, NOWHERE, old)
    comes = ~_within(new, old) & (new != NONE)
    leaves = _leaves(pool, old, new)
    leavers = np.take_along_axis(np.where(leaves, old, NOWHERE), np.argsort(~leaves, axis=1, kind="stable"), axis=1)
    rank = np.clip(np.cumsum(comes, axis=1) - 1, 0, max(0, leavers.shape[1] - 1))
    return comes, np.take_along_axis(leavers, rank, axis=1)


def _leaves(pool: Pool, old: Ints, new: Ints) -> Flags:
    """Which entries of ``old`` are not where they were."""
    there: Flags = old != NONE
    return there & (old != new if pool.kind == "erasure" else ~_within(old, new))


def _within(some: Ints, others: Ints) -> Flags:
    """Which entries of ``some`` are anywhere in the same row of ``others``."""
    return np.asarray((some[:, :, None] == others[:, None, :]).any(axis=2), np.bool_)


def _logged(pool: Pool, use: PoolUse | None) -> Flags:
    """Which PGs have a log that reaches back to their birth; unknown counts as no (ten thousand writes trim it)."""
    if use is None or use.pg_log_start is None or use.pg_version is None:
        return np.zeros(pool.pg_num, np.bool_)
    return np.asarray(use.pg_log_start == 0, np.bool_)


ASYNC_ENTRIES = 100
"""An OSD that lacks more entries recovers beside the acting set, as long as that keeps min_size members.

Source: ``osd_async_recovery_min_cost`` of Ceph 16.2.
"""


def _serving_by_log(pool: Pool, comes: Flags, new: Ints, use: PoolUse | None) -> Ints:
    """How many OSDs of a PG that recovers by its log take part in its IO."""
    members: Ints = (new != NONE).sum(axis=1)
    if use is None or use.pg_version is None:
        return members
    beside = np.minimum(comes.sum(axis=1), np.maximum(members - pool.min_size, 0))
    return np.asarray(np.where(use.pg_version[: len(new)] > ASYNC_ENTRIES, members - beside, members), np.int64)


FORCE_PRIMARY_OBJECTS = 100
"""A new primary that lacks more entries leaves the lead to an OSD that has them.

Source: ``osd_force_auth_primary_missing_objects`` of Ceph 16.2.
"""


def _drivers(old: Ints, old_safe: Flags, primary: Ints, by_log: Flags, use: PoolUse | None) -> Ints:
    """Which OSD runs the recovery of each PG.

    The new primary if it has the data, or can fetch the little it lacks by the log; otherwise the first of the old OSDs
    that is still there. Source: ``PeeringState::calc_replicated_acting`` of Ceph 16.2; seen in tests/real/test_growth.
    """
    has = ((old == primary[:, None]) & old_safe).any(axis=1)
    version = use.pg_version[: len(old)] if use is not None and use.pg_version is not None else np.zeros(len(old))
    leads = (has | (by_log & (version <= FORCE_PRIMARY_OBJECTS))) & (primary != NOBODY)
    survivor = np.take_along_axis(old, old_safe.argmax(axis=1)[:, None], axis=1)[:, 0]
    survivor = np.where(old_safe.any(axis=1) & (primary != NOBODY), survivor, NOBODY)
    return np.where(leads & old_safe.any(axis=1), primary, survivor)
