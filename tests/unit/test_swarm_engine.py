"""The local pool: the same findings for any number of workers, none lost with a killed one, none left at the end."""

import os
import signal
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest

from core.errors import InputError
from twin.swarm.draw import Menu, make_menu
from twin.swarm.engine import AHEAD, TRIES, LocalEngine, RunOne, run_seed
from twin.swarm.found import Found

SEEDS = range(1, 41)


@pytest.fixture
def menu() -> Menu:
    """What campaigns are drawn from; the stand-ins here do not look at it."""
    return make_menu("default", None, None)


def plain(_menu: Menu, seed: int) -> Found:
    """Stand in for a campaign: every seventh is not safe."""
    verdict = "safety" if seed % 7 == 0 else "pass"
    broken = "storage" if seed % 7 == 0 else ""
    return Found(seed=seed, verdict=verdict, broken=broken, detail="", nodes=5, faults=3, sim_ms=seed, digest=str(seed))


def deadly(folder: Path, seeds: tuple[int, ...], times: int) -> RunOne:
    """Kill the worker the first ``times`` times that one of the seeds is run; every run leaves a line in the folder."""

    def run_one(menu: Menu, seed: int) -> Found:
        runs = folder / str(seed)
        with runs.open("a", encoding="utf-8") as file:
            file.write(".")
        if seed in seeds and len(runs.read_text(encoding="utf-8")) <= times:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(menu, seed)

    return run_one


def found_by(jobs: int, run_one: RunOne, menu: Menu) -> list[Found]:
    """Everything that is found, in order of the seeds."""
    return sorted(LocalEngine(jobs, run_one).run(menu, SEEDS), key=lambda found: found.seed)


STRANGERS: list[int] = []
"""What other tests in this process had started before the one that runs."""


@pytest.fixture(autouse=True)
def _strangers() -> None:
    STRANGERS[:] = [child.pid for child in psutil.Process().children(recursive=True)]


def children() -> list[int]:
    """The processes that these tests have started and that are still there."""
    return [child.pid for child in psutil.Process().children(recursive=True) if child.pid not in STRANGERS]


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_any_number_of_workers_finds_the_same(jobs: int, menu: Menu) -> None:
    assert found_by(jobs, plain, menu) == [plain(menu, seed) for seed in SEEDS]
    assert children() == []


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_real_campaigns_are_the_same_in_processes_of_their_own(jobs: int, menu: Menu) -> None:
    serial = [run_seed(menu, seed) for seed in (1, 2, 3)]
    engine = LocalEngine(jobs)
    assert sorted(engine.run(menu, (3, 1, 2)), key=lambda found: found.seed) == serial


def test_a_killed_worker_loses_nothing(tmp_path: Path, menu: Menu) -> None:
    found = found_by(2, deadly(tmp_path, (3, 20, 21, 40), TRIES - 1), menu)
    assert found == [plain(menu, seed) for seed in SEEDS]
    assert {seed: len((tmp_path / str(seed)).read_text()) for seed in (3, 20, 21, 40)} == dict.fromkeys(
        (3, 20, 21, 40), TRIES
    )


def test_only_the_seed_that_kills_every_worker_is_a_crash(tmp_path: Path, menu: Menu) -> None:
    found = found_by(3, deadly(tmp_path, (5,), 1_000), menu)
    assert [one for one in found if one.seed != 5] == [plain(menu, seed) for seed in SEEDS if seed != 5]
    (crash,) = [one for one in found if one.seed == 5]
    assert (crash.verdict, crash.broken) == ("crash", "killed_worker")
    assert crash.detail == "3 worker processes died while they ran this seed; the last one was killed by SIGKILL"
    assert len((tmp_path / "5").read_text()) == TRIES


def test_the_seeds_behind_one_that_is_given_up_are_run(menu: Menu) -> None:
    runs, given_up = (get_context("fork").Semaphore(0) for _ in range(2))

    def run_one(menu: Menu, seed: int) -> Found:
        if seed == 1:
            runs.release()
            if runs.get_value() == TRIES:  # the others wait for this, so that one is behind seed 1 until then
                for _ in SEEDS:
                    given_up.release()
            os.kill(os.getpid(), signal.SIGKILL)
        assert given_up.acquire(timeout=20)
        return plain(menu, seed)

    assert [one.seed for one in found_by(2, run_one, menu)] == list(SEEDS)


def test_a_worker_that_leaves_is_told_from_one_that_was_killed(menu: Menu) -> None:
    def leaves(_menu: Menu, seed: int) -> Found:
        os._exit(3)

    (found,) = LocalEngine(2, leaves).run(menu, (1,))
    assert found.detail.endswith("the last one ended with exit code 3")


def test_few_seeds_are_under_way_at_a_time(menu: Menu) -> None:
    taken: list[int] = []

    def seeds() -> Iterator[int]:
        for seed in range(1, 10_001):
            taken.append(seed)
            yield seed

    for given, _ in enumerate(LocalEngine(2, plain).run(menu, seeds()), start=1):
        assert len(taken) - given <= 2 * AHEAD
        if given == 50:
            break
    assert len(taken) < 60


def test_closing_the_results_ends_all_workers_at_once(menu: Menu) -> None:
    def endless(_menu: Menu, seed: int) -> Found:
        if seed > 2:
            signal.pause()
        return plain(_menu, seed)

    results = LocalEngine(3, endless).run(menu, SEEDS)
    next(results)
    assert len(children()) == 3
    results.close()
    assert children() == []


def test_workers_end_by_themselves_when_their_parent_is_killed(menu: Menu, tmp_path: Path) -> None:
    parent = os.fork()
    if parent == 0:
        results = LocalEngine(2, plain).run(menu, SEEDS)
        next(results)
        (tmp_path / "workers").write_text(" ".join(str(pid) for pid in children()), encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    workers = [int(pid) for pid in (tmp_path / "workers").read_text(encoding="utf-8").split()]
    assert len(workers) == 2
    there = [psutil.Process(pid) for pid in workers if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(there, timeout=10)
    left = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    for process in left:
        process.kill()
    assert left == []


def test_a_menu_that_cannot_be_served_is_bad_input_whoever_notices(menu: Menu) -> None:
    def refuses(_menu: Menu, seed: int) -> Found:
        raise InputError(["racks/x.toml: is gone"])

    for jobs in (1, 2):
        with pytest.raises(InputError) as error:
            list(LocalEngine(jobs, refuses).run(menu, SEEDS))
        assert error.value.problems == ["racks/x.toml: is gone"]
    assert children() == []
