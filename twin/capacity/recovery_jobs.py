"""The recovery of each placement group as a job: who runs it, which OSDs it reserves, what it reads and writes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from twin.capacity.cluster import Cluster
from twin.capacity.movement import Movement
from twin.capacity.recovery_settings import Kind, RecoverySettings
from twin.crush.map import NONE
from twin.crush.pools import NOBODY

RECOVERY, INACTIVE, DEGRADED, MISPLACED = 180, 220, 140, 100
"""Priorities of reservations: recovery by the log, PGs under min_size, backfill of degraded PGs, of misplaced ones.

Source: ``OSD_RECOVERY_PRIORITY_BASE`` and its neighbours of Ceph 16.2 (``src/osd/osd_types.h``).
"""

LOG_PASSES, BACKFILL_PASSES = 2, 4
"""How often a PG's turn comes, each time after a sleep, without an object of its own: to begin, to scan, to end.

Source: measured, see tests/data/growth.
"""


class Job(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The recovery of one PG.

    ``remotes``: the OSDs it reserves after its own, in this order. ``loads``: (resource, seconds of it each object
    takes). ``object_s``: the least time from one object to the next; ``lead_s``: what the PG costs before the first.
    """

    index: int
    driver: int
    remotes: tuple[int, ...]
    priority: int
    objects: int
    size_bytes: int
    shards: int
    object_s: float
    lead_s: float
    loads: tuple[tuple[int, float], ...]


class Resources(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What jobs share, by number: disks first (in order of ``osds``), then starts of OSDs, hosts' sending, receiving.

    A resource is used up when the seconds of it that its jobs take in one second add up to its limit: ``limits``.
    """

    osds: tuple[int, ...]
    hosts: tuple[str, ...]
    limits: tuple[float, ...]

    @property
    def disks(self) -> int:
        """How many disks there are; they are the first resources."""
        return len(self.osds)

    @property
    def starts_from(self) -> int:
        """The first of the resources that are OSDs' starts on objects."""
        return len(self.osds)

    @property
    def network_from(self) -> int:
        """The first of the resources that are networks of hosts."""
        return 2 * len(self.osds)


def resources_of(before: Cluster, after: Cluster, settings: RecoverySettings) -> Resources:
    """List what recovery shares on the OSDs and hosts of both."""
    hosts = {osd.id: osd.host for cluster in (before, after) for osd in cluster.osds}
    osds = tuple(sorted(hosts))
    names = tuple(dict.fromkeys(hosts[osd] for osd in osds))
    share = settings.recovery_share
    limits = [share] * len(osds) + [1.0] * len(osds) + [share] * (2 * len(names))
    return Resources(osds=osds, hosts=names, limits=tuple(limits))


def jobs_of(
    before: Cluster, after: Cluster, movement: Movement, settings: RecoverySettings, resources: Resources
) -> list[Job]:
    """Make a job of each PG with objects to move that some OSD can drive, in order of the movement's groups.

    A PG without objects needs no recovery: it is whole as soon as it has peered.
    """
    of_group: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    moves = movement.moves
    for row, key in enumerate(zip(moves.pool.tolist(), moves.pg.tolist(), strict=True)):
        of_group[key].append(row)
    costs = _Costs(before, after, settings, resources)
    found = []
    groups = movement.groups
    for index, key in enumerate(zip(groups.pool.tolist(), groups.pg.tolist(), strict=True)):
        if key in of_group and groups.driver[index] != NOBODY and groups.objects[index] > 0:
            found.append(_job(index, of_group[key], movement, costs))
    return found


class _Costs:
    """What a byte and an object cost on each resource."""

    def __init__(self, before: Cluster, after: Cluster, settings: RecoverySettings, resources: Resources) -> None:
        self.settings = settings
        self.resources = resources
        self.place = {osd: number for number, osd in enumerate(resources.osds)}
        self.kind: Mapping[int, Kind] = {osd.id: osd.kind for cluster in (before, after) for osd in cluster.osds}
        self._host = {osd.id: osd.host for cluster in (before, after) for osd in cluster.osds}
        self._number = {host: number for number, host in enumerate(resources.hosts)}
        speeds = {host.name: host.storage_mbit_per_s for cluster in (before, after) for host in cluster.hosts}
        self._bytes_per_s = {
            host: (speeds.get(host) or settings.network_mbit_per_s) * 125_000 for host in resources.hosts
        }

    def disk(self, osd: int, size: float, loads: dict[int, float]) -> float:
        """Add a read or write of ``size`` bytes; hand back how long it takes alone."""
        kind = self.kind[osd]
        took = size / self.settings.disk_bytes_per_s(kind) + self.settings.object_s(kind) / 2
        at = self.place[osd]
        loads[at] = loads.get(at, 0.0) + took
        return took

    def send(self, source: int, target: int, size: float, loads: dict[int, float]) -> float:
        """Add the way over the network, if there is any; hand back how long it takes alone."""
        out, into = self._host[source], self._host[target]
        if out == into:
            return 0.0
        base, hosts = self.resources.network_from, len(self.resources.hosts)
        for host, at in ((out, base + self._number[out]), (into, base + hosts + self._number[into])):
            loads[at] = loads.get(at, 0.0) + size / self._bytes_per_s[host]
        return size / min(self._bytes_per_s[out], self._bytes_per_s[into])


def _job(index: int, rows: Sequence[int], movement: Movement, costs: _Costs) -> Job:
    groups, moves, settings = movement.groups, movement.moves, costs.settings
    driver, pool = int(groups.driver[index]), int(groups.pool[index])
    members = _members(movement.placed_after[pool].up[int(groups.pg[index])])
    targets = [int(moves.target[row]) for row in rows]
    by_log = bool(groups.by_log[index])
    objects = int(moves.objects[rows[0]])
    loads: dict[int, float] = {}
    took = _way(index, rows, movement, costs, loads)
    sleep = settings.sleep_s(costs.kind[driver])
    active = settings.max_active(costs.kind[driver])
    loads[costs.resources.starts_from + costs.place[driver]] = max(sleep, took / active)
    return Job(
        index=index,
        driver=driver,
        remotes=tuple(sorted(set(members if by_log else targets) - {driver})),
        priority=_priority(index, movement),
        objects=objects,
        size_bytes=sum(int(moves.size_bytes[row]) for row in rows),
        shards=len(rows),
        object_s=sleep + took,
        lead_s=(LOG_PASSES if by_log else BACKFILL_PASSES) * sleep + settings.pg_recovery_ms / 1_000,
        loads=tuple(sorted(loads.items())),
    )


def _way(index: int, rows: Sequence[int], movement: Movement, costs: _Costs, loads: dict[int, float]) -> float:
    """Add what one object of a PG takes on its way: read, sent to the driver, sent on, written. Seconds if alone."""
    groups, moves = movement.groups, movement.moves
    driver, pool = int(groups.driver[index]), int(groups.pool[index])
    size = float(moves.size_bytes[rows[0]]) / max(1, int(moves.objects[rows[0]]))
    needed = int(groups.needed[index])
    lost = set(movement.osds_lost)
    holders = [osd for osd in _members(movement.placed_before[pool].up[int(groups.pg[index])]) if osd not in lost]
    sources = _sources(rows, movement, driver, holders, needed)
    read = max((costs.disk(osd, size, loads) + costs.send(osd, driver, size, loads) for osd in sources), default=0.0)
    written = max(
        costs.send(driver, osd, size, loads) + costs.disk(osd, size, loads)
        for osd in (int(moves.target[row]) for row in rows)
    )
    return read + written


def _sources(rows: Sequence[int], movement: Movement, driver: int, holders: Sequence[int], needed: int) -> list[int]:
    """Whose disks are read for one object.

    Replicas: the driver's own, or one other if the driver is new itself. Erasure coding: a shard that is still there is
    copied, one that is lost takes as many others as there are data shards.
    """
    moves = movement.moves
    if needed == 1:
        return [driver] if driver in holders else list(holders[:1])
    if any(bool(moves.degraded[row]) for row in rows):
        return list(holders[:needed])
    return [int(moves.source[row]) for row in rows]


def _members(up: "np.ndarray[tuple[int, ...], np.dtype[np.int32]]") -> list[int]:
    return [osd for osd in up.tolist() if osd != NONE]


def _priority(index: int, movement: Movement) -> int:
    groups = movement.groups
    whole, size, least = int(groups.whole[index]), int(groups.size[index]), int(groups.min_size[index])
    if whole < least:
        return INACTIVE + least - whole
    if bool(groups.by_log[index]):
        return RECOVERY
    return DEGRADED + size - whole if whole < size else MISPLACED
