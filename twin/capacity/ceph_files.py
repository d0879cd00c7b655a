"""A real Ceph cluster as a cluster to plan for, from the JSON that its own commands print (Luminous to Reef)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from core.errors import InputError
from twin.capacity.ceph_json import Document, Kind, find_documents
from twin.capacity.ceph_records import Df, DfNode, DfNodes, Metadata, Pg, PgDump, PgMap, PoolDf
from twin.capacity.cluster import Cluster, Host, Osd, PoolUse
from twin.capacity.tree import host_of_osds, tree_of
from twin.crush.compile import compile_map
from twin.crush.map import CrushMap, Set
from twin.crush.mapping import map_inputs
from twin.crush.osdmap import OsdMap, Pool
from twin.crush.osdmap_json import osdmap_from_json
from twin.crush.pools import choose_args_of, placement_seeds, reweights

PGS_MAX = 1 << 20
TRIES_MAX = 1_000
"""More tries than this nobody sets (Ceph's own are 50 and 100), and placing would hardly end."""

_DF_NODES, _DF_NODE = msgspec.json.Decoder(DfNodes), msgspec.json.Decoder(DfNode)
_DF, _POOL_DF = msgspec.json.Decoder(Df), msgspec.json.Decoder(PoolDf)
_PG_DUMP, _PG_MAP, _PG = msgspec.json.Decoder(PgDump), msgspec.json.Decoder(PgMap), msgspec.json.Decoder(Pg)
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST, _METADATA = msgspec.json.Decoder(list[msgspec.Raw]), msgspec.json.Decoder(Metadata)
_TYPED = msgspec.json.Decoder(dict[str, object])


def read_ceph(folder: Path) -> Cluster:
    """Read a folder of Ceph JSON.

    Needed: `osd dump`, `osd crush dump`, `osd df tree` (or `osd df`), `df detail` (or `df`) and `pg dump`;
    `osd metadata` is read for disk models if it is there. Files are found by name or by content.

    Raises: InputError with the file, the field and the command that makes the file, if one is missing, cut off,
    foreign, or of another cluster than the rest.
    """
    found = find_documents(folder)
    for document in found.values():
        document.plain() if document.kind not in ("pg_dump", "osd_metadata") else None
    names = (found["osd_dump"].name, found["osd_crush_dump"].name)
    osdmap = osdmap_from_json(found["osd_dump"].plain(), found["osd_crush_dump"].plain(), names)
    _check_tree(found["osd_dump"], found["osd_crush_dump"], osdmap)
    homes = host_of_osds(osdmap.crush)
    warnings: list[str] = []
    metadata = _metadata(found["osd_metadata"]) if "osd_metadata" in found else {}
    osds = _osds(found["osd_df_tree"], osdmap, homes, metadata, warnings)
    uses = _uses(found["pg_dump"], found["df_detail"], osdmap, warnings)
    return Cluster(
        name=folder.resolve().name,
        source=str(folder),
        osdmap=osdmap,
        osds=_with_overhead(osds, found["pg_dump"], osdmap, uses, warnings),
        hosts=_hosts(osdmap.crush, homes),
        uses=uses,
        files={kind: document.path.name for kind, document in sorted(found.items())},
        warnings=tuple(warnings),
    )


def _check_tree(dump: Document, document: Document, osdmap: OsdMap) -> None:
    """Refuse a map that nothing can be placed by. Raises: InputError that names its file."""
    rules = {rule.id for rule in osdmap.crush.rules}
    for index, pool in enumerate(osdmap.pools):
        if pool.rule not in rules:
            raise dump.fail(f"pools[{index}].crush_rule = {pool.rule}: {document.path.name} has no such rule")
    for key, tries in sorted(msgspec.structs.asdict(osdmap.crush.tunables).items()):
        if tries > TRIES_MAX:
            raise document.fail(f"tunables.{key} = {tries}: allowed: {TRIES_MAX} at most")
    for rule in osdmap.crush.rules:
        for step in rule.steps:
            if isinstance(step, Set) and step.value > TRIES_MAX:
                raise document.fail(f"rule {rule.id}, {step.what} = {step.value}: allowed: {TRIES_MAX} at most")
    try:
        compiled = compile_map(osdmap.crush)
        for pool in osdmap.pools:
            seed = placement_seeds(pool)[:1]
            map_inputs(compiled, pool.rule, seed, pool.size, reweights(osdmap), choose_args_of(osdmap.crush, pool.id))
    except InputError as error:
        raise InputError([f"{document.path}: {problem}" for problem in error.problems]) from None


def _hosts(crush: CrushMap, homes: Mapping[int, str]) -> tuple[Host, ...]:
    tree = tree_of(crush)
    buckets = {name: bucket for bucket, name in tree.names.items()}
    hosts = []
    for name in sorted(set(homes.values())):
        at = buckets.get(name)
        rack = tree.ancestor(at, "rack") if at is not None else None
        pdu = tree.ancestor(at, "pdu") if at is not None else None
        hosts.append(Host(name=name, rack=tree.names.get(rack or 0), pdu=tree.names.get(pdu or 0)))
    return tuple(hosts)


# -- disks -------------------------------------------------------------------------------------------------------------


def _metadata(document: Document) -> dict[int, Metadata]:
    rows = document.rows(_METADATA, document.decode(_LIST, document.data), "")
    return {row.id: row for row in rows}


def _osds(
    document: Document,
    osdmap: OsdMap,
    homes: Mapping[int, str],
    metadata: Mapping[int, Metadata],
    warnings: list[str],
) -> dict[int, tuple[DfNode, Osd]]:
    """The daemons that stand in the map, with what `osd df` says of their disks."""
    whole = document.decode(_DF_NODES, document.data)
    kinds = document.rows(_TYPED, whole.nodes, "nodes")
    rows: dict[int, DfNode] = {}
    for index, (raw, plain) in enumerate(zip(whole.nodes, kinds, strict=True)):
        node = document.decode(_DF_NODE, raw, f"nodes[{index}]") if plain.get("type") in ("osd", None) else None
        if node is None:
            continue
        if node.id not in homes:
            raise document.fail(
                f"nodes[{index}].id = {node.id}: no such OSD in the CRUSH map; is it of another cluster?"
            )
        if rows.get(node.id, node) != node:  # under two roots an OSD is there twice, the same
            raise document.fail(f"nodes[{index}].id = {node.id}: is there twice, and not the same")
        rows[node.id] = node
    classes = {device.id: device.device_class for device in osdmap.crush.devices}
    states = {state.id: state for state in osdmap.osds}
    made: dict[int, tuple[DfNode, Osd]] = {}
    for osd, host in sorted(homes.items()):
        row = rows.get(osd)
        if row is None:
            state = states.get(osd)
            if state is not None and state.up and state.reweight:
                raise document.fail(f"nodes: has no row for osd.{osd}, which is up and in; is it of another cluster?")
            warnings.append(
                f"{document.path.name}: has no row for osd.{osd}, which is not in use: its size counts as 0"
            )
            row = DfNode(id=osd, type="osd", kb=0, kb_used=0, kb_avail=0)
        known = metadata.get(osd, Metadata(id=osd))
        osd_record = Osd(
            id=osd,
            host=host,
            kind=_kind(classes.get(osd, ""), known),
            size_bytes=row.kb << 10,
            used_bytes=row.kb_used << 10,
            model=known.device_ids or known.devices,
            available_bytes=row.kb_avail << 10,
            pgs=row.pgs,
        )
        made[osd] = (row, osd_record)
    if not any(osd.size_bytes for _, osd in made.values()):
        raise document.fail("nodes: no OSD has a size")
    return made


def _kind(device_class: str, known: Metadata) -> Literal["hdd", "ssd", "nvme"]:
    if device_class == "nvme":
        return "nvme"
    if device_class == "hdd" or (device_class != "ssd" and known.rotational == "1"):
        return "hdd"
    return "ssd"


def _with_overhead(
    osds: Mapping[int, tuple[DfNode, Osd]],
    document: Document,
    osdmap: OsdMap,
    uses: Sequence[PoolUse],
    warnings: list[str],
) -> tuple[Osd, ...]:
    """Add what is on each disk beside pools' data: database, log and metadata of its store."""
    if all(row.kb_used_data is not None or not row.kb for row, _ in osds.values()):
        return tuple(
            msgspec.structs.replace(osd, overhead_bytes=max(0, row.kb_used - (row.kb_used_data or 0)) << 10)
            for row, osd in osds.values()
        )
    warnings.append("osd df has no kb_used_data (before Nautilus): overhead is what is used beside the PGs' own bytes")
    held: dict[int, int] = {}
    bytes_of = {use.pool: use.pg_bytes for use in uses}
    pools = {pool.id: pool for pool in osdmap.pools}
    for index, row in enumerate(_pg_rows(document)):
        pool, pg = _pg_id(document, row, index, pools)
        for osd in row.up:
            held[osd] = held.get(osd, 0) + int(bytes_of[pool.id][pg]) // pool.data_shards
    return tuple(
        msgspec.structs.replace(osd, overhead_bytes=max(0, osd.used_bytes - held.get(osd.id, 0)))
        for _, osd in osds.values()
    )


# -- what lies in pools ------------------------------------------------------------------------------------------------


def _pg_rows(document: Document) -> list[Pg]:
    """The placement groups of `pg dump`, in whichever of its shapes."""
    key, data = "pg_map.pg_stats", document.data
    if data.lstrip()[:1] == b"[":
        return document.rows(_PG, document.decode(_LIST, data), "")
    if "pg_map" in document.decode(_KEYS, data):
        raws = document.decode(_PG_DUMP, data).pg_map.pg_stats
    else:
        key, raws = "pg_stats", document.decode(_PG_MAP, data).pg_stats
    if len(raws) > PGS_MAX:
        raise document.fail(f"{key}: holds {len(raws)} rows; allowed: {PGS_MAX}")
    return document.rows(_PG, raws, key)


def _pg_id(document: Document, row: Pg, index: int, pools: Mapping[int, Pool]) -> tuple[Pool, int]:
    """Which pool and which of its placement groups a row is of."""
    number, _, digits = row.pgid.partition(".")
    shown = f"pg_stats[{index}].pgid = {row.pgid[:40]!r}"
    try:
        pool, pg = int(number), int(digits, 16)
    except ValueError:
        raise document.fail(f"{shown}: is no PG id such as 1.3f") from None
    if pool not in pools:
        raise document.fail(f"{shown}: no such pool in the OSD map; is it of another cluster or moment?")
    if not 0 <= pg < pools[pool].pg_num:
        raise document.fail(f"{shown}: pool {pool} has {pools[pool].pg_num} PGs; is it of another cluster or moment?")
    return pools[pool], pg


def _uses(document: Document, df: Document, osdmap: OsdMap, warnings: list[str]) -> tuple[PoolUse, ...]:
    pools = {pool.id: pool for pool in osdmap.pools}
    held = {pool: np.zeros((4, pools[pool].pg_num), np.int64) for pool in sorted(pools)}
    copies: dict[int, list[int]] = {pool: [0, 0] for pool in pools}
    seen: set[tuple[int, int]] = set()
    unclean = 0
    for index, row in enumerate(_pg_rows(document)):
        pool, pg = _pg_id(document, row, index, pools)
        if (pool.id, pg) in seen:
            raise document.fail(f"pg_stats[{index}].pgid = {row.pgid!r}: is there twice")
        seen.add((pool.id, pg))
        sums = row.stat_sum
        held[pool.id][:, pg] = (sums.num_bytes, sums.num_objects, _entry(row.log_start), _entry(row.version))
        copies[pool.id][0] += sums.num_object_copies
        copies[pool.id][1] += sums.num_objects_degraded
        unclean += "clean" not in row.state.split("+")
    if unclean:
        warnings.append(
            f"{document.path.name}: {unclean} of {len(seen)} PGs are not clean: figures are for when they are"
        )
    for pool_id, pool in sorted(pools.items()):
        missing = pool.pg_num - sum(1 for at, _ in seen if at == pool_id)
        if missing:
            warnings.append(f"{document.path.name}: {missing} of {pool.pg_num} PGs of pool {pool.name} have no row")
    if seen and len(seen) * 2 < sum(pool.pg_num for pool in pools.values()):
        raise document.fail(
            f"pg_stats: has rows for {len(seen)} PGs of the OSD map's; is it of another cluster or moment?"
        )
    if not seen and pools:
        raise document.fail("pg_stats: has no row, but the OSD map has pools")
    stats = _pool_stats(df, pools, warnings)
    return tuple(_use(pool, held[pool], copies[pool], stats.get(pool)) for pool in sorted(pools))


def _entry(version: str) -> int:
    """The entry of a PG's log that `121'94` names; 0 if none is named."""
    _, _, digits = version.partition("'")
    return int(digits[:18]) if digits.isascii() and digits.isdigit() else 0


def _use(
    pool: int, held: "np.ndarray[tuple[int, int], np.dtype[np.int64]]", copies: list[int], stats: PoolDf | None
) -> PoolUse:
    total = int(held[0].sum())
    return PoolUse(
        pool=pool,
        pg_bytes=held[0],
        pg_objects=held[1],
        stored_bytes=stats.stats.stored if stats is not None and stats.stats.stored is not None else total,
        allocated_bytes=stats.stats.bytes_used if stats is not None and stats.stats.stored is not None else 0,
        copies=copies[0],
        degraded=copies[1],
        max_avail_bytes=stats.stats.max_avail if stats is not None else None,
        pg_log_start=held[2] if held[3].any() else None,
        pg_version=held[3] if held[3].any() else None,
    )


def _pool_stats(df: Document, pools: Mapping[int, Pool], warnings: list[str]) -> dict[int, PoolDf]:
    rows = df.rows(_POOL_DF, df.decode(_DF, df.data).pools, "pools")
    for index, row in enumerate(rows):
        if row.id not in pools or pools[row.id].name != row.name:
            raise df.fail(
                f"pools[{index}].id = {row.id} ({row.name[:40]}): not a pool of the OSD map; is it of another cluster?"
            )
    found = {row.id: row for row in rows}
    for pool in sorted(set(pools) - set(found)):
        warnings.append(f"{df.path.name}: has no row for pool {pools[pool].name}")
    return found


def kinds_of(cluster: Cluster) -> dict[Kind, str]:
    """The file that each kind of figure came from; empty for a cluster that no Ceph printed."""
    kinds: tuple[Kind, ...] = ("osd_dump", "osd_crush_dump", "osd_df_tree", "df_detail", "pg_dump", "osd_metadata")
    return {kind: cluster.files[kind] for kind in kinds if kind in cluster.files}
