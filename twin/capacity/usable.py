"""Usable bytes of a cluster: what users can store before the first OSD is full, and with room for a loss."""

from collections.abc import Sequence

import msgspec
import numpy as np

from twin.capacity.assumptions import Assumptions
from twin.capacity.cluster import Cluster
from twin.capacity.fill import Amounts, Group, Placements, full_rate, groups, growth_rates, stored_bytes
from twin.capacity.losses import Domain, Loss, chosen, lose
from twin.capacity.steps import Step
from twin.capacity.usable_words import Room, bytes_waterfall, ratio_of
from twin.crush.compile import compile_map

SURVIVED: dict[str, Domain | None] = {"none": None, "node": "node", "rack": "rack", "pdu": "pdu"}


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


def usable(cluster: Cluster, placed: Placements, figures: Assumptions, survive: str | None = None) -> Usable:
    """Compute the waterfall of bytes. ``survive``: none, node, rack or pdu (None: as assumed).

    Pools that share disks are one group, whose data grows in the proportions of today; each group is full when its
    first OSD is.

    Raises: InputError if the source does not know the domains that are to be survived.
    """
    kind = SURVIVED[survive or figures.word("survive")]
    tried, count = chosen(cluster, kind) if kind is not None else ({}, 0)
    compiled = compile_map(cluster.osdmap.crush) if tried else None
    losses = [lose(cluster, placed, name, osds, compiled) for name, osds in tried.items()]
    found = groups(cluster, placed)
    rooms = [_room(cluster, placed, group, losses, figures) for group in found]
    total = _sum([room for room, _, _ in rooms])
    short = {loss.name: loss.short for loss in losses if loss.short}
    gone = {loss.name: loss.gone for loss in losses if loss.gone}
    fullest = min(((free, osd) for _, (free, osd), _ in rooms), default=(0.0, None))[1]
    worst = min(((free, name) for _, _, (free, name) in rooms if name), default=(0.0, None))[1]
    steps = bytes_waterfall(cluster, figures, total, kind, fullest, worst, bool(short))
    return Usable(
        raw_bytes=int(steps[0].before),
        usable_bytes=int(steps[-2].after),
        free_bytes=int(steps[-1].after),
        stored_bytes=int(total.stored),
        steps=steps,
        fullest=fullest,
        worst=worst,
        heals=not short,
        losses=len(tried),
        losses_all=count,
        warnings=_warnings(found, kind, short, gone, len(tried), count),
    )


def _room(
    cluster: Cluster, placed: Placements, group: Group, losses: Sequence[Loss], figures: Assumptions
) -> tuple[Room, tuple[float, int | None], tuple[float, str | None]]:
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
    free, at = _until(size * ratio_of(cluster.osdmap, figures.word("limit_normal")), used, rates)
    kept, least, worst = free, float("inf"), None
    after = ratio_of(cluster.osdmap, figures.word("limit_after_loss"))
    for loss in losses:
        left, _ = _until(size * after, loss.used, growth_rates(cluster, loss.placed, group, amplified))
        if loss.gone:
            left = -stored
        kept = min(kept, left)
        if left < least:
            least, worst = left, loss.name
    amounts = [float(size[mine].sum()), float((size - overhead)[mine].sum()), copies, stored + free_all, stored + free]
    amounts.append(stored + kept)
    falling = np.minimum.accumulate(np.maximum(0.0, amounts)).tolist()
    names = ("in_use", "after_overhead", "after_copies", "after_fullest", "after_ratio", "after_loss")
    room = Room(**dict(zip(names, falling, strict=True)), stored=stored)
    return room, (free, cluster.osds[at].id if at is not None else None), (least, worst)


def _until(limit: Amounts, used: Amounts, rates: Amounts) -> tuple[float, int | None]:
    """How many bytes users may add until the first OSD is at its limit (negative: it is past it), and which it is."""
    growing = np.flatnonzero(rates > 0)
    if growing.size == 0:
        return 0.0, None
    room = (limit[growing] - used[growing]) / rates[growing]
    at = int(np.argmin(room))
    return float(room[at]), int(growing[at])


def _sum(rooms: Sequence[Room]) -> Room:
    fields = msgspec.structs.fields(Room)
    return Room(**{field.name: float(sum(getattr(room, field.name) for room in rooms)) for field in fields})


def _warnings(
    found: Sequence[Group], kind: Domain | None, short: dict[str, int], gone: dict[str, int], tried: int, count: int
) -> tuple[str, ...]:
    said = []
    if not found:
        said.append("no pool has a place on any OSD: nothing is usable")
    if gone:
        name, groups_gone = max(gone.items(), key=lambda item: (item[1], item[0]))
        said.append(
            f"{groups_gone} PGs have every replica (or too many shards) in {kind} {name}: what is stored does not "
            "survive its loss for sure, so nothing counts as usable"
        )
    elif short:
        name, groups_short = max(short.items(), key=lambda item: (item[1], item[0]))
        said.append(
            f"after the loss of {kind} {name}, {groups_short} PGs find no full set of places again: too few failure "
            "domains are left for the pool's rule, so they stay degraded and the room kept is for the rest only"
        )
    if tried < count:
        said.append(f"only the {tried} fullest of {count} {kind}s were lost for trial")
    return tuple(said)
