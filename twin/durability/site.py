"""A pool and the components it hangs on, as clocks: each runs for a life, strikes the disks behind it, starts anew."""

import msgspec
import numpy as np
import numpy.typing as npt

from twin.durability.behaviour import Behaviour, Burst, Kind
from twin.durability.durations import Duration, Hours, Life, age_at, draw, draw_ages, hazard_rate, hazard_until
from twin.durability.layout import Layout, Whole

Index = npt.NDArray[np.intp]


class Family(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The clocks of one kind, numbered from ``start``.

    ``kind`` and ``behind``, the disks behind each clock, are None for bursts: they choose nodes when they strike.
    ``lost_ratio``: the chance of each of those disks to be lost for good.
    """

    name: str
    kind: Kind | None = None
    life: Life
    down: Duration
    lost_ratio: float
    start: int
    count: int
    behind: tuple[Whole, ...] | None = None
    burst: Burst | None = None

    @property
    def stop(self) -> int:
        """The number after the last clock."""
        return self.start + self.count


class Site:
    """What a year is simulated with. Clocks of disks come first, so a disk's clock has the disk's number.

    ``spare``: int64, shape (pgs,), how many more shards each group may lose. ``crowded``: whether a node holds several
    shards of one group. ``all_clocks``: also those that lose no
    disk (for availability).
    """

    def __init__(self, layout: Layout, behaviour: Behaviour, all_clocks: bool = False) -> None:
        self.layout = layout
        self.behaviour = behaviour
        self.shards = layout.shards
        self.spare = (layout.tolerance - (layout.shards < 0).sum(axis=1)).astype(np.int64)
        self.families = _families(layout, behaviour, all_clocks)
        self.clocks = self.families[-1].stop
        self._family_starts = np.array([family.start for family in self.families])
        rows, columns = np.nonzero(layout.shards >= 0)
        on = layout.shards[rows, columns]
        order = np.argsort(on, kind="stable")
        self._groups = rows[order]
        self._bounds = np.searchsorted(on[order], np.arange(layout.disks + 1))
        on_nodes = np.sort(np.where(layout.shards >= 0, layout.node_of[layout.shards], -1), axis=1)
        self.crowded = bool(((np.diff(on_nodes, axis=1) == 0) & (on_nodes[:, 1:] >= 0)).any())
        self._on_node = tuple(_members(layout.node_of, layout.nodes))
        racks = int(layout.rack_of.max(initial=-1)) + 1
        self._in_rack = tuple(np.flatnonzero(layout.rack_of == rack) for rack in range(racks))

    def family_number(self, clock: int) -> int:
        """Return which of the families a clock belongs to."""
        return int(np.searchsorted(self._family_starts, clock, side="right")) - 1

    def family_of(self, clock: int) -> Family:
        """Return the family of a clock."""
        return self.families[self.family_number(clock)]

    def groups_of(self, disks: npt.NDArray[np.integer]) -> Index:
        """Return the groups with a shard on any of the disks, sorted, each once."""
        if len(disks) == 1:
            return self._groups[self._bounds[disks[0]] : self._bounds[disks[0] + 1]]
        held = np.zeros(self.layout.pgs, dtype=bool)
        for disk in disks.tolist():
            held[self._groups[self._bounds[disk] : self._bounds[disk + 1]]] = True
        return np.flatnonzero(held)

    def shards_on(self, disks: Index) -> tuple[Index, npt.NDArray[np.int64]]:
        """Return the groups with a shard on any of the disks, each once, and how many each has there."""
        if len(disks) == 1:
            groups = self._groups[self._bounds[disks[0]] : self._bounds[disks[0] + 1]]
            return groups, np.ones(len(groups), dtype=np.int64)
        counts = np.zeros(self.layout.pgs, dtype=np.int64)
        for disk in disks.tolist():
            counts[self._groups[self._bounds[disk] : self._bounds[disk + 1]]] += 1
        groups = np.flatnonzero(counts)
        return groups, counts[groups]

    def begin(self, rng: np.random.Generator) -> tuple[Hours, Hours]:
        """Draw a moment of a site that has run for long: births (0 or before) and next strikes of all clocks, hours."""
        births, dues = np.empty(self.clocks), np.empty(self.clocks)
        for family in self.families:
            ages = draw_ages(family.life, rng, family.count)
            births[family.start : family.stop] = -ages
            ends = age_at(family.life, hazard_until(family.life, ages) + rng.exponential(1.0, family.count))
            dues[family.start : family.stop] = ends - ages
        return births, dues

    def hazards(self, clocks: Index, births: Hours, since: float, until: float) -> Hours:
        """Return the cumulative hazard of each of the clocks (sorted) between two times."""
        found = np.empty(len(clocks))
        for family, part in self._split(clocks):
            born = births[clocks[part]]
            later = hazard_until(family.life, np.maximum(until - born, 0.0))
            found[part] = later - hazard_until(family.life, np.maximum(since - born, 0.0))
        return found

    def rates(self, clocks: Index, births: Hours, at: float) -> Hours:
        """Return the hazard rate of each of the clocks (sorted) per hour; 0 for one that does not run yet."""
        found = np.zeros(len(clocks))
        for family, part in self._split(clocks):
            ages = at - births[clocks[part]]
            found[part] = np.where(ages > 0.0, hazard_rate(family.life, np.maximum(ages, 1e-9)), 0.0)
        return found

    def redraw(self, clocks: Index, births: Hours, at: float, rng: np.random.Generator) -> Hours:
        """Draw the next strikes of clocks (sorted) that have run up to ``at``. Returns times in hours."""
        found = np.empty(len(clocks))
        for family, part in self._split(clocks):
            born = births[clocks[part]]
            past = hazard_until(family.life, np.maximum(at - born, 0.0))
            found[part] = born + age_at(family.life, past + rng.exponential(1.0, len(born)))
        return np.maximum(found, at)

    def _split(self, clocks: Index) -> list[tuple[Family, slice]]:
        edges = np.searchsorted(clocks, [*self._family_starts, self.clocks])
        parts = [(family, slice(int(edges[n]), int(edges[n + 1]))) for n, family in enumerate(self.families)]
        return [(family, part) for family, part in parts if part.stop > part.start]

    def struck(self, clock: int, rng: np.random.Generator) -> Index:
        """Return the disks behind a clock that strikes; a burst draws its nodes."""
        family = self.family_of(clock)
        if family.behind is not None:
            return family.behind[clock - family.start].astype(np.intp)
        assert family.burst is not None
        return self.on_nodes(self.burst_nodes(family.burst, rng))

    def burst_nodes(self, burst: Burst, rng: np.random.Generator) -> Index:
        """Draw the nodes of one burst, sorted; with ratios there may be none."""
        nodes = self.place_of(burst, rng)
        if burst.ratios:
            chance = burst.ratios[drawn([weight for _, weight in burst.ratios], rng)][0]
            return nodes[rng.random(len(nodes)) < chance]
        number = min(burst.nodes[drawn([weight for _, weight in burst.nodes], rng)][0], len(nodes))
        return np.sort(rng.choice(nodes, number, replace=False))

    def place_of(self, burst: Burst, rng: np.random.Generator) -> Index:
        """Draw the nodes among which a burst strikes, sorted; a site without racks is one rack."""
        if not self._in_rack:
            return np.arange(self.layout.nodes)
        if burst.place == "site":
            if rng.random() < burst.rack_ratio:
                return self._in_rack[drawn([len(rack) for rack in self._in_rack], rng)]
            return np.arange(self.layout.nodes)
        racks = burst.zone_racks if burst.place == "zone" else 1
        first = int(rng.integers(0, -(-len(self._in_rack) // racks))) * racks
        return np.sort(np.concatenate(self._in_rack[first : first + racks]))

    def on_nodes(self, nodes: Index) -> Index:
        """Return the disks of nodes."""
        parts = [self._on_node[node] for node in nodes.tolist()]
        return np.concatenate(parts).astype(np.intp) if parts else np.empty(0, dtype=np.intp)

    def recoveries(self, rng: np.random.Generator, count: int) -> Hours:
        """Draw how long the copies of lost disks are missing."""
        return draw(self.behaviour.recovery, rng, count)


def drawn(weights: list[float] | list[int], rng: np.random.Generator) -> int:
    """Draw an index by weights."""
    total = np.cumsum(np.asarray(weights, dtype=np.float64))
    return int(np.searchsorted(total, rng.random() * total[-1], side="right").clip(max=len(total) - 1))


def _families(layout: Layout, behaviour: Behaviour, all_clocks: bool) -> list[Family]:
    found: list[Family] = []
    start = 0
    for kind, component in behaviour.components:
        members = tuple(_members(layout.unit_of(kind), int(layout.unit_of(kind).max(initial=-1)) + 1))
        if kind != "disk" and (not members or not (all_clocks or component.lost_ratio > 0.0)):
            continue
        family = Family(
            name=kind,
            kind=kind,
            life=component.life,
            down=component.down,
            lost_ratio=component.lost_ratio,
            start=start,
            count=len(members),
            behind=members,
        )
        found.append(family)
        start = family.stop
    for burst in behaviour.bursts:
        if all_clocks or burst.lost_ratio > 0.0:
            family = Family(
                name=burst.name,
                life=burst.every,
                down=burst.down,
                lost_ratio=burst.lost_ratio,
                start=start,
                count=1,
                burst=burst,
            )
            found.append(family)
            start = family.stop
    return found


def _members(of: Whole, count: int) -> list[Whole]:
    order = np.argsort(of, kind="stable").astype(np.int32)
    bounds = np.searchsorted(of[order], np.arange(count + 1))
    return [order[bounds[unit] : bounds[unit + 1]] for unit in range(count)]
