"""How available the storage is: the share of time in which groups have too few shards to serve.

A group serves while at least ``min_size`` of its shards are there. Outages of nodes, PDUs, racks and bursts take shards
away for a while, lost disks until their copies are made again.
"""

import math
from itertools import product

import msgspec
import numpy as np
import numpy.typing as npt

from twin.durability.behaviour import Behaviour, Kind
from twin.durability.durations import Hours, draw, mean_hours
from twin.durability.estimate import Estimate, of_sums
from twin.durability.layout import Layout
from twin.durability.site import Family, Site

PARTS = 40
"""The simulated time is cut into so many parts; their scatter gives the interval (batch means)."""
EDGES_MAX = 400_000


class Unavailability(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of time in [0, 1]: of the mean group below ``min_size``, and of any group. ``years``: simulated."""

    per_group: Estimate
    any_group: Estimate
    years: float


def unavailability(layout: Layout, behaviour: Behaviour, edges: int = 40_000, seed: int = 0) -> Unavailability:
    """Simulate outages and return how long groups are below ``min_size``.

    ``edges``: about how many beginnings and ends of outages to simulate, at most ``EDGES_MAX``; the time follows.
    """
    site = Site(layout, behaviour, all_clocks=True)
    rate = sum(family.count / mean_hours(family.life) for family in site.families)
    hours = min(edges, EDGES_MAX) / 2.0 / rate
    rng = np.random.Generator(np.random.Philox(key=[seed, 0xA7A]))
    times, disks, steps = _edges(site, hours, rng)
    down = np.zeros(layout.disks, dtype=np.int32)
    spare = (layout.shards >= 0).sum(axis=1) - layout.min_size
    missing = np.zeros(layout.pgs, dtype=np.int64)
    below = int((spare < 0).sum())
    bins = np.zeros((PARTS, 2))
    now = 0.0
    for time, disk, step in zip(times.tolist(), disks, steps.tolist(), strict=True):
        if below and time > now:
            _spread(bins, now / hours * PARTS, time / hours * PARTS, below / layout.pgs)
        now = time
        before = down[disk] > 0
        down[disk] += step
        changed = disk[(down[disk] > 0) != before]
        groups, shards = site.shards_on(changed)
        was = int((missing[groups] > spare[groups]).sum())
        missing[groups] += step * shards
        below += int((missing[groups] > spare[groups]).sum()) - was
    if below:
        _spread(bins, now / hours * PARTS, PARTS, below / layout.pgs)
    found = [of_sums(float(part.sum()), float((part * part).sum()), PARTS, "batch means") for part in bins.T]
    return Unavailability(per_group=found[0], any_group=found[1], years=hours / 8_766.0)


def _spread(bins: npt.NDArray[np.float64], start: float, stop: float, share: float) -> None:
    """Add a time (in parts) during which ``share`` of the groups are away to the parts that it touches."""
    for part in range(int(start), min(PARTS, math.ceil(stop))):
        inside = min(stop, part + 1) - max(start, part)
        bins[part] += (share * inside, inside)


def _edges(
    site: Site, hours: float, rng: np.random.Generator
) -> tuple[Hours, list[npt.NDArray[np.intp]], npt.NDArray[np.int32]]:
    """Draw all outages before ``hours``. Returns, by time: times, the disks that each concerns, +1 down or -1 up."""
    starts: list[float] = []
    ends: list[float] = []
    struck: list[npt.NDArray[np.intp]] = []
    _, dues = site.begin(rng)
    for family in site.families:
        for number in range(family.count):
            at = float(dues[family.start + number])
            while at < hours:
                length = 0.0
                for disks, length in _outages(site, family, number, rng):
                    starts.append(at)
                    ends.append(at + length)
                    struck.append(disks)
                away = 0.0 if family.burst is not None else length
                at += away + float(draw(family.life, rng, 1)[0])
    times = np.array(starts + ends)
    steps = np.repeat(np.array([1, -1], dtype=np.int32), len(starts))
    order = np.argsort(times, kind="stable")
    order = order[times[order] < hours]
    return times[order], [struck[index % len(struck)] for index in order.tolist()], steps[order]


def _outages(
    site: Site, family: Family, number: int, rng: np.random.Generator
) -> list[tuple[npt.NDArray[np.intp], float]]:
    """What one strike takes away: (disks, hours). The nodes of a burst come back one by one."""
    if family.burst is None:
        disks = site.struck(family.start + number, rng)
        return [(disks, float(draw(family.down, rng, 1)[0]))]
    nodes = site.burst_nodes(family.burst, rng)
    lengths = draw(family.down, rng, len(nodes))
    return [
        (site.on_nodes(np.array([node])), length) for node, length in zip(nodes.tolist(), lengths.tolist(), strict=True)
    ]


def below_min_size(layout: Layout, behaviour: Behaviour) -> npt.NDArray[np.float64]:
    """Return for each group the share of time below ``min_size``, if bursts are left out: float64, shape (pgs,).

    Components are independent then. What several shards of a group hang on is conditioned on; given that, shards are
    away independently, and their number follows by convolution. Exact in the long run.
    """
    away = {
        kind: mean_hours(part.down) / (mean_hours(part.life) + mean_hours(part.down))
        for kind, part in behaviour.components
    }
    kinds: list[Kind] = ["node", "pdu", "rack"]
    units = {kind: layout.unit_of(kind) for kind in kinds if away.get(kind, 0.0) > 0.0}
    known: dict[tuple[tuple[int, ...], ...], float] = {}
    found = np.empty(layout.pgs)
    for index, row in enumerate(layout.shards):
        disks = row[row >= 0]
        alike = tuple(_pattern([int(of[disk]) for disk in disks]) for of in units.values())
        key = (*alike, (len(disks),))
        if key not in known:
            known[key] = _too_few(len(disks) - layout.min_size, alike, [away[kind] for kind in units], away["disk"])
        found[index] = known[key]
    return found


def _pattern(units: list[int]) -> tuple[int, ...]:
    """Rename units in the order in which they come; -1 (none) stays."""
    names: dict[int, int] = {}
    return tuple(-1 if unit < 0 else names.setdefault(unit, len(names)) for unit in units)


def _too_few(spare: int, alike: tuple[tuple[int, ...], ...], away: list[float], disk: float) -> float:
    """The chance that more than ``spare`` of the shards are away; ``alike``: for each kind, the unit of each shard."""
    shards = len(alike[0]) if alike else spare + 1
    own = np.full(shards, 1.0 - disk)
    shared: list[tuple[npt.NDArray[np.bool_], float]] = []
    for units, chance in zip(alike, away, strict=True):
        for unit in sorted({unit for unit in units if unit >= 0}):
            on = np.array([other == unit for other in units])
            if on.sum() > 1:
                shared.append((on, chance))
            else:
                own[on] *= 1.0 - chance
    total = 0.0
    for states in product((False, True), repeat=len(shared)):
        weight, gone = 1.0, np.zeros(shards, dtype=bool)
        for (on, chance), is_away in zip(shared, states, strict=True):
            weight *= chance if is_away else 1.0 - chance
            gone |= on & is_away
        total += weight * _tail(np.where(gone, 1.0, 1.0 - own), spare)
    return total


def _tail(chances: npt.NDArray[np.float64], spare: int) -> float:
    """The chance that more than ``spare`` of independent events happen, summed from small terms."""
    counts = np.zeros(len(chances) + 1)
    counts[0] = 1.0
    for number, chance in enumerate(chances.tolist(), 1):
        counts[1 : number + 1] = counts[1 : number + 1] * (1.0 - chance) + counts[:number] * chance
        counts[0] *= 1.0 - chance
    return float(counts[spare + 1 :].sum()) if spare >= 0 else 1.0
