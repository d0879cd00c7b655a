"""Runs the campaigns of many seeds: in this process, or on a pool of local ones that may be killed without any loss."""

import signal
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Protocol

import msgspec

from core.errors import InputError
from twin.swarm.attempt import attempt
from twin.swarm.draw import Menu, draw
from twin.swarm.found import Found
from twin.swarm.tape import Tape

AHEAD = 2
"""Seeds that a worker has at a time: the one it runs, and the next, so that it never waits for this process."""
TRIES = 3
"""A seed whose worker dies is run again; one that has cost this many workers is reported as a crash."""
KILLED = "killed_worker"
"""What is broken (``Found.broken``) when a campaign has no outcome, because every process died that ran it."""

RunOne = Callable[[Menu, int], Found]
"""What runs the campaign of one seed. Raises: InputError if the menu cannot be served."""


class Engine(Protocol):
    """Where campaigns run. The set of what is found is the same for every engine; its order is not.

    ``str(engine)`` says in words where that is.
    """

    def run(self, menu: Menu, seeds: Iterable[int]) -> Generator[Found, None, None]: ...


def run_seed(menu: Menu, seed: int) -> Found:
    """Draw and run the campaign of one seed. Raises: InputError if the rack or the catalog of the menu is not right."""
    return attempt_safely(draw(seed, menu))


def attempt_safely(tape: Tape) -> Found:
    """Run a tape; an error outside of the run, as in a checker, is the crash of this campaign, not of the swarm.

    Raises: InputError if the tape is not a scenario.
    """
    try:
        return attempt(tape)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - as in twin.run: any other error is the verdict of this campaign
        what = f"{type(error).__name__}: {error}"
        return _crashed(tape.seed, "crash", f"{what}\n{traceback.format_exc()}")


def killed(seed: int, detail: str) -> Found:
    """Return what is known of a campaign that took its processes with it."""
    return _crashed(seed, KILLED, detail)


def _crashed(seed: int, broken: str, detail: str) -> Found:
    return Found(seed=seed, verdict="crash", broken=broken, detail=detail, nodes=0, faults=0, sim_ms=0, digest="")


class LocalEngine:
    """Runs seeds on ``jobs`` processes of this computer, or in this process if ``jobs`` is 1.

    At most ``AHEAD`` seeds a worker are under way. A worker that dies is replaced and its seeds are run again; closing
    the generator, also by an exception such as KeyboardInterrupt, ends all workers at once.
    """

    def __init__(self, jobs: int, run_one: RunOne = run_seed) -> None:
        self.jobs = jobs
        self.run_one = run_one

    def __str__(self) -> str:
        return f"{self.jobs} processes" if self.jobs > 1 else "one process"

    def run(self, menu: Menu, seeds: Iterable[int]) -> Generator[Found, None, None]:
        """Yield what each seed gives, as it comes. Raises: InputError if the menu cannot be served."""
        if self.jobs == 1:
            for seed in seeds:
                yield self.run_one(menu, seed)
            return
        pool = _Pool(self.jobs, self.run_one, menu, iter(seeds))
        try:
            yield from pool.results()
        finally:
            pool.stop()


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker sends back for each seed, in the order they were given: one of the two."""

    found: Found | None = None
    problems: tuple[str, ...] = ()


_answers = msgspec.msgpack.Decoder(_Answer)


def _work(pipe: Connection, other_end: Connection, run_one: RunOne, menu: Menu) -> None:
    """Run seeds until the other end is closed, be it on purpose or because that process has died."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches the whole group; the parent ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent may have other plans with it
    other_end.close()
    while True:
        try:
            seed = msgspec.msgpack.decode(pipe.recv_bytes(), type=int)
        except (EOFError, OSError):
            return
        try:
            answer = _Answer(found=run_one(menu, seed))
        except InputError as error:
            answer = _Answer(problems=tuple(error.problems))
        try:
            pipe.send_bytes(msgspec.msgpack.encode(answer))
        except OSError:
            return


class _Worker:
    """One process, and the seeds that it has not answered yet, in order."""

    def __init__(self, run_one: RunOne, menu: Menu) -> None:
        # Forked: the modules and tables of this process are there at once, and shared in memory.
        context = get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.given: deque[int] = deque()
        self.process = context.Process(target=_work, args=(theirs, self.pipe, run_one, menu), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, seed: int) -> None:
        """Send a seed. A worker that has just died does not get it; that shows when it is asked for its answer."""
        self.given.append(seed)
        with suppress(OSError):
            self.pipe.send_bytes(msgspec.msgpack.encode(seed))

    def ended(self) -> str:
        """Say how the process has ended, once its pipe has."""
        self.process.join(timeout=5.0)
        code = self.process.exitcode
        if code is None:
            return "closed its pipe"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def stop(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()


class _Pool:
    """The workers, and the seeds that must be run again."""

    def __init__(self, jobs: int, run_one: RunOne, menu: Menu, seeds: Iterator[int]) -> None:
        self.jobs = jobs
        self.run_one = run_one
        self.menu = menu
        self.seeds = seeds
        self.again: deque[int] = deque()
        self.deaths: dict[int, int] = {}
        self.workers: list[_Worker] = []

    def results(self) -> Generator[Found, None, None]:
        while self._hand_out():
            ready = wait([worker.pipe for worker in self.workers])
            for worker in [worker for worker in self.workers if worker.pipe in ready]:
                found = self._answer(worker)
                if found is not None:
                    yield found

    def stop(self) -> None:
        """End all workers at once, whatever they are doing: what they do has no effect but its answer."""
        while self.workers:
            self.workers.pop().stop()

    def _hand_out(self) -> bool:
        """Give every worker its share, start workers for what is left; whether anything is under way."""
        for ahead in range(1, AHEAD + 1):
            while True:
                free = next((worker for worker in self.workers if len(worker.given) < ahead), None)
                if free is None and len(self.workers) == self.jobs:
                    break
                seed = self._next_seed()
                if seed is None:
                    return any(worker.given for worker in self.workers)
                if free is None:
                    free = _Worker(self.run_one, self.menu)
                    self.workers.append(free)
                free.give(seed)
        return True

    def _next_seed(self) -> int | None:
        return self.again.popleft() if self.again else next(self.seeds, None)

    def _answer(self, worker: _Worker) -> Found | None:
        try:
            answer = _answers.decode(worker.pipe.recv_bytes())
        except (EOFError, OSError):
            return self._death(worker)
        worker.given.popleft()
        if answer.problems:
            raise InputError(list(answer.problems))
        return answer.found

    def _death(self, worker: _Worker) -> Found | None:
        """Take back the seeds of a dead worker. The first was being run; it is given up after ``TRIES`` workers."""
        self.workers.remove(worker)
        ended = worker.ended()
        worker.stop()
        waiting = list(worker.given)
        if not waiting:
            return None
        seed = waiting[0]
        self.deaths[seed] = self.deaths.get(seed, 0) + 1
        if self.deaths[seed] < TRIES:
            self.again.extendleft(reversed(waiting))
            return None
        self.again.extendleft(reversed(waiting[1:]))
        return killed(seed, f"{TRIES} worker processes died while they ran this seed; the last one {ended}")
