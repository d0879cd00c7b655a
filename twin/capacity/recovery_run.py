"""One course of a recovery: PGs reserve, run and finish, and share disks and networks meanwhile."""

import heapq
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from twin.capacity.fair_share import fair_rates
from twin.capacity.recovery_jobs import Job
from twin.capacity.reservations import Reserver, all_asked

Floats = npt.NDArray[np.float64]

SMALL_BYTES = 4096.0
"""The least an object counts when bandwidth is shared: BlueStore's allocation unit."""
MANY_JOBS = 500
WINDOW_RATIO = 0.03
"""Of more jobs than ``MANY_JOBS``, those that end within this part of a job's mean time are settled together."""
NEVER = float("inf")
OVER = 1 + 1e-9


class Course(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """When each job's first object started and its last was done, and all were: float64 seconds, shape (jobs,)."""

    began_s: Floats
    ended_s: Floats
    end_s: float


def run(jobs: Sequence[Job], order: Sequence[int], limits: Sequence[float], slots: int) -> Course:
    """Run all jobs, which ask for their reservations in ``order`` (positions in ``jobs``) at second 0."""
    return _Run(jobs, limits, slots).run(order)


class _Run:
    def __init__(self, jobs: Sequence[Job], limits: Sequence[float], slots: int) -> None:
        self._jobs = jobs
        self._at = {job.index: number for number, job in enumerate(jobs)}
        self._reserver = Reserver(slots)
        count = len(jobs)
        size = np.array([max(SMALL_BYTES, job.size_bytes / max(1, job.objects * job.shards)) for job in jobs])
        self._caps = np.array([1.0 / max(job.object_s, 1e-6) for job in jobs]) * size if count else np.zeros(0)
        self._work = np.array([job.objects for job in jobs]) * size if count else np.zeros(0)
        self._loads = [[(at, load / size[n]) for at, load in job.loads] for n, job in enumerate(jobs)]
        self._limits = np.asarray(limits, np.float64)
        self._wanted = np.zeros(len(self._limits))
        self._crowded = 0
        self._active: dict[int, None] = {}
        self._left, self._rate, self._since = self._work.copy(), np.zeros(count), np.zeros(count)
        self._turn = [0] * count
        self._events: list[tuple[float, int, int, int]] = []
        self._number = 0
        self._began, self._ended = np.full(count, NEVER), np.full(count, NEVER)
        mean = float(np.mean(self._work / self._caps)) if count else 0.0
        self._window_s = WINDOW_RATIO * mean if count > MANY_JOBS else 0.0
        self._settle_at = NEVER

    def run(self, order: Sequence[int]) -> Course:
        for job in all_asked(self._reserver, [self._jobs[number] for number in order]):
            self._lead(job, 0.0)
        now = 0.0
        while self._events:
            now, _, number, turn = heapq.heappop(self._events)
            if number < 0:
                self._settle(now)
            elif turn == 0:
                self._begin(number, now)
            elif turn == self._turn[number]:
                self._finish(number, now)
        return Course(began_s=self._began, ended_s=self._ended, end_s=float(self._ended.max(initial=0.0)))

    def _push(self, at: float, number: int, turn: int) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, number, turn))

    def _lead(self, job: Job, now: float) -> None:
        number = self._at[job.index]
        self._push(now + job.lead_s, number, 0)

    def _begin(self, number: int, now: float) -> None:
        self._began[number] = now
        self._turn[number] = 1
        if self._work[number] <= 0:
            self._push(now, number, 1)
            return
        self._active[number] = None
        self._since[number] = now
        self._want(number, 1.0)
        if self._crowded:
            self._settle_soon(now)
        else:
            self._pace(number, float(self._caps[number]), now)

    def _finish(self, number: int, now: float) -> None:
        self._ended[number] = now
        was_crowded = self._crowded
        if number in self._active:
            del self._active[number]
            self._want(number, -1.0)
        for job in self._reserver.release(self._jobs[number]):
            self._lead(job, now)
        if was_crowded:
            self._settle_soon(now)

    def _want(self, number: int, sign: float) -> None:
        """Note what a job takes of each resource at its cap, and how many resources are asked for too much."""
        cap = float(self._caps[number])
        for at, load in self._loads[number]:
            before = self._wanted[at] > self._limits[at] * OVER
            self._wanted[at] += sign * load * cap
            self._crowded += int(self._wanted[at] > self._limits[at] * OVER) - int(before)

    def _settle_soon(self, now: float) -> None:
        if self._window_s == 0.0:
            self._settle(now)
        elif self._settle_at == NEVER:
            self._settle_at = now + self._window_s
            self._push(self._settle_at, -1, 0)

    def _settle(self, now: float) -> None:
        """Share everything anew among the jobs that run."""
        self._settle_at = NEVER
        active = np.array(list(self._active), np.int64)
        if not len(active):
            return
        if self._crowded:
            triples = [(n, at, load) for n, number in enumerate(active) for at, load in self._loads[number]]
            owners, resources, loads = zip(*triples, strict=True)
            rates = fair_rates(self._caps[active], self._limits, np.array(owners), np.array(resources), np.array(loads))
        else:
            rates = self._caps[active]
        for number, rate in zip(active.tolist(), rates.tolist(), strict=True):
            if rate != self._rate[number]:
                self._pace(number, rate, now)

    def _pace(self, number: int, rate: float, now: float) -> None:
        """Let a job go on at another rate."""
        self._left[number] = max(0.0, self._left[number] - self._rate[number] * (now - self._since[number]))
        self._rate[number], self._since[number] = rate, now
        self._turn[number] += 1
        if rate > 0:
            self._push(now + float(self._left[number]) / rate, number, self._turn[number])
