"""Reservations of backfill and recovery: each OSD lets only so many PGs run as driver, and so many as target."""

import heapq
from collections.abc import Iterator, Sequence

from twin.capacity.recovery_jobs import Job


class Reserver:
    """The slots of every OSD, the highest priority first, then first come first served.

    A PG asks its driver first, then the other OSDs it needs in order of their ids, and keeps what it has meanwhile.
    Source: ``AsyncReserver`` and the states WaitLocal- and WaitRemote-*Reserved of Ceph 16.2; what is not done here: a
    slot that is held is not taken away for a higher priority.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._taken: dict[tuple[bool, int], int] = {}
        self._queues: dict[tuple[bool, int], list[tuple[int, int, Job, int]]] = {}
        self._asked = 0

    def ask(self, job: Job) -> bool:
        """Ask for everything a job needs; True if it has it all at once, else it will be among ``release``'s."""
        return self._go_on(job, 0)

    def release(self, job: Job) -> Iterator[Job]:
        """Give back what a job holds; hands out the jobs that have everything now."""
        for stage in range(len(job.remotes), -1, -1):
            slot = self._slot(job, stage)
            self._taken[slot] -= 1
            queue = self._queues.get(slot)
            if queue:
                _, _, following, at = heapq.heappop(queue)
                self._taken[slot] += 1
                if self._go_on(following, at + 1):
                    yield following

    def _go_on(self, job: Job, stage: int) -> bool:
        for at in range(stage, len(job.remotes) + 1):
            slot = self._slot(job, at)
            if self._taken.get(slot, 0) >= self._slots:
                self._asked += 1
                heapq.heappush(self._queues.setdefault(slot, []), (-job.priority, self._asked, job, at))
                return False
            self._taken[slot] = self._taken.get(slot, 0) + 1
        return True

    @staticmethod
    def _slot(job: Job, stage: int) -> tuple[bool, int]:
        return (True, job.driver) if stage == 0 else (False, job.remotes[stage - 1])


def all_asked(reserver: Reserver, jobs: Sequence[Job]) -> list[Job]:
    """Let all jobs ask in this order; hand back those that may run at once."""
    return [job for job in jobs if reserver.ask(job)]
