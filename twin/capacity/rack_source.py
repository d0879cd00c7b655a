"""A rack file as a cluster to plan for: the CRUSH map and the pools that Ceph would have on its OSD disks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from core.errors import InputError
from formats.hardware import DiskKind, RackFile, Server
from formats.rack import load_rack
from twin.capacity.assumptions import Assumptions, default_assumptions
from twin.capacity.cluster import Cluster, Host, Osd, PoolUse, Spare
from twin.capacity.fill import hash_shares
from twin.capacity.newcomers import crush_weight
from twin.crush.map import Bucket, Choose, CrushMap, Device, Emit, Rule, Set, Take
from twin.crush.osdmap import OsdMap, OsdState, Pool

OSDS_MAX = 200_000
PG_NUM_MAX = 1 << 20
TYPES = {0: "osd", 1: "host", 3: "rack", 11: "root"}
"""Ceph's own type ids of the levels that a rack file knows."""

_HOST, _RACK, _ROOT = 1, 3, 11


def cluster_of(path: Path, assumptions: Assumptions | None = None) -> Cluster:
    """Lay out the storage of a rack file: one OSD for each osd disk, one pool for each kind of disk.

    Failure domain, replicas or erasure coding, PGs and fill are assumptions. Servers not plugged in are left out.

    Raises: InputError if the file is none, has no osd disk, or its pool cannot be placed at all.
    """
    return cluster_of_rack(load_rack(path), path, assumptions)


def cluster_of_rack(rack: RackFile, path: Path, assumptions: Assumptions | None = None) -> Cluster:
    """The same for a rack that has been read, or made up, already; ``path`` is for messages.

    Raises: InputError if it has no osd disk, or its pool cannot be placed at all.
    """
    figures = assumptions or default_assumptions()
    servers = [server for server in rack.nodes if server.plugged]
    osds = _osds(servers)
    if not osds:
        raise InputError(
            [f'{path}: template.*.disk: no plugged node has a disk with role = "osd"; needed: at least one']
        )
    if len(osds) > OSDS_MAX:
        raise InputError([f"{path}: has {len(osds)} osd disks; allowed: {OSDS_MAX}"])
    kinds: tuple[DiskKind, ...] = tuple(sorted({osd.kind for osd in osds}))
    crush = _crush(servers, osds, kinds, figures)
    pools = tuple(
        _pool(index + 1, kind, index, sum(1 for osd in osds if osd.kind == kind), len(kinds) == 1, figures)
        for index, kind in enumerate(kinds)
    )
    osdmap = OsdMap(
        epoch=1,
        crush=crush,
        osds=tuple(OsdState(id=osd.id) for osd in osds),
        pools=pools,
        nearfull_ratio=figures.number("nearfull_ratio"),
        backfillfull_ratio=figures.number("backfillfull_ratio"),
        full_ratio=figures.number("full_ratio"),
    )
    return Cluster(
        name=rack.name,
        source=str(path),
        osdmap=osdmap,
        osds=_laid(osds, figures),
        hosts=tuple(sorted(map(_host, servers), key=lambda host: host.name)),
        uses=tuple(
            _use(pool, [osd for osd in osds if osd.kind == kind], figures)
            for pool, kind in zip(pools, kinds, strict=True)
        ),
        currency=rack.currency,
        files={"rack": path.name},
        spares=tuple(_spare(server, figures) for server in rack.nodes if not server.plugged),
    )


def pg_num(osds: int, size: int, pgs_per_osd: int) -> int:
    """Ceph's rule for pg_num: replicas aimed at for each OSD, over the pool's size, as a power of two.

    The lower power is taken unless it is more than a quarter below the aim.

    Source: docs.ceph.com, Placement groups, choosing the number of PGs; Ceph's PG calculator for the rounding.
    """
    aim = max(1.0, osds * pgs_per_osd / size)
    lower = 1 << (int(aim).bit_length() - 1)
    return min(PG_NUM_MAX, lower if lower >= 0.75 * aim else lower << 1)


def _host(server: Server) -> Host:
    speeds = [nic.mbit_per_s for nic in server.nics if nic.network == "storage"]
    return Host(
        name=str(server.id),
        rack=str(server.spec.rack),
        pdu=str(server.spec.power_domain),
        cores=server.spec.cores,
        memory_bytes=server.spec.memory_bytes,
        storage_mbit_per_s=sum(speeds) if speeds else None,
        price=server.price,
        watts=server.watts,
    )


def _spare(server: Server, figures: Assumptions) -> Spare:
    osds = [msgspec.structs.replace(osd, id=-1) for osd in _laid(_osds([server]), figures)]
    return Spare(host=_host(server), osds=tuple(osds))


def _osds(servers: Sequence[Server]) -> list[Osd]:
    disks = [(server, disk) for server in servers for disk in server.osd_disks]
    return [
        Osd(id=index, host=str(server.id), kind=disk.kind, size_bytes=disk.size_bytes, model=disk.model)
        for index, (server, disk) in enumerate(disks)
    ]


def _laid(osds: Sequence[Osd], figures: Assumptions) -> tuple[Osd, ...]:
    """The disks with the overhead of an OSD on each; users' data is laid over it by whoever places it."""
    ratio = figures.number("osd_overhead_ratio")
    return tuple(
        msgspec.structs.replace(osd, overhead_bytes=int(osd.size_bytes * ratio), used_bytes=int(osd.size_bytes * ratio))
        for osd in osds
    )


def shards_of(figures: Assumptions) -> tuple[int, int]:
    """Data shards and all shards of a rack file's pool: (1, replicas), or (k, k + m) with erasure coding."""
    erasure = figures.word("erasure")
    if erasure == "none":
        return 1, figures.whole("replicas")
    data, coding = map(int, erasure.split("+"))
    return data, data + coding


def _domain(servers: Sequence[Server], kind: DiskKind, figures: Assumptions) -> int:
    """The type id of the level that replicas on a kind of disk are spread over."""
    chosen = figures.word("failure_domain")
    racks = len({server.spec.rack for server in servers if any(disk.kind == kind for disk in server.osd_disks)})
    if chosen == "auto":
        return _RACK if racks > shards_of(figures)[1] else _HOST
    return _RACK if chosen == "rack" else _HOST


def _pool(number: int, kind: DiskKind, rule: int, osds: int, only: bool, figures: Assumptions) -> Pool:
    data, size = shards_of(figures)
    groups = pg_num(osds, size, figures.whole("pgs_per_osd"))
    return Pool(
        id=number,
        name="rbd" if only else f"rbd-{kind}",
        kind="replicated" if data == 1 else "erasure",
        size=size,
        min_size=data + 1 if data > 1 else size - size // 2,
        pg_num=groups,
        pgp_num=groups,
        rule=rule,
        data_shards=data,
    )


def _use(pool: Pool, osds: Sequence[Osd], figures: Assumptions) -> PoolUse:
    user_bytes = figures.number("fill_ratio") * sum(osd.size_bytes for osd in osds) * pool.data_shards / pool.size
    pg_bytes = np.floor(user_bytes * hash_shares(pool.pg_num)).astype(np.int64)
    total = int(pg_bytes.sum())
    return PoolUse(
        pool=pool.id,
        pg_bytes=pg_bytes,
        pg_objects=np.maximum(pg_bytes // figures.whole("object_bytes"), (pg_bytes > 0).astype(np.int64)),
        stored_bytes=total,
        allocated_bytes=total * pool.size // pool.data_shards,
    )


# -- the map -----------------------------------------------------------------------------------------------------------


def _crush(servers: Sequence[Server], osds: Sequence[Osd], kinds: Sequence[DiskKind], figures: Assumptions) -> CrushMap:
    """Make the tree root, racks, hosts, OSDs; with several kinds of disk also a shadow tree for each."""
    hosts: dict[str, list[Osd]] = {str(server.id): [] for server in servers}
    for osd in osds:
        hosts[osd.host].append(osd)
    racks: dict[str, list[str]] = {}
    for server in servers:
        racks.setdefault(str(server.spec.rack), []).append(str(server.id))
    trees = [_tree("", racks, hosts, -1)]
    for kind in kinds if len(kinds) > 1 else ():
        held = {host: [osd for osd in of if osd.kind == kind] for host, of in hosts.items()}
        trees.append(_tree(f"~{kind}", racks, held, -1 - sum(map(len, trees))))
    roots = [tree[0].id for tree in trees]
    rules = [
        _rule(index, kind, roots[-1 if len(kinds) == 1 else index + 1], _domain(servers, kind, figures), figures)
        for index, kind in enumerate(kinds)
    ]
    return CrushMap(
        devices=tuple(Device(id=osd.id, name=f"osd.{osd.id}", device_class=osd.kind) for osd in osds),
        types=dict(TYPES),
        buckets=tuple(bucket for tree in trees for bucket in tree),
        rules=tuple(rules),
    )


def _tree(
    suffix: str, racks: Mapping[str, Sequence[str]], hosts: Mapping[str, Sequence[Osd]], first: int
) -> list[Bucket]:
    """One tree, its root first, with ids from ``first`` downwards."""
    number = first - 1
    inner: list[Bucket] = []
    tops: list[Bucket] = []
    for rack, names in sorted(racks.items()):
        at, number = number, number - 1
        below = []
        for name in names:
            weights = tuple(crush_weight(osd.size_bytes) for osd in hosts[name])
            items = tuple(osd.id for osd in hosts[name])
            below.append(_bucket(number, f"{name}{suffix}", _HOST, items, weights))
            number -= 1
        tops.append(_over(at, f"{rack}{suffix}" if rack not in hosts else f"rack-{rack}{suffix}", _RACK, below))
        inner += below
    return [_over(first, f"default{suffix}", _ROOT, tops), *tops, *inner]


def _bucket(number: int, name: str, kind: int, items: tuple[int, ...], weights: tuple[int, ...]) -> Bucket:
    return Bucket(id=number, name=name, type_id=kind, alg="straw2", items=items, weights=weights)


def _over(number: int, name: str, kind: int, below: Sequence[Bucket]) -> Bucket:
    return _bucket(number, name, kind, tuple(one.id for one in below), tuple(one.weight for one in below))


def _rule(number: int, kind: str, root: int, domain: int, figures: Assumptions) -> Rule:
    data, _ = shards_of(figures)
    if data == 1:
        steps: tuple[Take | Choose | Set | Emit, ...] = (
            Take(item=root),
            Choose(how="chooseleaf_firstn", num=0, type_id=domain),
            Emit(),
        )
        return Rule(id=number, name=f"replicated-{kind}", type_id=1, steps=steps)
    steps = (
        Set(what="set_chooseleaf_tries", value=5),
        Set(what="set_choose_tries", value=100),
        Take(item=root),
        Choose(how="chooseleaf_indep", num=0, type_id=domain),
        Emit(),
    )
    return Rule(id=number, name=f"erasure-{kind}", type_id=3, steps=steps)
