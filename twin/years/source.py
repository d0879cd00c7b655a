"""A site out of a rack file or a real Ceph cluster's JSON: its hosts, its disks, and a pool as Ceph places it."""

from pathlib import Path

import msgspec
import numpy as np

from core.errors import InputError
from twin.capacity.cluster import Cluster
from twin.capacity.source import read_source
from twin.crush import osdmap as ceph
from twin.crush.pools import place
from twin.failures.components import NODE, Component
from twin.years.site import Site, placed
from twin.years.storage import Pool

_SHARD_BYTES_MIN = 1


class Source(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A site with one of its pools; ``words`` says which, for a person."""

    site: Site
    pool: Pool | None
    words: str


def site_of(
    path: Path,
    pool: str | None = None,
    *,
    disk_component: Component | None = None,
    node: Component = NODE,
    correlated: bool = True,
) -> Source:
    """Read a rack file or a folder of Ceph JSON, and take the pool of that name, or the one that holds most.

    A rack that the source does not tell is one rack for all hosts; without PDUs each rack has its own.

    Raises: InputError as the readers do, or if there is no such pool.
    """
    cluster = read_source(path)
    site = _site(cluster, disk_component, node, correlated)
    if not cluster.osdmap.pools and pool is None:
        return Source(site=site, pool=None, words=f"{cluster.name}: no pool")
    chosen = _chosen(cluster, pool)
    return Source(
        site=site,
        pool=_pool(cluster, chosen),
        words=f"{cluster.name}: pool {chosen.name}, {chosen.pg_num} placement groups of {chosen.size}",
    )


def _site(cluster: Cluster, disk_component: Component | None, node: Component, correlated: bool) -> Site:
    if not cluster.hosts or not cluster.osds:
        raise InputError([f"{cluster.source}: {len(cluster.hosts)} hosts, {len(cluster.osds)} disks; needed: some"])
    hosts = {host.name: number for number, host in enumerate(cluster.hosts)}
    racks = {name: number for number, name in enumerate(sorted({host.rack or "" for host in cluster.hosts}))}
    fed_by = [host.pdu or f"of rack {host.rack or ''}" for host in cluster.hosts]
    pdus = {name: number for number, name in enumerate(sorted(set(fed_by)))}
    rack_of = np.asarray([racks[host.rack or ""] for host in cluster.hosts], dtype=np.int64)
    return placed(
        rack_of,
        np.asarray([pdus[name] for name in fed_by], dtype=np.int64),
        np.asarray([hosts[osd.host] for osd in cluster.osds], dtype=np.int64),
        nodes_per_rack=int(np.bincount(rack_of).max()),
        disk_component=disk_component,
        node=node,
        correlated=correlated,
    )


def _chosen(cluster: Cluster, name: str | None) -> ceph.Pool:
    pools = cluster.osdmap.pools
    if name is not None:
        found = [pool for pool in pools if pool.name == name]
        if not found:
            known = ", ".join(pool.name for pool in pools)[:200] or "none"
            raise InputError([f"--pool {name!r}: {cluster.source} has no such pool; there are: {known}"])
        return found[0]
    held = {use.pool: int(use.pg_bytes.sum()) for use in cluster.uses}
    return max(pools, key=lambda pool: (held.get(pool.id, 0), pool.pg_num, -pool.id))


def _pool(cluster: Cluster, chosen: ceph.Pool) -> Pool:
    up = place(cluster.osdmap, chosen.id).up
    number = np.full(max(int(up.max(initial=0)), *(osd.id for osd in cluster.osds)) + 1, -1, dtype=np.int32)
    number[[osd.id for osd in cluster.osds]] = np.arange(len(cluster.osds))
    known = (up >= 0) & (up < len(number))
    use = next((use for use in cluster.uses if use.pool == chosen.id), None)
    mean_bytes = int(use.pg_bytes.mean()) // chosen.data_shards if use is not None and len(use.pg_bytes) else 0
    return Pool(
        placement=np.where(known, number[np.where(known, up, 0)], -1).astype(np.int32),
        min_size=chosen.min_size,
        needed=chosen.data_shards,
        shard_bytes=max(_SHARD_BYTES_MIN, mean_bytes),
    )
