"""The waterfall of bytes in words: what each step is called, why it takes what it takes, and where that comes from."""

import msgspec

from twin.capacity.assumptions import Assumptions
from twin.capacity.cluster import Cluster
from twin.capacity.losses import Domain
from twin.capacity.steps import Left, Step, cascade
from twin.crush.osdmap import OsdMap, Pool

RATIOS = {"nearfull": "nearfull_ratio", "backfillfull": "backfillfull_ratio", "full": "full_ratio"}
POOLS_NAMED = 3
_HEALING = {
    "node": "a lost node's replicas are made again on the rest",
    "rack": "a lost rack's replicas are made again on the rest",
    "pdu": "the replicas of all nodes of a lost PDU are made again on the rest",
}


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that are left after each step, of one group of pools or of several together; ``stored`` is in use."""

    in_use: float
    after_overhead: float
    after_copies: float
    after_fullest: float
    after_ratio: float
    after_loss: float
    stored: float


def ratio_of(osdmap: OsdMap, name: str) -> float:
    """The ratio of a map called nearfull, backfillfull or full."""
    ratios = {"nearfull": osdmap.nearfull_ratio, "backfillfull": osdmap.backfillfull_ratio, "full": osdmap.full_ratio}
    return ratios[name]


def bytes_waterfall(
    cluster: Cluster,
    figures: Assumptions,
    room: Room,
    kind: Domain | None,
    fullest: int | None,
    worst: str | None,
    short: bool,
) -> tuple[Step, ...]:
    """Tell the waterfall of bytes; the last but one step leaves what is usable, the last what is free."""
    lefts = [*_disks(cluster, figures, room), *_limits(cluster, figures, room, fullest)]
    lefts += [_heal(cluster, figures, room, kind, worst, short), _stored(cluster, figures, room)]
    return cascade("bytes", sum(osd.size_bytes for osd in cluster.osds), lefts)


def _disks(cluster: Cluster, figures: Assumptions, room: Room) -> list[Left]:
    """From raw to what fits once: disks in use, overhead, replicas."""
    dump, df = cluster.files.get("osd_dump"), cluster.files.get("osd_df_tree")
    pools = cluster.osdmap.pools
    copies = ", ".join(_copies(pool) for pool in pools[:POOLS_NAMED])
    if len(pools) > POOLS_NAMED:
        copies += f" and {len(pools) - POOLS_NAMED} more pools"
    shards = "erasure" if figures.word("erasure") != "none" else "replicas"
    return [
        Left(
            name="disks in use",
            amount=room.in_use,
            why="OSDs that are down, out, or where no pool's rule leads hold nothing",
            source=f"{dump} osds[]" if dump else "rack file, osd disks",
        ),
        Left(
            name="OSD overhead",
            amount=room.after_overhead,
            why="each OSD's own database, log and metadata",
            source=f"{df} kb_used less kb_used_data" if df else figures.source("osd_overhead_ratio"),
            change=() if df else ("osd_overhead_ratio",),
        ),
        Left(
            name="replication",
            amount=room.after_copies,
            why=f"{copies}; with the space beside as measured" if df else copies,
            source=f"{dump} pools[].size, {cluster.files.get('df_detail')} bytes_used"
            if df
            else figures.source(shards),
            change=("space_amplification",) if df else ("replicas", "erasure", "space_amplification"),
        ),
    ]


def _limits(cluster: Cluster, figures: Assumptions, room: Room, fullest: int | None) -> list[Left]:
    """From what fits once to what fits unevenly and below the ratio."""
    real = "osd_dump" in cluster.files
    normal = figures.word("limit_normal")
    key = RATIOS[normal]
    said = f"{cluster.files['osd_dump']} {key}" if real and key not in figures.changed else figures.source(key)
    uneven = f"PGs are spread unevenly: osd.{fullest} fills first, the rest stays emptier"
    return [
        Left(
            name="fullest OSD",
            amount=room.after_fullest,
            why=uneven if fullest is not None else "no OSD holds data",
            source="computed: CRUSH, the PGs' own bytes",
            change=() if real else ("pgs_per_osd", "failure_domain"),
        ),
        Left(
            name=f"{normal} ratio",
            amount=room.after_ratio,
            why=f"no OSD may be fuller than {100 * ratio_of(cluster.osdmap, normal):.4g} %",
            source=said,
            change=("limit_normal", key),
        ),
    ]


def _heal(
    cluster: Cluster, figures: Assumptions, room: Room, kind: Domain | None, worst: str | None, short: bool
) -> Left:
    after = figures.word("limit_after_loss")
    why = "no loss is to be survived"
    if kind is not None:
        why = f"{_HEALING[kind]}, none above {100 * ratio_of(cluster.osdmap, after):.4g} %"
        why += f"; worst: {kind} {worst}" if worst else ""
        why += "; not all PGs can heal" if short else ""
    return Left(
        name="room to heal",
        amount=room.after_loss,
        why=why,
        source=f"computed: CRUSH without it; {figures.source('survive')}",
        change=("survive", "limit_after_loss", RATIOS[after]),
    )


def _stored(cluster: Cluster, figures: Assumptions, room: Room) -> Left:
    df = cluster.files.get("df_detail")
    return Left(
        name="stored already",
        amount=room.after_loss - room.stored,
        why="what users keep there now",
        source=f"{df} pools[].stats.stored" if df else figures.source("fill_ratio"),
        change=() if df else ("fill_ratio",),
    )


def _copies(pool: Pool) -> str:
    if pool.kind == "replicated":
        return f"{pool.name} keeps {pool.size} replicas"
    return f"{pool.name} makes {pool.data_shards}+{pool.size - pool.data_shards} shards"
