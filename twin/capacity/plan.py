"""A plan: what a cluster holds today, what each further node would add, and what a loss would do to it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from core.errors import InputError
from formats.catalog import Catalog, load_catalog
from twin.capacity.assumptions import Assumptions, load_assumptions
from twin.capacity.change import AddHosts, apply
from twin.capacity.cluster import Cluster
from twin.capacity.fill import Placements, place_all, settled
from twin.capacity.losing import worst_loss
from twin.capacity.losses import Domain
from twin.capacity.machines import machines
from twin.capacity.max_avail import max_avail_bytes
from twin.capacity.movement import move
from twin.capacity.plan_records import Growth, Marginal, Moment, Plan
from twin.capacity.recovery import recover
from twin.capacity.recovery_settings import settings_of
from twin.capacity.source import read_source
from twin.capacity.usable import usable
from twin.crush.map import NONE
from twin.crush.pools import osd_pgs
from twin.packing.mix import load_mix
from twin.packing.records import Mix

STEPS_MAX = 1_000
NODES_MAX = 20_000
Progress = Callable[[int, int], None]


def plan(
    source: Path | str,
    grow: tuple[int, int] | None = None,
    lose: Domain | None = None,
    settings: Sequence[str] = (),
    assume: Path | str | None = None,
    mix: Path | str | None = None,
    catalog: Path | str | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Plan a cluster's capacity, from a rack file or a folder of real Ceph JSON.

    ``grow``: node counts, first and last: the first step adds up to the first, each further step one node.
    ``lose``: the loss to report on, which is then also the one to survive. ``settings``: ``key=value`` changes of
    assumptions, after those of the file ``assume``. ``mix``: a file of VM flavours; ``catalog``: of the rack's own
    services.

    Raises: InputError for anything that cannot be read or is not allowed.
    """
    figures = load_assumptions(settings, Path(assume) if assume is not None else None)
    survive = lose if lose is not None and "survive" not in figures.changed else figures.word("survive")
    figures, flavours = _flavours(figures, Path(mix)) if mix is not None else (figures, None)
    cluster = read_source(Path(source), figures)
    services = load_catalog(Path(catalog)) if catalog is not None else None
    first = _moment(cluster, place_all(cluster.osdmap), figures, services, flavours, survive)
    counts = _counts(len(cluster.hosts), grow)
    growth: list[Growth] = []
    for done, nodes in enumerate(counts):
        if progress is not None:
            progress(done, len(counts))
        before = growth[-1].moment if growth else first
        growth.append(_step(before, nodes, figures, services, flavours, survive))
    return Plan(
        name=cluster.name,
        source=str(source),
        currency=cluster.currency,
        assumptions=figures,
        survive=survive,
        now=first,
        growth=tuple(growth),
        loss=worst_loss(cluster, first.placed, lose, figures) if lose is not None else None,
        warnings=(*cluster.warnings, *_beware(first), *first.usable.warnings),
    )


def _flavours(figures: Assumptions, file: Path) -> tuple[Assumptions, Mix]:
    """Read a mix; its oversubscription takes the place of what is assumed, unless that was set."""
    read = load_mix(file)
    stated = {"cores_ratio": read.cores_ratio, "memory_ratio": read.memory_ratio}
    changes = {key: ratio for key, ratio in stated.items() if ratio != 1 and key not in figures.changed}
    return figures.changed_with(changes, str(file)), read.mix


def _counts(nodes: int, grow: tuple[int, int] | None) -> range:
    """The node counts of the steps. Raises: InputError if there are none or too many."""
    if grow is None:
        return range(0)
    first, last = max(grow[0], nodes + 1), grow[1]
    if last <= nodes or last < grow[0]:
        raise InputError(
            [f"--grow {grow[0]}..{grow[1]}: there are {nodes} nodes; allowed: A..B with B from {nodes + 1}"]
        )
    if last > NODES_MAX or last - first >= STEPS_MAX:
        raise InputError([f"--grow {grow[0]}..{grow[1]}: allowed: {STEPS_MAX} steps and {NODES_MAX} nodes at most"])
    return range(first, last + 1)


def _moment(
    cluster: Cluster, placed: Placements, figures: Assumptions, catalog: Catalog | None, mix: Mix | None, survive: str
) -> Moment:
    room = usable(cluster, placed, figures, survive)
    daily = figures.whole("growth_bytes_per_day")
    return Moment(
        cluster=cluster,
        placed=placed,
        nodes=len(cluster.hosts),
        osd_pgs={osd.id: 0 for osd in cluster.osds} | osd_pgs(list(placed.values())),
        usable=room,
        machines=machines(cluster, figures, catalog, mix, survive, room.usable_bytes),
        max_avail={pool.name: max_avail_bytes(cluster, pool) for pool in cluster.osdmap.pools},
        full_in_days=room.free_bytes / daily if daily > 0 else None,
    )


def _step(
    before: Moment, nodes: int, figures: Assumptions, catalog: Catalog | None, mix: Mix | None, survive: str
) -> Growth:
    bigger = apply(before.cluster, AddHosts(count=nodes - before.nodes))
    there = {host.name for host in before.cluster.hosts}
    joining = [host for host in bigger.hosts if host.name not in there]
    placed = place_all(bigger.osdmap)
    movement = move(before.cluster, bigger, before.placed, placed)
    recovery = recover(before.cluster, bigger, movement, settings_of(figures))
    after = _moment(settled(before.cluster, before.placed, bigger, placed), placed, figures, catalog, mix, survive)
    prices = [one.price for one in joining]
    watts = [one.watts for one in joining]
    return Growth(
        moment=after,
        movement=movement,
        recovery=recovery,
        joined=tuple(one.name for one in joining),
        from_nodes=before.nodes,
        shards_moved=movement.shards_moved,
        shards_ideal=movement.shards_ideal,
        bytes_moved=movement.bytes_moved,
        bytes_ideal=movement.bytes_ideal,
        pgs_at_min_size=movement.pgs_at_min_size,
        pgs_under_min_size=movement.pgs_under_min_size,
        recovery_ms=recovery.recovery_ms,
        recovery_low_ms=recovery.low_ms,
        recovery_high_ms=recovery.high_ms,
        marginal=_marginal(before, after, _total(prices, figures, "node_price"), _total(watts, figures, "node_watts")),
    )


def _total(each: Sequence[float | None], figures: Assumptions, key: str) -> float | None:
    """The sum of what each node costs or draws: as set, else as its source says, else None."""
    if key in figures.changed:
        return figures.number(key) * len(each)
    known = [one for one in each if one is not None]
    return float(np.sum(known)) if known and len(known) == len(each) else None


def _marginal(before: Moment, after: Moment, price: float | None, watts: float | None) -> Marginal:
    more = after.usable.usable_bytes - before.usable.usable_bytes
    vms = None
    if after.machines.vms is not None and before.machines.vms is not None:
        vms = after.machines.vms - before.machines.vms
    return Marginal(
        nodes=after.nodes - before.nodes,
        bytes=more,
        vms=vms,
        raw_bytes=after.usable.raw_bytes - before.usable.raw_bytes,
        price=price,
        watts=watts,
        price_per_tb=price / (more / 1e12) if price is not None and more > 0 else None,
        price_per_vm=price / vms if price is not None and vms is not None and vms > 0 else None,
    )


def _beware(now: Moment) -> tuple[str, ...]:
    """PGs without enough places, and where the placement computed here differs from the cluster's own count."""
    different = [
        f"osd.{osd.id} {now.osd_pgs.get(osd.id, 0)} instead of {osd.pgs}"
        for osd in now.cluster.osds
        if osd.pgs is not None and osd.pgs != now.osd_pgs.get(osd.id, 0)
    ]
    said: list[str] = []
    for pool in now.cluster.osdmap.pools:
        short = int((now.placed[pool.id].up == NONE).any(axis=1).sum())
        if short:
            said.append(
                f"{short} of {pool.pg_num} PGs of pool {pool.name} have fewer places than the pool's size {pool.size}: "
                "too few failure domains are up and in for its rule"
            )
    if different:
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        said.append(
            f"PGs by CRUSH differ from the cluster's own count: {', '.join(different[:3])}{more}; "
            "is it remapped or moving?"
        )
    return tuple(said)
