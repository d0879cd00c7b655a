"""Runs the campaigns of many seeds on a Dask cluster; the only module that needs the optional ``distributed``."""

# mypy: disallow-untyped-calls=False
# (distributed declares types for a few of its functions only)

import hashlib
import logging
import threading
from collections.abc import Generator, Iterable, Iterator
from functools import cache
from pathlib import Path

from distributed import Client, Future, KilledWorker, as_completed

import core
import formats
import trial
import twin
from core.errors import InputError
from twin.swarm.draw import Menu
from twin.swarm.engine import RunOne, killed, run_seed
from twin.swarm.found import Found

CONNECT_S = 10
"""The scheduler has to answer within this time, and a first worker to be there."""
AHEAD = 4
"""Seeds under way for each thread of a worker: enough to hide the way to the scheduler and back."""
AHEAD_MIN = 8

_Answer = Found | list[str]
_Future = Future[_Answer]
_one_at_a_time = threading.Lock()


class DaskEngine:
    """Runs seeds on the workers of the scheduler at ``address``, "host:port".

    Workers need the same sources; one that has others is refused, as its results would differ. Dask gives the seeds
    of a lost worker to others. It suspects all of them if that happens again and again; then each runs alone.
    """

    def __init__(self, address: str, run_one: RunOne = run_seed) -> None:
        self.address = address
        self.run_one = run_one

    def __str__(self) -> str:
        return f"the Dask cluster at {self.address}"

    def run(self, menu: Menu, seeds: Iterable[int]) -> Generator[Found, None, None]:
        """Yield what each seed gives, as it comes.

        Raises: InputError if there is no cluster at the address, it is lost, or it cannot serve the menu.
        """
        try:
            with self._client() as client:
                suspects: list[int] = []
                yield from self._results(client, menu, iter(seeds), suspects)
                for seed in suspects:
                    killers: list[int] = []
                    yield from self._results(client, menu, iter([seed]), killers)
                    if killers:
                        yield killed(seed, f"every worker process died that ran this seed, alone on {self.address}")
        except (OSError, TimeoutError) as error:
            raise _bad(self.address, f"the scheduler is gone ({type(error).__name__})") from None

    def _client(self) -> Client:
        for name in ("distributed", "distributed.client", "distributed.core", "distributed.utils"):
            # A connection that is lost becomes an InputError here; Dask would log its traceback besides.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            client = Client(f"tcp://{self.address}", timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise _bad(self.address, f"no scheduler answers within {CONNECT_S} s ({reason})") from None
        try:
            client.wait_for_workers(1, timeout=CONNECT_S)
        except TimeoutError:
            client.close()
            raise _bad(self.address, f"the scheduler has no worker within {CONNECT_S} s") from None
        return client

    def _results(
        self, client: Client, menu: Menu, seeds: Iterator[int], suspects: list[int]
    ) -> Generator[Found, None, None]:
        """Yield what the seeds give; those whose workers died too often are left in ``suspects``."""
        under_way: dict[_Future, int] = {}
        done = as_completed(loop=client.loop, with_results=True, raise_errors=False)
        try:
            while True:
                room = max(AHEAD_MIN, AHEAD * sum(client.nthreads().values())) - len(under_way)
                for _, seed in zip(range(room), seeds, strict=False):
                    future = client.submit(_run, self.run_one, menu, seed, _sources(), pure=False)
                    under_way[future] = seed
                    done.add(future)
                if not under_way:
                    return
                for future, answer in done.next_batch():
                    seed = under_way.pop(future)
                    if future.status == "finished":
                        yield self._found(answer)
                    elif isinstance(problem := _problem(future), KilledWorker):
                        suspects.append(seed)
                    elif problem is None:
                        raise _bad(self.address, f"the scheduler is gone, or has dropped seed {seed} ({future.status})")
                    else:
                        raise _bad(self.address, f"seed {seed} cannot be run there: {problem}")
        finally:
            client.cancel(list(under_way))

    def _found(self, answer: _Answer) -> Found:
        if isinstance(answer, list):
            raise InputError(answer)
        return answer


def _run(run_one: RunOne, menu: Menu, seed: int, sources: str) -> _Answer:
    """Run on a worker, in one of its threads: one campaign, or what is wrong with the menu or with the worker."""
    if sources != _sources():
        return ["--engine: a worker has other sources of Moxie than this computer; needed: the same on both"]
    with _one_at_a_time:
        try:
            return run_one(menu, seed)
        except InputError as error:
            return list(error.problems)


@cache
def _sources() -> str:
    """Hash everything that the result of a seed depends on, but for the racks and catalogs."""
    whole = hashlib.sha256()
    for package in (core, formats, trial, twin):
        folder = Path(str(package.__file__)).parent
        for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".toml")):
            whole.update(path.relative_to(folder.parent).as_posix().encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


def _problem(future: _Future) -> BaseException | None:
    """Why a campaign has no result; None if nobody knows, because Dask has forgotten it."""
    return future.exception() if future.status == "error" else None


def _bad(address: str, what: str) -> InputError:
    return InputError([f"--engine dask://{address}: {what}; needed: a Dask scheduler with workers that have Moxie"])
