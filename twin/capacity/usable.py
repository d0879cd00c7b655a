"""Usable bytes of a cluster as a waterfall from raw: each step with what it takes away, why, and on whose word."""

from collections.abc import Sequence

import msgspec
import numpy as np

from twin.capacity.assumptions import Assumptions
from twin.capacity.cluster import Cluster
from twin.capacity.fill import Amounts, Group, Placements, full_rate, groups, growth_rates, stored_bytes
from twin.capacity.losses import Domain, Loss, chosen, lose
from twin.crush.osdmap import OsdMap

RATIOS = {"nearfull": "nearfull_ratio", "backfillfull": "backfillfull_ratio", "full": "full_ratio"}
SURVIVED: dict[str, Domain | None] = {"none": None, "node": "node", "rack": "rack", "pdu": "pdu"}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a waterfall: the amount before and after it, in ``unit``, and what it takes away.

    ``why``: in words; ``source``: an assumption, a file's field, or how it was computed; ``change``: the keys that
    `--set` changes it by.
    """

    name: str
    unit: str
    before: float
    taken: float
    after: float
    why: str
    source: str
    change: tuple[str, ...] = ()


class Usable(msgspec.Struct, frozen=True, kw_only=True):
    """What users can store in all (``usable_bytes``), what of it is left (``free_bytes``), and how it came about.

    ``fullest``: the OSD that fills first in quiet times; ``worst``: the loss that leaves the least room; ``heals``:
    whether every PG finds a full set of places after each loss; ``losses`` of ``losses_all`` were tried.
    """

    raw_bytes: int
    usable_bytes: int
    free_bytes: int
    stored_bytes: int
    steps: tuple[Step, ...]
    fullest: int | None = None
    worst: str | None = None
    heals: bool = True
    losses: int = 0
    losses_all: int = 0
    warnings: tuple[str, ...] = ()


class _Room(msgspec.Struct, frozen=True, kw_only=True):
    """The amounts of one group of pools, or the sums of several, after each step."""

    in_use: float
    after_overhead: float
    after_copies: float
    after_fullest: float
    after_ratio: float
    after_loss: float
    stored: float


def usable(cluster: Cluster, placed: Placements, figures: Assumptions, survive: str | None = None) -> Usable:
    """Compute the waterfall of bytes. ``survive``: none, node, rack or pdu (None: as assumed).

    Pools that share disks are one group, whose data grows in the proportions of today; each group is full when its
    first OSD is.

    Raises: InputError if the source does not know the domains that are to be survived.
    """
    kind = SURVIVED[survive or figures.word("survive")]
    tried, count = chosen(cluster, kind) if kind is not None else ({}, 0)
    losses = [lose(cluster, placed, name, osds) for name, osds in tried.items()]
    found = groups(cluster, placed)
    rooms = [_room(cluster, placed, group, losses, figures) for group in found]
    total = _sum([room for room, _, _ in rooms])
    raw = float(sum(osd.size_bytes for osd in cluster.osds))
    short = {loss.name: loss.short for loss in losses if loss.short}
    warnings = _warnings(cluster, found, kind, short, len(tried), count)
    fullest = min(((free, osd) for _, (free, osd), _ in rooms), default=(0.0, None))[1]
    worst = min(((free, name) for _, _, (free, name) in rooms if name), default=(0.0, None))[1]
    steps = _steps(cluster, figures, kind, raw, total, fullest, worst, bool(short))
    return Usable(
        raw_bytes=int(raw),
        usable_bytes=int(steps[-2].after),
        free_bytes=int(steps[-1].after),
        stored_bytes=int(total.stored),
        steps=steps,
        fullest=fullest,
        worst=worst,
        heals=not short,
        losses=len(tried),
        losses_all=count,
        warnings=warnings,
    )


def ratio_of(osdmap: OsdMap, name: str) -> float:
    """The ratio of a map called nearfull, backfillfull or full."""
    return {"nearfull": osdmap.nearfull_ratio, "backfillfull": osdmap.backfillfull_ratio, "full": osdmap.full_ratio}[name]


def _room(
    cluster: Cluster, placed: Placements, group: Group, losses: Sequence[Loss], figures: Assumptions
) -> tuple[_Room, tuple[float, int | None], tuple[float, str | None]]:
    """The room of one group after each step; its fullest OSD and its worst loss, with what may be added until then."""
    amplified = figures.number("space_amplification")
    size = np.array([osd.size_bytes for osd in cluster.osds], np.float64)
    used = np.array([osd.used_bytes for osd in cluster.osds], np.float64)
    overhead = np.array([osd.overhead_bytes for osd in cluster.osds], np.float64)
    rates = growth_rates(cluster, placed, group, amplified)
    mine = rates > 0
    stored = float(stored_bytes(cluster, group))
    rate = full_rate(cluster, group, amplified)
    copies = stored + float((size - used)[mine].sum()) / rate if rate > 0 else 0.0
    free_all, _ = _until(size, used, rates)
    normal = ratio_of(cluster.osdmap, figures.word("limit_normal"))
    free, at = _until(size * normal, used, rates)
    kept, worst = free, None
    after = ratio_of(cluster.osdmap, figures.word("limit_after_loss"))
    for loss in losses:
        left, _ = _until(size * after, loss.used, growth_rates(cluster, loss.placed, group, amplified))
        if worst is None or left < kept:
            worst = loss.name if left < kept or worst is None else worst
        kept = min(kept, left)
    amounts = [float(size[mine].sum()), float((size - overhead)[mine].sum()), copies, stored + free_all, stored + free]
    amounts.append(stored + kept)
    falling = np.minimum.accumulate(np.maximum(0.0, amounts)).tolist()
    room = _Room(
        in_use=falling[0],
        after_overhead=falling[1],
        after_copies=falling[2],
        after_fullest=falling[3],
        after_ratio=falling[4],
        after_loss=falling[5],
        stored=stored,
    )
    fullest = cluster.osds[at].id if at is not None else None
    return room, (free, fullest), (kept, worst)


def _until(limit: Amounts, used: Amounts, rates: Amounts) -> tuple[float, int | None]:
    """How many bytes users may add until the first OSD is at its limit (negative: it is past it), and which it is."""
    growing = np.flatnonzero(rates > 0)
    if growing.size == 0:
        return 0.0, None
    room = (limit[growing] - used[growing]) / rates[growing]
    at = int(np.argmin(room))
    return float(room[at]), int(growing[at])


def _sum(rooms: Sequence[_Room]) -> _Room:
    fields = msgspec.structs.fields(_Room)
    return _Room(**{field.name: float(sum(getattr(room, field.name) for room in rooms)) for field in fields})


def _warnings(
    cluster: Cluster, found: Sequence[Group], kind: Domain | None, short: dict[str, int], tried: int, count: int
) -> tuple[str, ...]:
    said = []
    if not found:
        said.append("no pool has a place on any OSD: nothing is usable")
    if short:
        name, groups_short = max(short.items(), key=lambda item: (item[1], item[0]))
        said.append(
            f"after the loss of {kind} {name}, {groups_short} PGs find no full set of places again: too few failure "
            "domains are left for the pool's rule, so they stay degraded and the room kept is for the rest only"
        )
    if tried < count:
        said.append(f"only the {tried} fullest of {count} {kind}s were lost for trial")
    return tuple(said)


def _steps(
    cluster: Cluster,
    figures: Assumptions,
    kind: Domain | None,
    raw: float,
    room: _Room,
    fullest: int | None,
    worst: str | None,
    short: bool,
) -> tuple[Step, ...]:
    real = "osd_df_tree" in cluster.files
    df, dump = cluster.files.get("osd_df_tree", ""), cluster.files.get("osd_dump", "")
    normal, after = figures.word("limit_normal"), figures.word("limit_after_loss")
    ratio, ratio_after = ratio_of(cluster.osdmap, normal), ratio_of(cluster.osdmap, after)
    copies = ", ".join(_copies(pool.name, pool.kind, pool.size, pool.data_shards) for pool in cluster.osdmap.pools[:4])
    if len(cluster.osdmap.pools) > 4:
        copies += f" and {len(cluster.osdmap.pools) - 4} more"
    loss = {
        None: "no loss is to be survived",
        "node": "a lost node's replicas are made again on the rest",
        "rack": "a lost rack's replicas are made again on the rest",
        "pdu": "the replicas of all nodes of a lost PDU are made again on the rest",
    }[kind]
    where = f"{dump} {RATIOS[normal]}" if real and RATIOS[normal] not in figures.changed else figures.source(RATIOS[normal])
    texts: list[tuple[str, float, str, str, tuple[str, ...]]] = [
        ("disks in use", room.in_use, "OSDs that are down, out or under no pool's rule hold nothing", f"{dump or 'rack file'} osds, computed", ()),
        (
            "OSD overhead",
            room.after_overhead,
            "each OSD's own database, log and metadata",
            f"{df} kb_used less kb_used_data" if real else figures.source("osd_overhead_ratio"),
            ("osd_overhead_ratio",),
        ),
        (
            "replication",
            room.after_copies,
            f"{copies}; space beside holes and padding as measured",
            f"{dump} pools[].size, df bytes_used" if real else figures.source("erasure" if figures.word("erasure") != "none" else "replicas"),
            ("space_amplification",) if real else ("replicas", "erasure", "space_amplification"),
        ),
        (
            "fullest OSD",
            room.after_fullest,
            f"PGs are spread unevenly: osd.{fullest} fills first, the rest stays emptier" if fullest is not None else "no OSD holds data",
            "computed: CRUSH, PGs' own bytes",
            () if real else ("pgs_per_osd", "failure_domain"),
        ),
        (f"{normal} ratio", room.after_ratio, f"no OSD may pass {ratio:.4g}", where, ("limit_normal", RATIOS[normal])),
        (
            "room to heal",
            room.after_loss,
            f"{loss}, none above {ratio_after:.4g}" + (f"; worst: {kind} {worst}" if worst else "") + ("; not all PGs can heal" if short else ""),
            f"computed: CRUSH without it; {figures.source('survive')}",
            ("survive", "limit_after_loss", RATIOS[after]),
        ),
        ("stored already", max(0.0, room.after_loss - room.stored), "what users keep there now", f"{cluster.files['df_detail']} pools[].stats.stored" if real else figures.source("fill_ratio"), () if real else ("fill_ratio",)),
    ]  # fmt: skip
    steps, before = [], float(int(raw))
    for name, amount, why, source, change in texts:
        now = min(before, float(int(amount)))
        steps.append(Step(name=name, unit="bytes", before=before, taken=before - now, after=now, why=why, source=source, change=change))
        before = now
    return tuple(steps)


def _copies(name: str, kind: str, size: int, data: int) -> str:
    return f"{name} keeps {size} replicas" if kind == "replicated" else f"{name} makes {data}+{size - data} shards"
