"""How full each OSD is, and how fast it fills: bytes of placement groups laid over the OSDs that CRUSH gives them."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from twin.capacity.cluster import Cluster, Osd, PoolUse
from twin.crush.compile import compile_map
from twin.crush.map import NONE
from twin.crush.osdmap import OsdMap, Pool
from twin.crush.pools import Placed, place

Amounts = npt.NDArray[np.float64]
Placements = Mapping[int, Placed]
SMALL_POOL_RATIO = 0.01
"""A pool with less of the data than this (Ceph's own `.mgr`) grows no further and joins no other pools into a group."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Pools that share disks, so that the fullest of these limits them all.

    ``shares``: how much of each byte that users add goes to each pool, by pool id; they add up to 1.
    """

    pools: tuple[int, ...]
    shares: dict[int, float]


def hash_shares(pg_num: int) -> Amounts:
    """The share of a pool's objects that hashes to each PG: float64, shape (pg_num,), sum 1.

    Equal for a power of two; otherwise the PGs that were not split yet get twice as much.

    Source: Ceph's ceph_stable_mod.
    """
    top = 1 << (pg_num - 1).bit_length()
    units = np.ones(pg_num)
    units[pg_num - top // 2 : top // 2] = 2.0 if pg_num < top else 1.0
    shares: Amounts = units / units.sum()
    return shares


def place_all(osdmap: OsdMap) -> dict[int, Placed]:
    """Place every pool, by id. Raises: InputError if the CRUSH map cannot be used."""
    compiled = compile_map(osdmap.crush)
    return {pool.id: place(osdmap, pool.id, compiled) for pool in osdmap.pools}


def use_of(cluster: Cluster, pool: int) -> PoolUse | None:
    """What lies in a pool, if anything is known."""
    return next((use for use in cluster.uses if use.pool == pool), None)


def amplification(pool: Pool, use: PoolUse | None, least: float = 0.0) -> float:
    """Disk space for each byte of a replica: as measured in the pool, at least ``least``; 1 where nothing is."""
    if use is None or use.stored_bytes <= 0 or use.allocated_bytes <= 0:
        return max(1.0, least)
    return max(least, use.allocated_bytes / (use.stored_bytes * pool.size / pool.data_shards))


def by_osd(cluster: Cluster, up: npt.NDArray[np.int32], shard: Amounts) -> Amounts:
    """Add up what each PG puts on its OSDs: float64, shape (osds,), in the order of ``cluster.osds``.

    ``up``: int32, shape (pg_num, size); ``shard``: float64, shape (pg_num,), the weight of one replica or shard.
    """
    ids = np.array([osd.id for osd in cluster.osds], np.int64)
    most = int(ids.max(initial=-1)) + 1
    held = (up >= 0) & (up < most)
    weights = np.broadcast_to(shard[:, None], up.shape)[held]
    laid: Amounts = np.bincount(up[held], weights=weights, minlength=most).astype(np.float64)[ids]
    return laid


def data_bytes(cluster: Cluster, placed: Placements) -> Amounts:
    """What pools' data takes on each OSD, by the PGs' own bytes and the space measured for these: shape (osds,)."""
    total = np.zeros(len(cluster.osds))
    for pool in cluster.osdmap.pools:
        use = use_of(cluster, pool.id)
        if use is None or pool.id not in placed:
            continue
        logical = float(use.pg_bytes.sum()) * pool.size / pool.data_shards
        ratio = use.allocated_bytes / logical if use.allocated_bytes > 0 and logical > 0 else 1.0
        shard: Amounts = use.pg_bytes.astype(np.float64) * (ratio / pool.data_shards)
        total += by_osd(cluster, placed[pool.id].up, shard)
    return total


def settled(before: Cluster, placed: Placements, after: Cluster, placed_after: Placements) -> Cluster:
    """The changed cluster once its data has moved: what each OSD then uses, with PGs that left it and that came.

    New OSDs start from the overhead that they are given.
    """
    left = dict(zip((osd.id for osd in before.osds), data_bytes(before, placed).tolist(), strict=True))
    came = data_bytes(after, placed_after).tolist()
    osds = []
    for osd, held in zip(after.osds, came, strict=True):
        used = max(osd.overhead_bytes, osd.used_bytes + int(held - left.get(osd.id, 0.0)))
        osds.append(msgspec.structs.replace(osd, used_bytes=used, available_bytes=_available(osd, used), pgs=None))
    return msgspec.structs.replace(after, osds=tuple(osds))


def _available(osd: Osd, used_bytes: int) -> int | None:
    """What is free once ``used_bytes`` are used, if Ceph said what was free before."""
    return None if osd.available_bytes is None else max(0, osd.available_bytes + osd.used_bytes - used_bytes)


def growth_rates(cluster: Cluster, placed: Placements, group: Group, amplified: float = 1.0) -> Amounts:
    """Bytes on each OSD for each byte that users add to a group of pools: shape (osds,)."""
    total = np.zeros(len(cluster.osds))
    for pool in cluster.osdmap.pools:
        if pool.id in group.shares and pool.id in placed:
            space = amplification(pool, use_of(cluster, pool.id), amplified) * group.shares[pool.id] / pool.data_shards
            total += by_osd(cluster, placed[pool.id].up, hash_shares(pool.pg_num) * space)
    return total


def full_rate(cluster: Cluster, group: Group, amplified: float = 1.0) -> float:
    """Bytes on all disks together for each byte that users add, with every replica or shard in place."""
    return sum(
        amplification(pool, use_of(cluster, pool.id), amplified) * group.shares[pool.id] * pool.size / pool.data_shards
        for pool in cluster.osdmap.pools
        if pool.id in group.shares
    )


def stored_bytes(cluster: Cluster, group: Group) -> int:
    """What users stored in a group of pools, each byte once."""
    return sum(use.stored_bytes for use in cluster.uses if use.pool in group.pools)


def groups(cluster: Cluster, placed: Placements) -> tuple[Group, ...]:
    """Gather the pools that share OSDs, in order of their lowest pool id.

    Growth goes to pools as the stored bytes are spread now; by PGs if nothing is stored yet.
    """
    weights = _weights(cluster)
    total = sum(weights.values())
    large = [pool for pool, weight in sorted(weights.items()) if pool in placed and weight >= SMALL_POOL_RATIO * total]
    sets = [{int(osd) for osd in np.unique(placed[pool].up) if osd != NONE} for pool in large]
    joined: list[tuple[list[int], set[int]]] = []
    for pool, held in zip(large, sets, strict=True):
        same = [entry for entry in joined if entry[1] & held]
        joined = [entry for entry in joined if not entry[1] & held]
        joined.append((sorted([pool, *(one for entry in same for one in entry[0])]), held.union(*(e[1] for e in same))))
    gathered = sorted(pools for pools, _ in joined)
    return tuple(_group(pools, weights, index == 0, cluster, large) for index, pools in enumerate(gathered))


def _group(
    pools: Sequence[int], weights: Mapping[int, float], first: bool, cluster: Cluster, large: Sequence[int]
) -> Group:
    """A group with its shares; the small pools' stored bytes count with the first group."""
    total = sum(weights[pool] for pool in pools)
    small = [pool.id for pool in cluster.osdmap.pools if pool.id not in large] if first else []
    return Group(pools=tuple(sorted([*pools, *small])), shares={pool: weights[pool] / total for pool in pools})


def _weights(cluster: Cluster) -> dict[int, float]:
    stored = {pool.id: 0.0 for pool in cluster.osdmap.pools}
    stored |= {use.pool: float(use.stored_bytes) for use in cluster.uses if use.pool in stored}
    if sum(stored.values()) > 0:
        return stored
    return {pool.id: float(pool.pg_num) for pool in cluster.osdmap.pools}
