"""What a change moves: which shards of which placement groups, from where to where, and what it costs in safety."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from twin.capacity.cluster import Cluster
from twin.capacity.fill import place_all
from twin.capacity.moves import Groups, Moves, all_groups, all_moves, of_pool, shard_bytes
from twin.crush.delta import place_again, pool_baseline
from twin.crush.map import NONE
from twin.crush.osdmap import OsdMap
from twin.crush.pools import Placed
from twin.table import Table

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class Movement(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What one change moves.

    ``shards_ideal`` and ``bytes_ideal``: what must move whatever the algorithm, see ``ideal``. ``pgs_at_min_size``: PGs
    that the change leaves with exactly min_size serving OSDs for a while (the next loss stops their IO);
    ``pgs_under_min_size``: with fewer, their IO stops at once; ``pgs_lost``: too few copies or shards to read anything.
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


def move(
    before: Cluster,
    after: Cluster,
    placed_before: Mapping[int, Placed] | None = None,
    placed_after: Mapping[int, Placed] | None = None,
    emptied: Sequence[int] = (),
) -> Movement:
    """Compare two placements of the same pools. ``emptied``: OSDs that stay but whose disk is new.

    Placements that the caller has are used as they are; without any, the second one is computed from what differs
    between the maps (``twin.crush.delta``), not anew. A replicated pool's copies are compared as
    sets (one that only changes its rank does not move), an erasure-coded pool's shards by position.
    """
    first, second = _placements(before.osdmap, after.osdmap, placed_before, placed_after)
    uses = {use.pool: use for use in before.uses}
    alive = {osd.id for osd in after.osdmap.osds if osd.up} - set(emptied)
    kept = np.array(sorted(alive), np.int64)
    found = [
        of_pool(pool, uses.get(pool.id), first[pool.id], second[pool.id], kept, np.array(emptied, np.int64))
        for pool in sorted(before.osdmap.pools, key=lambda pool: pool.id)
        if pool.id in second
    ]
    moves = all_moves([part[0] for part in found])
    groups = all_groups([part[1] for part in found])
    shards_ideal, bytes_ideal = ideal(before, first, second, emptied)
    less = groups.serving_first < groups.whole_before
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
        pgs_at_min_size=int((less & (groups.serving_first == groups.min_size)).sum()),
        pgs_under_min_size=int((less & (groups.serving_first < groups.min_size)).sum()),
        pgs_lost=int(((groups.survivors < groups.needed) & (groups.whole_before >= groups.needed)).sum()),
        shards_degraded=int(moves.degraded.sum()),
        shards_misplaced=int((~moves.degraded).sum()),
        osds_lost=tuple(sorted({osd.id for osd in before.osdmap.osds if osd.up} - alive)),
    )


def _placements(
    before: OsdMap, after: OsdMap, first: Mapping[int, Placed] | None, second: Mapping[int, Placed] | None
) -> tuple[dict[int, Placed], dict[int, Placed]]:
    """Both placements of every pool."""
    if first is None and second is None:
        bases = {pool.id: pool_baseline(before, pool.id) for pool in before.pools}
        again = {pool.id: place_again(bases[pool.id], after) for pool in after.pools if pool.id in bases}
        return {pool: base.placed for pool, base in bases.items()}, again
    return (
        dict(first) if first is not None else place_all(before),
        dict(second) if second is not None else place_all(after),
    )


def ideal(
    before: Cluster, first: Mapping[int, Placed], second: Mapping[int, Placed], emptied: Sequence[int] = ()
) -> tuple[int, int]:
    """Count the shards, and their bytes, that must move whatever the algorithm.

    Those that lay on OSDs that hold nothing afterwards (or whose disk was emptied) and find another place, or those
    that arrive on OSDs that held nothing before, whichever are more; a change with neither (other weights, other rules)
    must move at least what the OSDs gain, each on balance.
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


def _held(placed: Mapping[int, Placed], weight: Mapping[int, Floats], most: int) -> Floats:
    """The shards on each OSD, weighted by PG: float64, shape (most,)."""
    held = np.zeros(most)
    for pool, one in placed.items():
        if pool in weight:
            there = one.up != NONE
            rows = np.broadcast_to(weight[pool][:, None], one.up.shape)
            held += np.bincount(one.up[there], weights=rows[there], minlength=most)
    return held


def _least(
    first: Floats,
    second: Floats,
    there: tuple[Floats, Floats],
    empty: Flags,
) -> float:
    """What must move, in shards or bytes; ``there``: shards on each OSD before and after."""
    left = (there[0] > 0) & ((there[1] == 0) | empty)
    new = (there[1] > 0) & ((there[0] == 0) | empty)
    if left.any() or new.any():
        homeless = max(0.0, float(first.sum() - second.sum()))
        return max(float(first[left].sum()) - homeless, float(second[new].sum()))
    return float(np.maximum(second - first, 0.0).sum())
