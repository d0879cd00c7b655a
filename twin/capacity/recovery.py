"""How long a movement takes under Ceph's limits, what is at risk meanwhile, and what is left to clients."""

import math

import msgspec
import numpy as np
import numpy.typing as npt

from twin.capacity.cluster import Cluster
from twin.capacity.movement import Movement
from twin.capacity.recovery_jobs import Job, Resources, jobs_of, resources_of
from twin.capacity.recovery_run import Course, run
from twin.capacity.recovery_settings import RecoverySettings
from twin.crush.pools import NOBODY
from twin.streams import Stream
from twin.table import Table

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

POINTS = 120
"""How many moments a timeline has at most, the waiting before it apart."""
COLUMNS = (
    "t_ms",
    "bytes_left",
    "shards_left",
    "pgs_recovering",
    "pgs_degraded",
    "pgs_at_min_size",
    "pgs_under_min_size",
    "disk_left_worst",
    "network_left_worst",
)
COURSES_MAX = 21
JOBS_IN_ALL = 4_000
"""Courses are run until they have had so many jobs together; the more PGs, the less their order matters."""


class Recovery(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The forecast of one movement's recovery.

    ``recovery_ms``: from when data starts to move until every PG is clean, the median over orders in which PGs may get
    their reservations (Ceph's is not known ahead); ``low_ms`` and ``high_ms``: the shortest and longest of these.
    ``wait_ms``: what passes before that (``mon_osd_down_out_interval`` after a loss). ``stuck_pgs``: PGs that find no
    OSD for a lost copy, or none to recover from, and stay as they are. ``client_share_worst``: what the busiest disk or
    network has left for clients at the worst moment; ``client_share_mean``: disks that take part, over the whole time.

    ``timeline``: ``t_ms`` since the change, ``bytes_left``, ``shards_left``, ``pgs_recovering``, ``pgs_degraded``,
    ``pgs_at_min_size``, ``pgs_under_min_size``, and what the busiest disk and host network have left for clients.
    """

    recovery_ms: int
    low_ms: int
    high_ms: int
    wait_ms: int
    stuck_pgs: int
    objects: int
    bytes_moved: int
    client_share_worst: float
    client_share_mean: float
    timeline: Table

    @property
    def total_ms(self) -> int:
        """From the change until all is well again."""
        return self.wait_ms + self.recovery_ms


def recover(
    before: Cluster, after: Cluster, movement: Movement, settings: RecoverySettings | None = None, seed: int = 0
) -> Recovery:
    """Simulate the recovery of a movement.

    The model, checked against a real cluster in tests/real/test_growth.py: a PG reserves a slot of its driver, then one
    of each target (recovery by the log: of each OSD of the PG), waits for them in that order, and recovers one object
    at a time, ``osd_recovery_sleep`` apart. Disks and networks are shared max-min fairly. Clients are thought to leave
    ``recovery_share`` of both to recovery.
    """
    chosen = settings or RecoverySettings()
    resources = resources_of(before, after, chosen)
    jobs = jobs_of(before, after, movement, chosen, resources)
    course, times_ms = _courses(jobs, resources, chosen, seed, movement.shards_moved > 0)
    up_after = {osd.id for osd in after.osdmap.osds if osd.up}
    lost = any(osd not in up_after for osd in movement.osds_lost)
    wait_ms = 1_000 * chosen.mon_osd_down_out_interval if lost and movement.shards_moved else 0
    busy = _busy(jobs, course, resources)
    part = busy[: resources.disks][busy[: resources.disks].any(axis=1)]
    groups = movement.groups
    driven = _empty(movement)
    driven[[job.index for job in jobs]] = True
    return Recovery(
        recovery_ms=times_ms[len(times_ms) // 2],
        low_ms=times_ms[0],
        high_ms=times_ms[-1],
        wait_ms=wait_ms,
        stuck_pgs=int((~driven | (groups.whole_after < groups.size)).sum()),
        objects=sum(job.objects * job.shards for job in jobs),
        bytes_moved=movement.bytes_moved,
        client_share_worst=_left(busy),
        client_share_mean=1.0 - float(part.mean()) if part.size else 1.0,
        timeline=_timeline(jobs, course, movement, busy, resources, wait_ms, chosen.peering_ms),
    )


def _courses(
    jobs: list[Job], resources: Resources, settings: RecoverySettings, seed: int, moving: bool
) -> tuple[Course, tuple[int, ...]]:
    """The course of median length, and the lengths of all in milliseconds, the shortest first."""
    stream = Stream(seed, "recovery/order")
    count = max(1, min(COURSES_MAX, JOBS_IN_ALL // max(1, len(jobs)))) | 1
    courses = [
        run(jobs, stream.shuffled(range(len(jobs))), resources.limits, settings.osd_max_backfills)
        for _ in range(count if jobs else 1)
    ]
    courses.sort(key=lambda course: course.end_s)
    lead_ms = settings.peering_ms if moving else 0
    return courses[len(courses) // 2], tuple(lead_ms + math.ceil(course.end_s * 1_000) for course in courses)


def _empty(movement: Movement) -> Flags:
    """Which groups have nothing to recover, and an OSD that says so."""
    return np.asarray((movement.groups.objects == 0) & (movement.groups.driver != NOBODY), np.bool_)


def _grid(course: Course) -> Floats:
    return np.linspace(0.0, max(course.end_s, 1e-3), POINTS)


def _progress(course: Course, at_s: float) -> Floats:
    """How far each job is at a moment: 0 to 1; jobs are drawn as if they went on evenly."""
    took = np.maximum(course.ended_s - course.began_s, 1e-9)
    return np.clip((at_s - course.began_s) / took, 0.0, 1.0)


def _busy(jobs: list[Job], course: Course, resources: Resources) -> Floats:
    """The share of each disk and network that recovery takes between the moments of the grid.

    float64, shape (resources, POINTS - 1); the rows of OSDs' starts stay 0.
    """
    busy = np.zeros((len(resources.limits), POINTS - 1))
    if not jobs:
        return busy
    triples = [(n, at, load * job.objects) for n, job in enumerate(jobs) for at, load in job.loads]
    owners, places, seconds = (np.array(column) for column in zip(*triples, strict=True))
    counted = (places < resources.starts_from) | (places >= resources.network_from)
    owners, places, seconds = owners[counted], places[counted], seconds[counted]
    grid = _grid(course)
    done = [
        np.bincount(places, weights=seconds * _progress(course, at)[owners], minlength=len(busy))
        for at in grid.tolist()
    ]
    return np.asarray(np.diff(np.array(done), axis=0).T / np.diff(grid), np.float64)


def _left(busy: Floats) -> float:
    """What the busiest has left, between 0 and 1."""
    return min(1.0, max(0.0, 1.0 - float(busy.max(initial=0.0))))


def _timeline(
    jobs: list[Job],
    course: Course,
    movement: Movement,
    busy: Floats,
    resources: Resources,
    wait_ms: int,
    peering_ms: int,
) -> Table:
    groups = movement.groups
    size = np.array([job.size_bytes for job in jobs], np.float64)
    shards = np.array([job.shards for job in jobs], np.float64)
    empty = _empty(movement)
    at_job = np.full(len(groups.pg), -1)
    at_job[[job.index for job in jobs]] = np.arange(len(jobs))
    rows: list[tuple[float, ...]] = []
    grid = _grid(course) if jobs else np.zeros(1)
    lead_ms = wait_ms + (peering_ms if movement.shards_moved else 0)
    moments = [(0.0, -1.0), *((lead_ms - 1.0, -1.0) for _ in range(1 if lead_ms > 1 else 0))]
    moments += [(lead_ms + at * 1_000, at) for at in grid.tolist()]
    for number, (at_ms, at) in enumerate(moments):
        progress = _progress(course, at) if jobs else np.zeros(0)
        ended = course.ended_s <= at
        done = np.where(at_job >= 0, np.append(ended, False)[at_job], empty & (at >= 0))
        whole = np.where(done, groups.whole_after, groups.whole)
        serving = np.where(done, groups.whole_after, groups.serving if at >= 0 else groups.serving_first)
        less = serving < groups.whole_before
        point = min(POINTS - 2, max(0, number - (len(moments) - len(grid))))
        now = busy[:, point] if at >= 0 else np.zeros(len(busy))
        rows.append(
            (
                round(at_ms),
                round(float((size * (1 - progress)).sum())),
                round(float((shards * ~ended).sum())),
                int(((course.began_s <= at) & ~ended).sum()),
                int((whole < groups.size).sum()),
                int((less & (serving == groups.min_size)).sum()),
                int((less & (serving < groups.min_size)).sum()),
                _left(now[: resources.disks]),
                _left(now[resources.network_from :]),
            )
        )
    columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
    return Table(columns, {"t_ms": "ms", "bytes_left": "bytes"}, title="Recovery over time")
