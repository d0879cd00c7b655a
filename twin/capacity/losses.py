"""What is lost when a node, a rack or a PDU goes: which OSDs, and where Ceph makes their replicas again."""

from typing import Literal

import msgspec
import numpy as np

from core.errors import InputError
from twin.capacity.cluster import Cluster
from twin.capacity.fill import Amounts, Placements, settled
from twin.crush.compile import Compiled, compile_map
from twin.crush.compiled import map_best
from twin.crush.map import NONE
from twin.crush.osdmap import OsdMap
from twin.crush.pools import Placed, choose_args_of, placement_seeds, reweights, settle

Domain = Literal["node", "rack", "pdu"]
PLACEMENTS_MAX = 20_000_000
"""PGs placed anew for all losses tried together; of a larger cluster only the fullest domains are tried."""


class Loss(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One domain gone and healed: ``placed`` without its OSDs, ``used`` bytes on each OSD then (0 on lost ones).

    ``short``: PGs that find fewer places than before; ``gone``: PGs that lost every replica, or too many shards.
    """

    name: str
    osds: frozenset[int]
    placed: Placements
    used: Amounts
    short: int
    gone: int


def domains(cluster: Cluster, kind: Domain) -> dict[str, tuple[int, ...]]:
    """The OSDs of each node, rack or PDU, by its name.

    Raises: InputError if the source does not say which rack or PDU its hosts are in.
    """
    homes: dict[str, str] = {}
    for host in cluster.hosts:
        match kind:
            case "node":
                homes[host.name] = host.name
            case "rack":
                homes[host.name] = host.rack or ""
            case "pdu":
                homes[host.name] = host.pdu or ""
    if lost := sorted(host for host, home in homes.items() if not home):
        raise InputError(
            [f"{cluster.source}: says nothing of the {kind} of {lost[0]}; allowed as the loss to survive: node, none"]
        )
    found: dict[str, list[int]] = {}
    for osd in cluster.osds:
        found.setdefault(homes.get(osd.host, osd.host), []).append(osd.id)
    return {name: tuple(sorted(osds)) for name, osds in sorted(found.items())}


def without(osdmap: OsdMap, osds: frozenset[int]) -> OsdMap:
    """The map with these OSDs down and out, as it is once Ceph has given them up."""
    states = [
        msgspec.structs.replace(state, up=False, reweight=0) if state.id in osds else state for state in osdmap.osds
    ]
    return msgspec.structs.replace(osdmap, osds=tuple(states))


def lose(
    cluster: Cluster, placed: Placements, name: str, osds: tuple[int, ...], compiled: Compiled | None = None
) -> Loss:
    """Take a domain away and let Ceph heal: where each PG is then, and how full each survivor.

    ``compiled``: the map's own, if the caller has it at hand.
    """
    lost = frozenset(osds)
    after = place_without(without(cluster.osdmap, lost), placed, lost, compiled)
    healed = settled(cluster, placed, cluster, after)
    used = np.array([osd.used_bytes for osd in healed.osds], np.float64)
    used[[index for index, osd in enumerate(cluster.osds) if osd.id in lost]] = 0.0
    short = gone = 0
    for pool in cluster.osdmap.pools:
        before, now = placed[pool.id].up, after[pool.id].up
        short += int(((now != NONE).sum(axis=1) < (before != NONE).sum(axis=1)).sum())
        held = before != NONE
        left = (held & ~np.isin(before, sorted(lost))).sum(axis=1)
        gone += int(((left < pool.data_shards) & (held.sum(axis=1) >= pool.data_shards)).sum())
    return Loss(name=name, osds=lost, placed=after, used=used, short=short, gone=gone)


def place_without(
    osdmap: OsdMap, placed: Placements, lost: frozenset[int], compiled: Compiled | None = None
) -> dict[int, Placed]:
    """Place every pool once some OSDs are out, from where its PGs were with them: only those that lose one are anew.

    Exact: an OSD that CRUSH tried but did not take is none the worse for being out. PGs with holes or upmaps, whose
    OSDs do not tell what CRUSH tried, are placed anew too.
    """
    compiled = compiled or compile_map(osdmap.crush)
    after: dict[int, Placed] = {}
    mapped = [*osdmap.upmaps, *osdmap.upmap_items]
    for pool in osdmap.pools:
        before = placed[pool.id].up
        touched = (np.isin(before, sorted(lost)) | (before == NONE)).any(axis=1)
        touched[[pg for at, pg in mapped if at == pool.id and pg < pool.pg_num]] = True
        rows, seeds = np.flatnonzero(touched), placement_seeds(pool)
        raw = before.copy()
        if rows.size:
            args = choose_args_of(osdmap.crush, pool.id)
            raw[rows] = map_best(compiled, pool.rule, seeds[rows], pool.size, reweights(osdmap), args)
        after[pool.id] = settle(osdmap, pool, seeds, raw)
    return after


def chosen(cluster: Cluster, kind: Domain) -> tuple[dict[str, tuple[int, ...]], int]:
    """The domains whose loss is tried, and how many there are: all, or the fullest where that would take too long."""
    every = domains(cluster, kind)
    groups = sum(pool.pg_num for pool in cluster.osdmap.pools)
    most = max(3, PLACEMENTS_MAX // max(1, groups))
    if len(every) <= most:
        return every, len(every)
    used = {osd.id: (osd.used_bytes, osd.size_bytes) for osd in cluster.osds}
    ranked = sorted(every, key=lambda name: (*(-sum(used[osd][at] for osd in every[name]) for at in (0, 1)), name))
    return {name: every[name] for name in ranked[:most]}, len(every)
