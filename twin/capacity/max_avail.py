"""Ceph's own MAX AVAIL, digit for digit: what `ceph df` prints, so that a plan can be laid beside it.

Ceph projects each OSD's free space by that OSD's share of the CRUSH weight and takes the least; it knows neither how
many PGs an OSD really holds nor any loss to be survived. It computes in single precision, and so does this.

Source: Ceph 16.2, PGMap::get_rule_avail and PGMapDigest::dump_object_stat_sum, CrushWrapper::get_rule_weight_osd_map,
OSDMap::pool_raw_used_rate.
"""

from collections import deque

import numpy as np

from twin.capacity.cluster import Cluster, Osd, PoolUse
from twin.crush.map import CrushMap, Take
from twin.crush.osdmap import OsdMap, Pool

_F = np.float32


def max_avail_bytes(cluster: Cluster, pool: Pool) -> int:
    """What `ceph df` shows as MAX AVAIL of a pool: bytes that users may still write, before replication.

    ``O(buckets + OSDs)``. 0 for a rule that takes nothing.
    """
    raw = rule_avail_bytes(cluster, pool.rule)
    use = next((use for use in cluster.uses if use.pool == pool.id), None)
    rate = raw_used_rate(pool, use)
    return int(_F(raw) / rate) if raw > 0 and rate > 0 else 0


def raw_used_rate(pool: Pool, use: PoolUse | None = None) -> np.float32:
    """Disk space for each byte, as Ceph counts it: replicas or shards, less the share that is missing just now."""
    rate = _F(pool.size) / _F(pool.data_shards)
    if use is not None and use.copies > 0:
        rate = rate * (_F(use.copies - use.degraded) / _F(use.copies))
    return _F(rate)


def rule_avail_bytes(cluster: Cluster, rule: int) -> int:
    """The space that Ceph projects for a rule before replication: the least of what its OSDs would allow."""
    shares = _weight_shares(cluster.osdmap.crush, rule)
    osds = {osd.id: osd for osd in cluster.osds}
    least = -1
    for osd, share in sorted(shares.items()):
        if osd not in osds or not _counts(osds[osd], cluster.osdmap) or share == 0:
            continue
        kb, kb_avail = osds[osd].size_bytes >> 10, available_bytes(osds[osd]) >> 10
        unusable = float(kb) * (1.0 - float(_F(cluster.osdmap.full_ratio)))
        projected = int(max(0.0, float(kb_avail) - unusable) * 1024.0 / float(share))
        least = projected if least < 0 else min(least, projected)
    return max(0, least)


def available_bytes(osd: Osd) -> int:
    """What is free on a disk: by Ceph's word, or else its size less what is used."""
    return osd.available_bytes if osd.available_bytes is not None else max(0, osd.size_bytes - osd.used_bytes)


def _counts(osd: Osd, osdmap: OsdMap) -> bool:
    """Whether Ceph has statistics of the OSD: those of one that is out are zeroed."""
    state = next((state for state in osdmap.osds if state.id == osd.id), None)
    return osd.size_bytes > 0 and state is not None and state.reweight > 0


def _weight_shares(crush: CrushMap, rule: int) -> dict[int, np.float32]:
    """Each OSD's share of the weight under what a rule takes; more than one take adds up."""
    buckets = {bucket.id: bucket for bucket in crush.buckets}
    steps = next((one.steps for one in crush.rules if one.id == rule), ())
    shares: dict[int, np.float32] = {}
    for step in steps:
        if not isinstance(step, Take):
            continue
        weights: dict[int, np.float32] = {}
        total = _F(0)
        queue = deque([step.item] if step.item < 0 else [])
        if step.item >= 0:
            weights[step.item] = total = _F(1)
        for _ in range(len(buckets) + 1):
            if not queue:
                break
            bucket = buckets.get(queue.popleft())
            for item, weight in zip(bucket.items, bucket.weights, strict=True) if bucket is not None else ():
                if item < 0:
                    queue.append(item)
                else:
                    weights[item] = _F(weight)
                    total = _F(total + _F(weight))
        for osd, share in weights.items():
            shares[osd] = _F(shares.get(osd, _F(0)) + (share / total if total > 0 else _F(0)))
    return shares
