"""The hosts that join next: named, numbered, laid out and placed like those that are there."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count

import msgspec

from twin.capacity.cluster import Cluster, Host, Osd
from twin.capacity.tree import tree_of
from twin.crush.map import CrushMap

NEW_MAX = 100_000


class Newcomer(msgspec.Struct, frozen=True, kw_only=True):
    """A host that joins. ``parent``: the bucket that it comes under; ``weights``: 16.16, one for each of ``osds``."""

    host: Host
    osds: tuple[Osd, ...]
    parent: str
    device_classes: tuple[str, ...]
    weights: tuple[int, ...]


def newcomers(cluster: Cluster, number: int) -> tuple[Newcomer, ...]:
    """Make the next ``number`` hosts: servers of a rack file not plugged in yet, then copies of the usual host.

    The usual host has the commonest layout of disks. A copy goes under the bucket with the fewest hosts of that layout;
    its name continues the numbers of those there (host4 -> host5); OSDs get the lowest free ids, as Ceph gives them.
    """
    free = _free_ids(cluster)
    usual = _usual(cluster)
    homes = _homes(cluster)
    crowd = _crowd(usual, homes)
    taken = {host.name for host in cluster.hosts} | {spare.host.name for spare in cluster.spares}
    taken |= {bucket.name for bucket in cluster.osdmap.crush.buckets}
    made: list[Newcomer] = []
    hosts, usual_disks = list(cluster.hosts), _disks_of(cluster, usual[-1:])
    for at in range(min(number, NEW_MAX)):
        parent = min(crowd, key=lambda name: (len(crowd[name]), name))
        if at < len(cluster.spares):
            host, disks = cluster.spares[at].host, cluster.spares[at].osds
            parent = host.rack if host.rack in homes.values() and host.rack is not None else parent
        else:
            host, disks = _copy(hosts, usual[-1:], crowd[parent], parent, taken), usual_disks
        taken.add(host.name)
        hosts.append(host)
        crowd.setdefault(parent, []).append(host.name)
        made.append(_newcomer(cluster, host, disks, parent, free))
    return tuple(made)


def _copy(
    hosts: Sequence[Host], model: Sequence[str], there: Sequence[str], parent: str, taken: Collection[str]
) -> Host:
    """One more host like ``model``, named after those that are ``there``, under ``parent``."""
    name = _next_name(there or model, taken)
    like = next((host for host in hosts if host.name in model), None)
    beside = next((host for host in hosts if host.name in there), like)
    if like is None or beside is None:
        return Host(name=name)
    rack = parent if beside.rack == parent else beside.rack
    pdus = Counter(one.pdu for one in hosts if one.rack == rack and one.pdu is not None)
    quietest = min(pdus, key=lambda pdu: (pdus[pdu], pdu)) if pdus else beside.pdu
    return msgspec.structs.replace(like, name=name, rack=rack, pdu=quietest)


def _newcomer(cluster: Cluster, host: Host, disks: Sequence[Osd], parent: str, free: Iterator[int]) -> Newcomer:
    """Give a host's disks their ids, their weights and the overhead of an OSD that is still empty."""
    weights = _weights(cluster.osdmap.crush)
    classes = {device.id: device.device_class for device in cluster.osdmap.crush.devices}
    overheads = _overheads(cluster)
    osds = []
    for disk in disks:
        overhead = overheads.get(disk.kind, disk.overhead_bytes)
        osds.append(
            Osd(
                id=next(free),
                host=host.name,
                kind=disk.kind,
                size_bytes=disk.size_bytes,
                used_bytes=overhead,
                overhead_bytes=overhead,
                model=disk.model,
            )
        )
    return Newcomer(
        host=host,
        osds=tuple(osds),
        parent=parent,
        device_classes=tuple(classes.get(disk.id, disk.kind) for disk in disks),
        weights=tuple(weights.get(disk.id, crush_weight(disk.size_bytes)) for disk in disks),
    )


def crush_weight(size_bytes: int) -> int:
    """The weight, 16.16, that a new OSD gives itself: its size in TiB with four decimals.

    Source: Ceph 16.2, OSD::update_crush_location ("%.4lf" of the size over 2^40, at least 0.00001).
    """
    return max(1, int(float(f"{max(0.00001, size_bytes / (1 << 40)):.4f}") * 0x10000))


def _weights(crush: CrushMap) -> dict[int, int]:
    real = [bucket for bucket in crush.buckets if "~" not in bucket.name]
    return {item: weight for one in real for item, weight in zip(one.items, one.weights, strict=True) if item >= 0}


def _overheads(cluster: Cluster) -> dict[str, int]:
    """The mean overhead of an OSD of each kind of disk."""
    held: dict[str, list[int]] = {}
    for osd in cluster.osds:
        if osd.size_bytes:
            held.setdefault(osd.kind, []).append(osd.overhead_bytes)
    return {kind: sum(values) // len(values) for kind, values in sorted(held.items())}


def _free_ids(cluster: Cluster) -> Iterator[int]:
    """OSD ids in the order in which Ceph gives them: the lowest that does not exist."""
    taken = {state.id for state in cluster.osdmap.osds} | {device.id for device in cluster.osdmap.crush.devices}
    return (number for number in range(1 << 30) if number not in taken)


def _next_name(names: Sequence[str], taken: Collection[str]) -> str:
    """A name that continues the numbers of the commonest pattern among ``names``; new1, new2, ... if there is none."""
    found = [re.fullmatch(r"(.*?)(\d{1,9})(\D*)", name) for name in names]
    parts = [(match[1], match[2], match[3]) for match in found if match is not None]
    if not parts:
        return next(name for name in (f"new{number}" for number in count(1)) if name not in taken)
    counts = Counter((head, tail) for head, _, tail in parts)
    head, tail = min(counts, key=lambda pattern: (-counts[pattern], pattern))
    digits = [number for before, number, after in parts if (before, after) == (head, tail)]
    width = min(map(len, digits)) if any(len(number) > 1 and number.startswith("0") for number in digits) else 1
    first = max(map(int, digits)) + 1
    return next(name for name in (f"{head}{at:0{width}}{tail}" for at in count(first)) if name not in taken)


def _usual(cluster: Cluster) -> list[str]:
    """The hosts of the commonest layout of disks, in order of length and name."""
    by_host: dict[str, list[tuple[str, int]]] = {}
    for osd in cluster.osds:
        if osd.size_bytes:
            by_host.setdefault(osd.host, []).append((osd.kind, osd.size_bytes))
    layouts = {host: tuple(sorted(disks)) for host, disks in by_host.items()}
    if not layouts:
        return []
    counts = Counter(layouts.values())
    best = max(counts, key=lambda layout: (counts[layout], len(layout), layout))
    return sorted((host for host, layout in layouts.items() if layout == best), key=lambda host: (len(host), host))


def _disks_of(cluster: Cluster, hosts: Collection[str]) -> tuple[Osd, ...]:
    return tuple(osd for osd in cluster.osds if osd.host in hosts and osd.size_bytes)


def _homes(cluster: Cluster) -> dict[str, str]:
    """The bucket that each host stands under, by names."""
    tree = tree_of(cluster.osdmap.crush)
    return {
        name: tree.names[tree.above[bucket]]
        for bucket, name in sorted(tree.names.items())
        if tree.types[bucket] == "host" and bucket in tree.above
    }


def _crowd(usual: Sequence[str], homes: Mapping[str, str]) -> dict[str, list[str]]:
    """The usual hosts under each bucket that has some; "default" if no host stands in any bucket."""
    crowd: dict[str, list[str]] = {}
    for host in usual:
        if host in homes:
            crowd.setdefault(homes[host], []).append(host)
    return crowd or {"default": list(usual)}
