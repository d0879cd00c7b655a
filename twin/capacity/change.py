"""Changes to a cluster, and the cluster after each of them: a closed union of plain records."""

from collections.abc import Iterable

import msgspec

from core.errors import InputError
from twin.capacity.cluster import Cluster, Osd
from twin.capacity.losses import without
from twin.capacity.newcomers import crush_weight, newcomers
from twin.crush.edit import add_host, change_failure_domain, reweight_device
from twin.crush.osdmap import OsdMap

SIZE_BYTES_MAX = 1 << 60


class AddHosts(msgspec.Struct, frozen=True, kw_only=True, tag="add_hosts"):
    """The next ``count`` hosts join, as ``twin.capacity.newcomers`` lays them out."""

    count: int = 1


class LoseOsds(msgspec.Struct, frozen=True, kw_only=True, tag="lose_osds"):
    """Some OSDs die and are given up (``mon_osd_down_out_interval`` later)."""

    osds: tuple[int, ...]


class LoseHosts(msgspec.Struct, frozen=True, kw_only=True, tag="lose_hosts"):
    """Whole hosts die and are given up."""

    hosts: tuple[str, ...]


class LoseRack(msgspec.Struct, frozen=True, kw_only=True, tag="lose_rack"):
    """All hosts of a rack die and are given up."""

    rack: str


class LosePdu(msgspec.Struct, frozen=True, kw_only=True, tag="lose_pdu"):
    """All hosts on a power distribution unit die and are given up."""

    pdu: str


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag="drain"):
    """The OSDs of hosts are marked out while they run, so that their data leaves before they do."""

    hosts: tuple[str, ...]


class ReplaceDisks(msgspec.Struct, frozen=True, kw_only=True, tag="replace_disks"):
    """All disks of one host are replaced by larger (or smaller) ones; its OSDs keep their ids and start empty."""

    host: str
    size_bytes: int


class ChangeFailureDomain(msgspec.Struct, frozen=True, kw_only=True, tag="change_failure_domain"):
    """A pool's replicas or shards are spread over another type of bucket, such as racks instead of hosts."""

    pool: str
    domain: str


Change = AddHosts | LoseOsds | LoseHosts | LoseRack | LosePdu | Drain | ReplaceDisks | ChangeFailureDomain


def apply(cluster: Cluster, change: Change) -> Cluster:
    """Make the cluster as it is configured after a change; what its OSDs then hold is `fill.settled`'s to say.

    Raises: InputError if the change names a host, OSD, rack, PDU, pool or bucket type that the cluster has not.
    """
    match change:
        case AddHosts():
            return _added(cluster, change.count)
        case LoseOsds() | LoseHosts() | LoseRack() | LosePdu():
            return _with_map(cluster, without(cluster.osdmap, frozenset(_struck(cluster, change))))
        case Drain():
            return _with_map(cluster, _out(cluster.osdmap, frozenset(_struck(cluster, change))))
        case ReplaceDisks():
            return _replaced(cluster, change)
        case ChangeFailureDomain():
            return _respread(cluster, change)


def emptied(cluster: Cluster, change: Change) -> tuple[int, ...]:
    """The OSDs that go on with an empty disk, for ``movement.move``."""
    match change:
        case ReplaceDisks():
            return _struck(cluster, change)
        case AddHosts() | LoseOsds() | LoseHosts() | LoseRack() | LosePdu() | Drain() | ChangeFailureDomain():
            return ()


def words(change: Change) -> str:
    """Say a change in words, for a table or a heading."""
    match change:
        case AddHosts():
            return f"add {change.count} host{'s' if change.count != 1 else ''}"
        case LoseOsds():
            return f"lose OSD {', '.join(map(str, change.osds))}"
        case LoseHosts():
            return f"lose {', '.join(change.hosts)}"
        case LoseRack():
            return f"lose rack {change.rack}"
        case LosePdu():
            return f"lose PDU {change.pdu}"
        case Drain():
            return f"drain {', '.join(change.hosts)}"
        case ReplaceDisks():
            return f"replace the disks of {change.host} by {change.size_bytes / 1e12:.3g} TB"
        case ChangeFailureDomain():
            return f"spread pool {change.pool} over {change.domain}s"


def _struck(
    cluster: Cluster, change: LoseOsds | LoseHosts | LoseRack | LosePdu | Drain | ReplaceDisks
) -> tuple[int, ...]:
    """The OSDs that a change names. Raises: InputError if there is none of that name."""
    match change:
        case LoseOsds():
            _known(cluster, "OSD", change.osds, [osd.id for osd in cluster.osds])
            return tuple(sorted(set(change.osds)))
        case LoseHosts() | Drain():
            return _on_hosts(cluster, change.hosts)
        case ReplaceDisks():
            return _on_hosts(cluster, (change.host,))
        case LoseRack():
            racks = {host.name: host.rack for host in cluster.hosts}
            _known(cluster, "rack", (change.rack,), [rack for rack in racks.values() if rack is not None])
            return _on_hosts(cluster, [name for name, rack in racks.items() if rack == change.rack])
        case LosePdu():
            pdus = {host.name: host.pdu for host in cluster.hosts}
            _known(cluster, "PDU", (change.pdu,), [pdu for pdu in pdus.values() if pdu is not None])
            return _on_hosts(cluster, [name for name, pdu in pdus.items() if pdu == change.pdu])


def _on_hosts(cluster: Cluster, hosts: Iterable[str]) -> tuple[int, ...]:
    wanted = list(hosts)
    _known(cluster, "host", wanted, [host.name for host in cluster.hosts])
    return tuple(sorted(osd.id for osd in cluster.osds if osd.host in wanted))


def _known(cluster: Cluster, what: str, names: Iterable[object], allowed: Iterable[object]) -> None:
    there = list(dict.fromkeys(allowed))
    problems = [
        f"{cluster.source}: there is no {what} {name}; allowed: {', '.join(map(str, there)) or 'none'}"
        for name in names
        if name not in there
    ]
    if problems:
        raise InputError(problems)


def _with_map(cluster: Cluster, osdmap: OsdMap) -> Cluster:
    return msgspec.structs.replace(cluster, osdmap=osdmap)


def _out(osdmap: OsdMap, osds: frozenset[int]) -> OsdMap:
    states = [msgspec.structs.replace(state, reweight=0) if state.id in osds else state for state in osdmap.osds]
    return msgspec.structs.replace(osdmap, osds=tuple(states))


def _added(cluster: Cluster, count: int) -> Cluster:
    osdmap = cluster.osdmap
    hosts, osds = list(cluster.hosts), list(cluster.osds)
    for newcomer in newcomers(cluster, count):
        disks = list(zip(newcomer.device_classes, newcomer.weights, strict=True))
        osdmap = add_host(osdmap, newcomer.host.name, disks, newcomer.parent)
        hosts.append(newcomer.host)
        osds.extend(newcomer.osds)
    return msgspec.structs.replace(
        cluster,
        osdmap=osdmap,
        hosts=tuple(sorted(hosts, key=lambda host: host.name)),
        osds=tuple(sorted(osds, key=lambda osd: osd.id)),
        spares=cluster.spares[count:],
    )


def _replaced(cluster: Cluster, change: ReplaceDisks) -> Cluster:
    struck = _struck(cluster, change)
    if not 0 < change.size_bytes <= SIZE_BYTES_MAX:
        raise InputError([f"size_bytes: {change.size_bytes}; allowed: from 1 to {SIZE_BYTES_MAX}"])
    osdmap = cluster.osdmap
    for osd in struck:
        osdmap = reweight_device(osdmap, osd, crush_weight(change.size_bytes))
    return msgspec.structs.replace(
        cluster, osdmap=osdmap, osds=tuple(_new_disk(osd, change, struck) for osd in cluster.osds)
    )


def _new_disk(osd: Osd, change: ReplaceDisks, struck: tuple[int, ...]) -> Osd:
    if osd.id not in struck:
        return osd
    return msgspec.structs.replace(osd, size_bytes=change.size_bytes, model="", available_bytes=None, pgs=None)


def _respread(cluster: Cluster, change: ChangeFailureDomain) -> Cluster:
    pools = {pool.name: pool.id for pool in cluster.osdmap.pools}
    _known(cluster, "pool", (change.pool,), pools)
    _known(cluster, "bucket type", (change.domain,), cluster.osdmap.crush.types.values())
    return _with_map(cluster, change_failure_domain(cluster.osdmap, pools[change.pool], change.domain))
