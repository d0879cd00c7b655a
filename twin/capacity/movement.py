"""What a change moves: which shards of which placement groups, from where to where, and what it costs in safety."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from twin.capacity.cluster import Cluster, PoolUse
from twin.crush.map import NONE
from twin.crush.osdmap import OsdMap, Pool
from twin.crush.pools import NOBODY, Placed, place
from twin.table import Table

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

    ``whole``: complete copies or shards from the moment of the change until its recovery has finished; ``whole_before``
    and ``whole_after``: at other times; ``needed``: what reading takes (1, or the data shards). ``by_log``: the PG's log
    reaches back to its birth, so that Ceph recovers by it instead of backfilling. ``driver``: the OSD that runs its
    recovery (``NOBODY``: none can).
    """

    pool: Ints
    pg: Ints
    size: Ints
    min_size: Ints
    needed: Ints
    whole_before: Ints
    whole: Ints
    whole_after: Ints
    by_log: Flags
    driver: Ints


class Movement(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What one change moves.

    ``shards_ideal`` and ``bytes_ideal``: what must move whatever the algorithm, see ``ideal``. ``pgs_at_min_size``: PGs
    that the change leaves with exactly min_size whole copies for a while, the next loss stops their IO;
    ``pgs_under_min_size``: with fewer, their IO stops at once; ``pgs_lost``: too few to read anything ever again.
    ``shards_degraded`` and ``shards_misplaced`` add up to ``shards_moved``.
    """

    moves: Moves
    groups: Groups
    placed_before: dict[int, Placed]
    placed_after: dict[int, Placed]
    shards_moved: int
    shards_ideal: int
    bytes_moved: int
    bytes_ideal: int
    pgs_changed: int
    pgs_at_min_size: int
    pgs_under_min_size: int
    pgs_lost: int
    shards_degraded: int
    shards_misplaced: int
    osds_lost: tuple[int, ...]

    def table(self) -> Table:
        """List every shard that moves."""
        moves = self.moves
        return Table(
            {
                "pool": moves.pool,
                "pg": moves.pg,
                "from": moves.source,
                "to": moves.target,
                "bytes": moves.size_bytes,
                "objects": moves.objects,
                "degraded": moves.degraded,
            },
            {"bytes": "bytes"},
            title="Shards that move",
        )


def place_all(osdmap: OsdMap) -> dict[int, Placed]:
    """Place every pool of a map, by pool id."""
    return {pool.id: place(osdmap, pool.id) for pool in osdmap.pools}


def move(
    before: Cluster,
    after: Cluster,
    placed_before: Mapping[int, Placed] | None = None,
    placed_after: Mapping[int, Placed] | None = None,
    emptied: Sequence[int] = (),
) -> Movement:
    """Compare two placements of the same pools. ``emptied``: OSDs that stay but whose disk is new.

    Placements that the caller has are used as they are; others are computed. A replicated pool's copies are compared as
    sets (one that only changes its rank does not move), an erasure-coded pool's shards by position.
    """
    first = dict(placed_before) if placed_before is not None else place_all(before.osdmap)
    second = dict(placed_after) if placed_after is not None else place_all(after.osdmap)
    uses = {use.pool: use for use in before.uses}
    alive = {osd.id for osd in after.osdmap.osds if osd.up} - set(emptied)
    kept = np.array(sorted(alive), np.int64)
    found = [
        _of_pool(pool, uses.get(pool.id), first[pool.id], second[pool.id], kept, np.array(emptied, np.int64))
        for pool in sorted(before.osdmap.pools, key=lambda pool: pool.id)
        if pool.id in second
    ]
    moves = Moves(**{name: _joined([part[0] for part in found], name) for name in Moves.__struct_fields__})
    groups = Groups(**{name: _joined([part[1] for part in found], name) for name in Groups.__struct_fields__})
    shards_ideal, bytes_ideal = ideal(before, first, second, emptied)
    less = groups.whole < groups.whole_before
    return Movement(
        moves=moves,
        groups=groups,
        placed_before=first,
        placed_after=second,
        shards_moved=len(moves.pg),
        shards_ideal=shards_ideal,
        bytes_moved=int(moves.size_bytes.sum()),
        bytes_ideal=bytes_ideal,
        pgs_changed=len(np.unique(moves.pool * (1 << 32) + moves.pg)),
        pgs_at_min_size=int((less & (groups.whole == groups.min_size)).sum()),
        pgs_under_min_size=int((less & (groups.whole < groups.min_size)).sum()),
        pgs_lost=int((less & (groups.whole < groups.needed)).sum()),
        shards_degraded=int(moves.degraded.sum()),
        shards_misplaced=int((~moves.degraded).sum()),
        osds_lost=tuple(sorted({osd.id for osd in before.osdmap.osds if osd.up} - alive)),
    )


def ideal(
    before: Cluster, first: Mapping[int, Placed], second: Mapping[int, Placed], emptied: Sequence[int] = ()
) -> tuple[int, int]:
    """Count the shards, and their bytes, that must move whatever the algorithm.

    Those that lay on OSDs that hold nothing afterwards (or whose disk was emptied) and find another place, or those that
    arrive on OSDs that held nothing before, whichever are more; a change with neither (other weights, other rules) must
    move at least what the OSDs gain, each on balance.
    """
    uses = {use.pool: use for use in before.uses}
    pools = [pool for pool in before.osdmap.pools if pool.id in second]
    placed = (*first.values(), *second.values())
    most = max((int(one.up[one.up != NONE].max(initial=-1)) for one in placed), default=-1) + 1
    ones = {pool.id: np.ones(pool.pg_num) for pool in pools}
    sizes = {pool.id: shard_bytes(pool, uses.get(pool.id)).astype(np.float64) for pool in pools}
    empty = np.zeros(most, np.bool_)
    empty[[osd for osd in emptied if osd < most]] = True
    there = (_held(first, ones, most), _held(second, ones, most))
    counted = [
        _least(_held(first, weight, most), _held(second, weight, most), there, empty) for weight in (ones, sizes)
    ]
    return round(counted[0]), round(counted[1])


def shard_bytes(pool: Pool, use: PoolUse | None) -> Ints:
    """Compute the bytes of one shard or copy of each PG: int64, shape (pg_num,); a PG's bytes / data shards, up."""
    if use is None:
        return np.zeros(pool.pg_num, np.int64)
    return -(-use.pg_bytes // pool.data_shards)


def _held(
    placed: Mapping[int, Placed], weight: Mapping[int, npt.NDArray[np.float64]], most: int
) -> npt.NDArray[np.float64]:
    """The shards on each OSD, weighted by PG: float64, shape (most,)."""
    held = np.zeros(most)
    for pool, one in placed.items():
        if pool in weight:
            there = one.up != NONE
            rows = np.broadcast_to(weight[pool][:, None], one.up.shape)
            held += np.bincount(one.up[there], weights=rows[there], minlength=most)
    return held


def _least(
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    there: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    empty: Flags,
) -> float:
    """What must move, in shards or bytes; ``there``: shards on each OSD before and after."""
    left = (there[0] > 0) & ((there[1] == 0) | empty)
    new = (there[1] > 0) & ((there[0] == 0) | empty)
    if left.any() or new.any():
        homeless = max(0.0, float(first.sum() - second.sum()))
        return max(float(first[left].sum()) - homeless, float(second[new].sum()))
    return float(np.maximum(second - first, 0.0).sum())


def _joined(parts: Sequence[Moves] | Sequence[Groups], name: str) -> npt.NDArray[np.generic]:
    kind = np.bool_ if name in ("degraded", "by_log") else np.int64
    return np.concatenate([np.zeros(0, kind), *(getattr(part, name).astype(kind) for part in parts)])


def _of_pool(
    pool: Pool, use: PoolUse | None, first: Placed, second: Placed, alive: Ints, emptied: Ints
) -> tuple[Moves, Groups]:
    """The moves and groups of one pool."""
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
    pgs = np.nonzero(changed | (whole < before))[0]
    full = np.full(len(pgs), 1, np.int64)
    groups = Groups(
        pool=full * pool.id,
        pg=pgs.astype(np.int64),
        size=full * pool.size,
        min_size=full * pool.min_size,
        needed=full * pool.data_shards,
        whole_before=before[pgs],
        whole=whole[pgs],
        whole_after=np.maximum((new != NONE).sum(axis=1)[pgs], 0),
        by_log=by_log[pgs],
        driver=_drivers(old, old_safe, second.primary[:groups_both].astype(np.int64), by_log, use)[pgs],
    )
    return moves, groups


def _compared(pool: Pool, old: Ints, new: Ints) -> tuple[Flags, Ints]:
    """Which entries of ``new`` are shards that arrive, and which OSD each replaces (``NOWHERE``: none)."""
    if pool.kind == "erasure":
        comes = (new != old) & (new != NONE)
        return comes, np.where(old == NONE, NOWHERE, old)
    comes = ~(new[:, :, None] == old[:, None, :]).any(axis=2) & (new != NONE)
    leaves = _leaves(pool, old, new)
    leavers = np.take_along_axis(np.where(leaves, old, NOWHERE), np.argsort(~leaves, axis=1, kind="stable"), axis=1)
    rank = np.clip(np.cumsum(comes, axis=1) - 1, 0, max(0, leavers.shape[1] - 1))
    return comes, np.take_along_axis(leavers, rank, axis=1)


def _leaves(pool: Pool, old: Ints, new: Ints) -> Flags:
    """Which entries of ``old`` are not where they were."""
    if pool.kind == "erasure":
        return (old != new) & (old != NONE)
    return ~(old[:, :, None] == new[:, None, :]).any(axis=2) & (old != NONE)


def _logged(pool: Pool, use: PoolUse | None) -> Flags:
    """Which PGs have a log that reaches back to their birth; unknown counts as no (ten thousand writes trim it)."""
    if use is None or use.pg_log_start is None or use.pg_version is None:
        return np.zeros(pool.pg_num, np.bool_)
    return (use.pg_log_start == 0) & (use.pg_version > 0)


FORCE_PRIMARY_OBJECTS = 100
"""A new primary that lacks more entries leaves the lead to an OSD that has them.

Source: ``osd_force_auth_primary_missing_objects`` of Ceph 16.2.
"""


def _drivers(old: Ints, old_safe: Flags, primary: Ints, by_log: Flags, use: PoolUse | None) -> Ints:
    """Which OSD runs the recovery of each PG.

    The new primary if it has the data, or can fetch the little it lacks by the log; otherwise the first of the old OSDs
    that is still there. Source: ``PeeringState::calc_replicated_acting`` of Ceph 16.2, seen so in tests/real/test_growth.
    """
    has = ((old == primary[:, None]) & old_safe).any(axis=1)
    version = use.pg_version[: len(old)] if use is not None and use.pg_version is not None else np.zeros(len(old))
    leads = (has | (by_log & (version <= FORCE_PRIMARY_OBJECTS))) & (primary != NOBODY)
    survivor = np.take_along_axis(old, old_safe.argmax(axis=1)[:, None], axis=1)[:, 0]
    survivor = np.where(old_safe.any(axis=1) & (primary != NOBODY), survivor, NOBODY)
    return np.where(leads & old_safe.any(axis=1), primary, survivor)
