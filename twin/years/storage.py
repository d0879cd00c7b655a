"""What the outages of a site do to a replicated or erasure-coded pool, placement group by placement group."""

from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from core.errors import InputError
from twin.failures.renewal import Ints, Outages, joined_ends
from twin.years.layout import Placement
from twin.years.site import Site, spans_of
from twin.years.sweep import Crossings, Series, crossings
from twin.years.timeline import Timeline, expand

SPANS_MAX = 5_000_000_000
"""More outages of shards are refused: at a few millions a second they would take half an hour. Source: ours."""
CHUNK_SPANS = 2_000_000
"""So many outages of shards are swept at once, which bounds the memory. Source: ours; about 200 MB."""


class Pool(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A pool and how its lost shards are made again.

    ``placement``: int32 array, shape (groups, size), the disk number of each shard; negative or beyond the disks: none
    (a hole). A group serves with ``min_size`` shards up or more, and is lost with fewer than ``needed`` shards left
    (1 for copies, k for erasure coding). ``out_after_ms``: so long a disk may be away before its shards are made again
    elsewhere. A backfill moves ``shard_bytes`` at ``backfill_bytes_per_s``; a disk has so many ``backfills`` at once.

    Source: ``backfill_bytes_per_s``: an object of 4 MiB every 0.1 s (Ceph's ``osd_recovery_sleep_hdd``, measured on a
    real cluster to be what limits it); ``backfills`` and ``out_after_ms``: Ceph's defaults of ``osd_max_backfills`` and
    ``mon_osd_down_out_interval``; ``shard_bytes``: ours, 60 % of 16 TB in 100 shards.
    """

    placement: Placement
    min_size: int
    needed: int = 1
    shard_bytes: int = 100_000_000_000
    backfill_bytes_per_s: int = 41_943_040
    backfills: int = 1
    out_after_ms: int = 600_000

    @property
    def backfill_ms(self) -> int:
        """How long one shard takes to be made again."""
        return -(-self.shard_bytes * 1_000 // self.backfill_bytes_per_s)


class StorageYears(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Times are sums over all placement groups in milliseconds; they add up to groups x duration.

    ``clean``: all shards up; ``degraded``: some away, but the group serves; ``inactive``: fewer than ``min_size`` up;
    ``lost``: from the moment of a loss on. ``any_inactive_ms``: time in which at least one group did not serve.
    ``inactive_groups``: how many ever did not. ``lost_groups``: their numbers and ``lost_ms`` when, by time.
    ``degraded_daily`` and ``inactive_daily``: groups in that state on average, for each of the ``bin_ms`` bins.
    """

    groups: int
    duration_ms: int
    clean_ms: int
    degraded_ms: int
    inactive_ms: int
    lost_total_ms: int
    inactive_groups: int
    inactive_spans: int
    any_inactive_ms: int
    longest_inactive_ms: int
    lost_groups: Ints
    lost_ms: Ints
    rebuilt_shards: int
    bin_ms: int
    degraded_daily: npt.NDArray[np.float64]
    inactive_daily: npt.NDArray[np.float64]


class _Shards(msgspec.Struct, frozen=True, eq=False):
    """What can happen to the disks, sorted by disk, then start. ``kind``: 0 held, 1 away, 2 gone (``_HELD`` ...)."""

    first: npt.NDArray[np.intp]
    start_ms: Ints
    end_ms: Ints
    kind: npt.NDArray[np.int8]


_HELD, _AWAY, _GONE = 0, 1, 2


class _Rebuild(msgspec.Struct, frozen=True, eq=False):
    """How shards are made again elsewhere: the waves after a disk and after a node, int32, shape (groups, size).

    ``of_node``: whether there is another node that has none of the group's shards; ``of_disk``: or another disk in the
    same node. Without, a shard waits until its node comes back, or its disk is replaced.
    """

    disk_wave: npt.NDArray[np.int32]
    node_wave: npt.NDArray[np.int32]
    of_node: bool
    of_disk: bool

    def part(self, groups: "npt.NDArray[np.intp] | slice") -> "_Rebuild":
        return _Rebuild(self.disk_wave[groups], self.node_wave[groups], self.of_node, self.of_disk)


def storage_years(site: Site, timeline: Timeline, pool: Pool) -> StorageYears:
    """Sweep all placement groups over the whole time. Cost: O(s log s) for s outages of shards, in bounded chunks.

    A disk that is away comes back with its data, at latest its shards are made again elsewhere; one with its whole rack
    or power unit is waited for (Ceph's ``mon_osd_down_out_subtree_limit``). A failed disk's data are gone until made
    again. Not modelled: a group whose shard was made again elsewhere keeps its old neighbours, the stand-in does not
    fail, and a rebuild does not wait for a group that is inactive.

    Raises: InputError if the pool does not fit the site.
    """
    _check(site, pool)
    shards = _outages_of_disks(site, timeline)
    rebuild = _rebuild(site, pool)
    lost = _lost(pool, shards, rebuild, timeline.duration_ms)
    found = Series(timeline.duration_ms)
    spans: list[Crossings] = []
    degraded_ms = rebuilt = 0
    size = pool.placement.shape[1]
    short = size - pool.min_size + 1
    for low, high in _chunks(pool, shards):
        group, start_ms, end_ms, made_again = _spans(pool, shards, rebuild, low, high, timeline.duration_ms, gone=False)
        rebuilt += made_again
        away, unserved = crossings(group, start_ms, end_ms, timeline.duration_ms, (1, short), lost)
        degraded_ms += int(away.end_ms.sum() - away.start_ms.sum())
        found.add_degraded(away)
        found.add_inactive(unserved)
        spans.append(unserved)
    return _told(timeline.duration_ms, pool, lost, spans, found, degraded_ms, rebuilt)


def _check(site: Site, pool: Pool) -> None:
    size = pool.placement.shape[1] if pool.placement.ndim == 2 else 0
    problems = []
    if not size or not len(pool.placement):
        problems.append("placement: needed: an array of placement groups x shards, neither 0")
    if size and not 1 <= pool.needed <= pool.min_size <= size:
        problems.append(f"min_size: {pool.min_size}: allowed: {pool.needed} to {size}")
    if min(pool.shard_bytes, pool.backfill_bytes_per_s, pool.backfills) < 1 or pool.out_after_ms < 0:
        problems.append("shard_bytes, backfill_bytes_per_s, backfills: allowed: from 1 on; out_after_ms: from 0 on")
    if not site.disks:
        problems.append("disks: there is none")
    if problems:
        raise InputError(problems)


def _outages_of_disks(site: Site, timeline: Timeline) -> _Shards:
    """Bring what happens to disks and to their nodes together, by disk and start."""
    parts: list[tuple[Ints, Ints, Ints]] = []
    for outages in (timeline.node_held, timeline.node_alone):
        disks, at = _of_nodes(site, outages)
        parts.append((disks, outages.start_ms[at], outages.end_ms[at]))
    gone = timeline.by_kind["disk"]
    parts.append((gone.component, gone.start_ms, gone.end_ms))
    disk, start_ms, end_ms = (np.concatenate([part[i] for part in parts]) for i in range(3))
    kinds = np.asarray([_HELD, _AWAY, _GONE], dtype=np.int8)
    kind = np.repeat(kinds, [len(part[0]) for part in parts])
    order = np.lexsort((kind, start_ms, disk))
    return _Shards(spans_of(disk[order], site.disks), start_ms[order], end_ms[order], kind[order])


def _of_nodes(site: Site, outages: Outages) -> tuple[Ints, Ints]:
    """Disk numbers and the outage of each, for outages of nodes."""
    members = np.argsort(site.disk_node, kind="stable")
    ordered = site.disk_node[members]
    first = np.searchsorted(ordered, outages.component)
    counts = np.searchsorted(ordered, outages.component, side="right") - first
    return members[expand(first, counts)].astype(np.int64), np.repeat(np.arange(len(counts)), counts)


def _rebuild(site: Site, pool: Pool) -> _Rebuild:
    """In which wave of backfills a shard is made again after its disk, and after its node, is taken out.

    A backfill takes a place on its source and one on its target, of ``backfills`` on each other disk.
    """
    flat = pool.placement.ravel()
    held = _present(flat, site.disks)
    waves: list[npt.NDArray[np.int32]] = []
    for owner, others in ((flat, site.disks - 1), (None, site.disks)):
        keys = np.where(held, site.disk_node[np.where(held, flat, 0)], -1) if owner is None else owner
        count = np.bincount(keys[held].astype(np.int64), minlength=1) if held.any() else np.zeros(1, np.int64)
        away = 0 if owner is not None else int(np.bincount(site.disk_node).max())
        lanes = max(1, (others - away) * pool.backfills // 2)
        if int(count.max()) <= lanes:
            waves.append(np.zeros(pool.placement.shape, dtype=np.int32))
            continue
        order = np.argsort(keys, kind="stable")
        rank = np.empty(len(flat), dtype=np.int64)
        rank[order] = np.arange(len(flat)) - np.searchsorted(keys[order], keys[order])
        waves.append((rank // lanes).astype(np.int32).reshape(pool.placement.shape))
    used = np.zeros(site.nodes, dtype=np.bool_)
    used[site.disk_node[np.bincount(flat[held], minlength=site.disks) > 0]] = True
    of_node = int(used.sum()) > pool.placement.shape[1] or not _apart(site, pool)
    several = int(np.bincount(site.disk_node).max()) > 1
    return _Rebuild(waves[0], waves[1], of_node, of_node or several)


def _apart(site: Site, pool: Pool) -> bool:
    """Whether no two shards of any group lie on one node."""
    held = _present(pool.placement, site.disks)
    nodes = np.sort(np.where(held, site.disk_node[np.where(held, pool.placement, 0)], -1), axis=1)
    return not ((nodes[:, 1:] == nodes[:, :-1]) & (nodes[:, 1:] >= 0)).any()


def _present(disk: npt.NDArray[np.int32], disks: int) -> npt.NDArray[np.bool_]:
    return (disk >= 0) & (disk < disks)


def _chunks(pool: Pool, shards: _Shards) -> list[tuple[int, int]]:
    """Ranges of placement groups with about ``CHUNK_SPANS`` outages each."""
    counts = np.diff(shards.first)
    disks = np.where(_present(pool.placement, len(counts)), pool.placement, 0)
    total = np.cumsum(counts[disks].sum(axis=1) + 1)
    if total[-1] > SPANS_MAX:
        raise InputError([f"outages of shards: {int(total[-1]):,}; allowed: {SPANS_MAX:,}; take fewer nodes or years"])
    pieces = int(total[-1]) // CHUNK_SPANS + 1
    cuts = np.searchsorted(total, np.arange(1, pieces) * CHUNK_SPANS).tolist()
    edges = sorted({0, *cuts, len(total)})
    return list(pairwise(edges))


def _spans(
    pool: Pool,
    shards: _Shards,
    rebuild: _Rebuild,
    low: int,
    high: int,
    duration_ms: int,
    gone: bool,
) -> tuple[Ints, Ints, Ints, int]:
    """When shards of the groups from ``low`` to ``high`` are not there: group, start, end, and how many were remade.

    Of one shard the spans are joined. ``gone``: only those in which its data do not exist.
    """
    disk = pool.placement[low:high].ravel()
    held = _present(disk, len(shards.first) - 1)
    disk = np.where(held, disk, 0)
    counts = np.where(held, np.diff(shards.first)[disk], 0)
    at = expand(shards.first[disk], counts)
    shard = np.repeat(np.arange(len(disk), dtype=np.int64), counts)
    kind, start_ms, end_ms = shards.kind[at], shards.start_ms[at], shards.end_ms[at]
    if gone:
        chosen = kind == _GONE
        shard, kind, start_ms, end_ms = shard[chosen], kind[chosen], start_ms[chosen], end_ms[chosen]
    some = rebuild.part(slice(low, high))
    wave = np.where(kind == _GONE, some.disk_wave.ravel()[shard], some.node_wave.ravel()[shard])
    wait_ms = pool.out_after_ms + (wave.astype(np.int64) + 1) * pool.backfill_ms
    again_ms = np.where((kind == _GONE) & ~np.bool_(rebuild.of_disk), end_ms, start_ms) + wait_ms
    remade = (kind == _GONE) | ((kind == _AWAY) & (end_ms > again_ms) & np.bool_(rebuild.of_node))
    end_ms = np.minimum(np.where(remade, again_ms, end_ms), duration_ms)
    if not gone and not held.all():
        hole = np.flatnonzero(~held)
        shard, start_ms = np.append(shard, hole), np.append(start_ms, np.zeros(len(hole), np.int64))
        end_ms = np.append(end_ms, np.full(len(hole), duration_ms))
        order = np.argsort(shard, kind="stable")
        shard, start_ms, end_ms = shard[order], start_ms[order], end_ms[order]
    if not len(shard):
        return shard, start_ms, end_ms, 0
    keep, ends = joined_ends(shard, start_ms, end_ms)
    return shard[keep] // pool.placement.shape[1] + low, start_ms[keep], ends, int(remade.sum())


def _lost(pool: Pool, shards: _Shards, rebuild: _Rebuild, duration_ms: int) -> Ints:
    """When each group loses its data, int64 milliseconds, shape (groups,); the largest int64 for never."""
    first = np.full(len(pool.placement), np.iinfo(np.int64).max)
    disks, size = len(shards.first) - 1, pool.placement.shape[1]
    failed = np.zeros(disks, dtype=np.bool_)
    failed[np.repeat(np.arange(disks), np.diff(shards.first))[shards.kind == _GONE]] = True
    held = _present(pool.placement, disks)
    hit = held & failed[np.where(held, pool.placement, 0)]
    worth = np.flatnonzero((hit | ~held).sum(axis=1) > size - pool.needed)
    if not len(worth):
        return first
    few = msgspec.structs.replace(pool, placement=pool.placement[worth])
    some = rebuild.part(worth)
    group, start_ms, end_ms, _ = _spans(few, shards, some, 0, len(worth), duration_ms, gone=True)
    never = np.full(len(worth), np.iinfo(np.int64).max)
    (over,) = crossings(group, start_ms, end_ms, duration_ms, (size - pool.needed + 1,), never)
    np.minimum.at(first, worth[over.group], over.start_ms)
    return first


def _told(
    duration_ms: int, pool: Pool, lost: Ints, spans: list[Crossings], found: Series, degraded_ms: int, rebuilt: int
) -> StorageYears:
    groups = len(pool.placement)
    group, start_ms, end_ms = (
        np.concatenate([getattr(part, name) for part in spans]) for name in ("group", "start_ms", "end_ms")
    )
    inactive_ms = int((end_ms - start_ms).sum())
    order = np.argsort(start_ms, kind="stable")
    any_ms = 0
    if len(start_ms):
        keep, ends = joined_ends(np.zeros(len(order), np.int64), start_ms[order], end_ms[order])
        any_ms = int((ends - start_ms[order][keep]).sum())
    gone = np.flatnonzero(lost < duration_ms)
    gone = gone[np.argsort(lost[gone], kind="stable")]
    lost_total = int((duration_ms - lost[gone]).sum())
    return StorageYears(
        groups=groups,
        duration_ms=duration_ms,
        clean_ms=groups * duration_ms - degraded_ms - lost_total,
        degraded_ms=degraded_ms - inactive_ms,
        inactive_ms=inactive_ms,
        lost_total_ms=lost_total,
        inactive_groups=len(np.unique(group)),
        inactive_spans=len(group),
        any_inactive_ms=any_ms,
        longest_inactive_ms=int((end_ms - start_ms).max(initial=0)),
        lost_groups=gone.astype(np.int64),
        lost_ms=lost[gone],
        rebuilt_shards=rebuilt,
        bin_ms=found.bin_ms,
        degraded_daily=found.degraded(),
        inactive_daily=found.inactive(),
    )
