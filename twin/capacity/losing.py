"""What the loss of the worst node, rack or PDU does: to users at once, and to the disks once Ceph has healed."""

import msgspec
import numpy as np

from twin.capacity.assumptions import Assumptions
from twin.capacity.cluster import Cluster
from twin.capacity.fill import Placements
from twin.capacity.losses import Domain, domains, lose, without
from twin.capacity.movement import Movement, move
from twin.capacity.recovery import Recovery, recover
from twin.capacity.recovery_settings import settings_of
from twin.capacity.usable_words import ratio_of
from twin.crush.map import NONE
from twin.table import Table


class LossReport(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The worst loss of one kind of domain.

    ``pgs_under_min_size``: PGs whose IO stops at once; ``pgs_lost``: PGs with too little left to read anything;
    ``pgs_short``: PGs that never find a full set of places; ``fits``: whether the healed replicas stay under the ratio
    ``limit_ratio`` on every OSD, the fullest of which is ``fullest_osd``.
    """

    kind: Domain
    name: str
    nodes: tuple[str, ...]
    osds: tuple[int, ...]
    pgs: int
    pgs_at_min_size: int
    pgs_under_min_size: int
    pgs_lost: int
    pgs_short: int
    shards_moved: int
    bytes_to_recover: int
    recovery_ms: int
    fits: bool
    fullest_osd: int | None
    fullest_ratio: float
    limit_ratio: float
    notes: tuple[str, ...]
    movement: Movement
    recovery: Recovery

    @property
    def table(self) -> Table:
        """What the loss does, one figure a row."""
        rows = [
            ("PGs in all", self.pgs, ""),
            ("PGs whose IO stops at once", self.pgs_under_min_size, ""),
            ("PGs that the next loss would stop", self.pgs_at_min_size, ""),
            ("PGs with too little left to be read", self.pgs_lost, ""),
            ("PGs that never find a full set of places", self.pgs_short, ""),
            ("shards to make again", self.shards_moved, ""),
            ("bytes to make again", self.bytes_to_recover, "bytes"),
            ("time until that is done", round(self.recovery_ms / 60_000, 2), "minutes"),
            ("fullest OSD then", round(100 * self.fullest_ratio, 2), "%"),
            ("allowed", round(100 * self.limit_ratio, 2), "%"),
        ]
        names, values, units = zip(*rows, strict=True)
        shown = [f"{value:,}" for value in values]
        return Table({"what": names, "value": shown, "unit": units}, title=f"Loss of {self.kind} {self.name}")


def worst_loss(cluster: Cluster, placed: Placements, kind: Domain, figures: Assumptions) -> LossReport:
    """Find the domain whose loss is worst (PGs lost, PGs stopped, bytes on it, name) and report on it.

    Raises: InputError if the source does not know such domains.
    """
    every = domains(cluster, kind)
    name = max(every, key=lambda one: (_hurt(cluster, placed, every[one]), one))
    loss = lose(cluster, placed, name, every[name])
    after = msgspec.structs.replace(cluster, osdmap=without(cluster.osdmap, loss.osds))
    movement = move(cluster, after, placed, loss.placed)
    recovery = recover(cluster, after, movement, settings_of(figures))
    size = np.array([osd.size_bytes for osd in cluster.osds], np.float64)
    filled = np.divide(loss.used, size, out=np.zeros_like(size), where=size > 0)
    at = int(np.argmax(filled)) if filled.size else 0
    limit = ratio_of(cluster.osdmap, figures.word("limit_after_loss"))
    fullest = float(filled[at]) if filled.size else 0.0
    left = len(loss.osds) < len(cluster.osds)
    return LossReport(
        kind=kind,
        name=name,
        nodes=tuple(sorted({osd.host for osd in cluster.osds if osd.id in loss.osds})),
        osds=tuple(sorted(loss.osds)),
        pgs=sum(pool.pg_num for pool in cluster.osdmap.pools),
        pgs_at_min_size=movement.pgs_at_min_size,
        pgs_under_min_size=movement.pgs_under_min_size,
        pgs_lost=movement.pgs_lost,
        pgs_short=loss.short,
        shards_moved=movement.shards_moved,
        bytes_to_recover=movement.bytes_moved,
        recovery_ms=recovery.recovery_ms,
        fits=fullest <= limit and not loss.short and not loss.gone,
        fullest_osd=cluster.osds[at].id if left else None,
        fullest_ratio=fullest,
        limit_ratio=limit,
        movement=movement,
        recovery=recovery,
        notes=_notes(kind, loss.short, loss.gone, fullest > limit),
    )


def _hurt(cluster: Cluster, placed: Placements, osds: tuple[int, ...]) -> tuple[int, int, int]:
    """How badly a loss hurts: PGs that lose all they need, PGs that stop, and bytes on the lost disks."""
    lost = stopped = 0
    for pool in cluster.osdmap.pools:
        held = placed[pool.id].up != NONE
        left = (held & ~np.isin(placed[pool.id].up, osds)).sum(axis=1)
        hit = left < held.sum(axis=1)
        lost += int((hit & (left < pool.data_shards)).sum())
        stopped += int((hit & (left < pool.min_size)).sum())
    return lost, stopped, sum(osd.used_bytes for osd in cluster.osds if osd.id in osds)


def _notes(kind: Domain, short: int, gone: int, over: bool) -> tuple[str, ...]:
    notes = []
    if gone:
        notes.append(f"{gone} PGs have every replica (or too many shards) there: their data is away until it is back")
    if short:
        notes.append(f"{short} PGs find no full set of places among what is left: too few failure domains for the rule")
    if over:
        notes.append("healing stops before it is done: an OSD would pass the ratio above which Ceph backfills no more")
    if kind != "node":
        notes.append(
            "Ceph does not mark a whole rack or anything larger out by itself (mon_osd_down_out_subtree_limit = rack): "
            "healing then begins when an operator does"
        )
    return tuple(notes)
