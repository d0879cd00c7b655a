"""The hosts that join next: named, numbered, laid out and placed like those that are there."""

import re
from collections import Counter
from collections.abc import Iterator

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


def newcomers(cluster: Cluster, count: int) -> tuple[Newcomer, ...]:
    """Make the next ``count`` hosts: servers of a rack file that are not plugged in yet, then copies of the usual host.

    Names continue the existing hosts' numbers (host4 -> host5); OSD ids are the lowest free ones, as Ceph gives them;
    disks and weights are those of the commonest layout; a host goes where the fewest hosts are.
    """
    free = _free_ids(cluster)
    names = _names(cluster)
    pattern = _usual(cluster)
    crowd = _crowd(cluster)
    made = []
    for at in range(min(count, NEW_MAX)):
        spare = cluster.spares[at] if at < len(cluster.spares) else None
        parent = min(crowd, key=lambda name: (crowd[name], name)) if crowd else "default"
        if spare is not None and spare.host.rack in crowd:
            parent = spare.host.rack
        crowd[parent] = crowd.get(parent, 0) + 1
        made.append(
            _made(cluster, spare.host if spare else None, spare.osds if spare else pattern, parent, names, free)
        )
    return tuple(made)


def _made(
    cluster: Cluster, host: Host | None, disks: tuple[Osd, ...], parent: str, names: Iterator[str], free: Iterator[int]
) -> Newcomer:
    model = next((one for one in cluster.hosts if disks and one.name == disks[0].host), None)
    if host is None:
        name = next(names)
        like = model or (cluster.hosts[0] if cluster.hosts else Host(name=name))
        racks = {one.rack for one in cluster.hosts}
        host = msgspec.structs.replace(like, name=name, rack=parent if parent in racks else like.rack)
        host = msgspec.structs.replace(host, pdu=_quietest_pdu(cluster, host))
    weights, classes = (
        _weights(cluster.osdmap.crush),
        {one.id: one.device_class for one in cluster.osdmap.crush.devices},
    )
    overheads = _overheads(cluster)
    made, given, kinds = [], [], []
    for disk in disks:
        overhead = overheads.get(disk.kind, disk.overhead_bytes)
        made.append(
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
        given.append(weights.get(disk.id, crush_weight(disk.size_bytes)))
        kinds.append(classes.get(disk.id, disk.kind) if disk.id >= 0 else disk.kind)
    return Newcomer(host=host, osds=tuple(made), parent=parent, device_classes=tuple(kinds), weights=tuple(given))


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


def _names(cluster: Cluster) -> Iterator[str]:
    """Names that continue the numbers of the existing hosts; new1, new2, ... if these have none."""
    found = [re.fullmatch(r"(.*?)(\d{1,9})(\D*)", host.name) for host in cluster.hosts]
    parts = [(match[1], match[2], match[3]) for match in found if match is not None]
    taken = {host.name for host in cluster.hosts} | {spare.host.name for spare in cluster.spares}
    taken |= {bucket.name for bucket in cluster.osdmap.crush.buckets}
    if not parts:
        return (name for name in (f"new{number}" for number in range(1, 1 << 30)) if name not in taken)
    (head, tail), _ = min(
        Counter((head, tail) for head, _, tail in parts).items(), key=lambda item: (-item[1], item[0])
    )
    digits = [number for before, number, after in parts if (before, after) == (head, tail)]
    width = min(len(number) for number in digits)
    padded = width if any(number.startswith("0") and len(number) > 1 for number in digits) else 1
    first = max(map(int, digits)) + 1
    return (name for name in (f"{head}{n:0{padded}}{tail}" for n in range(first, 1 << 30)) if name not in taken)


def _usual(cluster: Cluster) -> tuple[Osd, ...]:
    """The OSDs of one host of the commonest layout; of several such, the last by name."""
    by_host: dict[str, list[Osd]] = {}
    for osd in cluster.osds:
        if osd.size_bytes:
            by_host.setdefault(osd.host, []).append(osd)
    layouts = {host: tuple(sorted((osd.kind, osd.size_bytes) for osd in osds)) for host, osds in by_host.items()}
    if not layouts:
        return ()
    counts = Counter(layouts.values())
    best = max(counts, key=lambda layout: (counts[layout], len(layout), layout))
    name = max((host for host, layout in layouts.items() if layout == best), key=lambda host: (len(host), host))
    return tuple(by_host[name])


def _crowd(cluster: Cluster) -> dict[str, int]:
    """How many hosts stand under each bucket that has hosts under it, by the bucket's name."""
    tree = tree_of(cluster.osdmap.crush)
    hosts = {tree.ancestor(device.id, "host") for device in cluster.osdmap.crush.devices}
    counts = Counter(tree.names[tree.above[host]] for host in hosts if host is not None and host in tree.above)
    return dict(sorted(counts.items()))


def _quietest_pdu(cluster: Cluster, host: Host) -> str | None:
    """The PDU with the fewest hosts in the host's rack."""
    pdus = Counter(one.pdu for one in cluster.hosts if one.rack == host.rack and one.pdu is not None)
    return min(pdus, key=lambda pdu: (pdus[pdu], pdu)) if pdus else host.pdu
