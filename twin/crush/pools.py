"""From a pool's placement groups to the OSDs that hold them: CRUSH, and what Ceph does to its result."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from twin.crush.compile import Compiled, compile_map
from twin.crush.compiled import Prefer, map_best
from twin.crush.hashing import hash2
from twin.crush.map import NONE, ONE, CrushMap
from twin.crush.osdmap import OsdMap, Pool

Ids = NDArray[np.int32]
NOBODY = -1
"""The primary of a placement group that no OSD holds."""


class Placed(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Where one pool's placement groups are.

    ``up``: int32, shape (pg_num, size): the OSDs of each, ``NONE`` where one is missing (a replicated pool's are at the
    end, an erasure-coded pool's stay at the shard that is missing). ``primary``: int32, shape (pg_num,): the OSD that
    serves it, ``NOBODY`` if there is none.
    """

    pool: int
    up: Ids
    primary: Ids


def place(osdmap: OsdMap, pool: int, compiled: Compiled | None = None, prefer: Prefer = "auto") -> Placed:
    """Compute the up set and primary of every placement group of a pool, as every Ceph daemon and client does.

    ``compiled``: the map's own ``compile_map(osdmap.crush)``, if the caller has it at hand.

    Raises: KeyError if the map has no such pool; InputError if its CRUSH map cannot be used.

    Source: ``OSDMap::_pg_to_up_acting_osds`` of Ceph 16.2, without pg_temp.
    """
    found = pool_of(osdmap, pool)
    seeds = placement_seeds(found)
    raw = map_best(
        compiled or compile_map(osdmap.crush),
        found.rule,
        seeds,
        found.size,
        reweights(osdmap),
        choose_args_of(osdmap.crush, pool),
        prefer=prefer,
    )
    return settle(osdmap, found, seeds, raw)


def pool_of(osdmap: OsdMap, pool: int) -> Pool:
    """Return a pool by its id. Raises: KeyError if there is none."""
    for found in osdmap.pools:
        if found.id == pool:
            return found
    raise KeyError(f"no pool {pool}; there are: {', '.join(str(found.id) for found in osdmap.pools) or 'none'}")


def osd_pgs(placed: Sequence[Placed]) -> dict[int, int]:
    """Count the placement groups of all these pools on each OSD that has one, by OSD id."""
    held = np.concatenate([one.up[one.up != NONE] for one in placed]) if placed else np.zeros(0, np.int32)
    ids, counts = np.unique(held, return_counts=True)
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))


def placement_seeds(pool: Pool) -> NDArray[np.uint32]:
    """Compute what CRUSH hashes for each placement group: uint32, shape (pg_num,).

    Source: ``pg_pool_t::raw_pg_to_pps``: while pgp_num lags behind pg_num, the groups that were split stay together.
    """
    groups = np.arange(pool.pg_num, dtype=np.uint32)
    mask = np.uint32((1 << (pool.pgp_num - 1).bit_length()) - 1)
    folded = np.where(groups & mask < pool.pgp_num, groups & mask, groups & (mask >> np.uint32(1)))
    number = np.full(pool.pg_num, pool.id & 0xFFFFFFFF, np.uint32)
    return hash2(folded, number) if pool.hashpspool else folded + number


def reweights(osdmap: OsdMap) -> NDArray[np.uint32]:
    """List the reweights by OSD id: uint32, shape (max_osd,), 16.16; 0 for ids that do not exist."""
    weights = np.zeros(_osd_count(osdmap), np.uint32)
    for osd in osdmap.osds:
        weights[osd.id] = osd.reweight
    return weights


def choose_args_of(crush: CrushMap, pool: int) -> str | None:
    """Return the name of the weight-set that counts for a pool: its own, else the default one, else None."""
    return next((name for name in (str(pool), "-1") if name in crush.choose_args), None)


def settle(osdmap: OsdMap, pool: Pool, seeds: NDArray[np.uint32], raw: Ids) -> Placed:
    """Make the up set and the primaries of what CRUSH gave: int32, shape (pg_num, size)."""
    exists, is_up, affinity = _states(osdmap)
    shifts = pool.kind == "replicated"
    up = _upmapped(osdmap, pool, _keep(raw, _at(exists, raw), shifts))
    up = _keep(up, _at(is_up, up), shifts)
    if bool((affinity != ONE).any()):
        up, primary = _with_affinity(up, seeds, affinity, shifts)
    else:
        primary = _first(up)
    return Placed(pool=pool.id, up=up, primary=primary)


def _osd_count(osdmap: OsdMap) -> int:
    return max(osdmap.max_osd, max((osd.id + 1 for osd in osdmap.osds), default=0))


def _states(osdmap: OsdMap) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """Whether an OSD exists, whether it is up, its primary affinity: by id."""
    count = max(_osd_count(osdmap), 1)
    exists, is_up, affinity = np.zeros(count, np.bool_), np.zeros(count, np.bool_), np.full(count, ONE, np.int64)
    for osd in osdmap.osds:
        exists[osd.id], is_up[osd.id], affinity[osd.id] = True, osd.up, osd.primary_affinity
    return exists, is_up, affinity


def _at(flags: NDArray[np.bool_], osds: Ids) -> NDArray[np.bool_]:
    """Look the flag of each OSD up; False for ids beyond the map's and for holes."""
    known = (osds >= 0) & (osds < len(flags))
    return known & flags[np.where(known, osds, 0)]


def _keep(osds: Ids, wanted: NDArray[np.bool_], shifts: bool) -> Ids:
    """Drop the OSDs that are not wanted: those behind them move up, or a hole stays."""
    kept = np.where(wanted, osds, np.int32(NONE))
    if not shifts or bool(wanted.all()):
        return kept
    order = np.argsort(~wanted, axis=1, kind="stable")
    return np.take_along_axis(kept, order, axis=1)


def _first(up: Ids) -> Ids:
    there = up != NONE
    first = np.take_along_axis(up, there.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(there.any(axis=1), first, np.int32(NOBODY))


def _upmapped(osdmap: OsdMap, pool: Pool, raw: Ids) -> Ids:
    """Apply the exceptions that the balancer or an operator made.

    Source: ``OSDMap::_apply_upmap``: a whole result is ignored if one of its OSDs is out, a pair if its target is out
    or already there.
    """
    pgs = {pg for number, pg in (*osdmap.upmaps, *osdmap.upmap_items) if number == pool.id and pg < pool.pg_num}
    if not pgs:
        return raw
    out = reweights(osdmap) == 0
    made = raw.copy()
    for pg in sorted(pgs):
        row = made[pg].tolist()
        whole = osdmap.upmaps.get((pool.id, pg), ())
        if whole and not any(_is_out(osd, out) for osd in whole):
            row = list(whole)[: pool.size] + [NONE] * (pool.size - len(whole))
        for source, target in osdmap.upmap_items.get((pool.id, pg), ()):
            if target not in row and source in row and not _is_out(target, out):
                row[row.index(source)] = target
        made[pg] = row
    return made


def _is_out(osd: int, out: NDArray[np.bool_]) -> bool:
    return 0 <= osd < len(out) and bool(out[osd])


def _with_affinity(up: Ids, seeds: NDArray[np.uint32], affinity: NDArray[np.int64], shifts: bool) -> tuple[Ids, Ids]:
    """Pick primaries by affinity: an OSD is passed over as often as its affinity is below one.

    Source: ``OSDMap::_apply_primary_affinity``; if all are passed over, the first one serves after all.
    """
    there = up != NONE
    wanted = affinity[np.where(there, up, 0)]
    drawn = hash2(np.broadcast_to(seeds[:, None], up.shape).ravel(), up.ravel().astype(np.uint32))
    taken = there & ((drawn.reshape(up.shape) >> np.uint32(16)).astype(np.int64) < wanted)
    picks = np.where(taken.any(axis=1), taken.argmax(axis=1), there.argmax(axis=1))
    primary = np.where(there.any(axis=1), np.take_along_axis(up, picks[:, None], axis=1)[:, 0], np.int32(NOBODY))
    if not shifts:
        return up, primary
    places = np.arange(up.shape[1])
    front = np.where(places == picks[:, None], -1, places)
    return np.take_along_axis(up, np.argsort(front, axis=1, kind="stable"), axis=1), primary
