"""Campaigns on a real Dask cluster: a scheduler and two workers in processes of their own, one of them killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from distributed import Client

from core.errors import InputError
from twin.swarm.dask_engine import DaskEngine
from twin.swarm.draw import Menu, make_menu
from twin.swarm.engine import LocalEngine
from twin.swarm.found import Found

ROOT = Path(__file__).parents[2]
SEEDS = range(1, 33)
SHORT = """# Why: two minutes each, for many of them.
duration_ms = 120_000
faults = [2, 4]
services_share = 1.0
kinds = { power_loss = 1, node_crash = 1, process_pause = 1 }
"""
pytestmark = pytest.mark.xdist_group("dask")


@pytest.fixture(scope="module")
def menu(tmp_path_factory: pytest.TempPathFactory) -> Menu:
    """What campaigns are drawn from: short ones."""
    profile = tmp_path_factory.mktemp("profile") / "short.toml"
    profile.write_text(SHORT, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return make_menu(str(profile))


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where the racks and the catalogs are, as the workers do."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler with two workers, each looked after by a nanny; all are gone afterwards."""
    tmp_path = tmp_path_factory.mktemp("dask")
    with ExitStack() as stack:
        where = tmp_path / "scheduler.json"
        common = ("--scheduler-file", str(where), "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
        start(stack, tmp_path / "scheduler", "scheduler", *common, "--port", "0")
        for worker in ("a", "b"):
            folder = ("--local-directory", str(tmp_path / "scratch"))
            start(stack, tmp_path / worker, "worker", *common, "--nthreads", "1", "--name", worker, *folder)
        with Client(scheduler_file=str(where), set_as_default=False, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
        yield msgspec.json.decode(where.read_bytes())["address"].removeprefix("tcp://")


def start(stack: ExitStack, log: Path, *arguments: str) -> None:
    """Start one process of Dask, and stop it with what it has started when the stack is left."""
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", "PYTHONPATH": str(ROOT)}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    stack.callback(process.wait, timeout=10)
    stack.callback(os.killpg, process.pid, signal.SIGKILL)


def by_seed(found: list[Found]) -> list[Found]:
    """Put what was found into the order of the seeds."""
    return sorted(found, key=lambda one: one.seed)


def worker_pids(address: str) -> list[int]:
    """The process ids of the workers, not of their nannies."""
    with Client(f"tcp://{address}", set_as_default=False) as client:
        return sorted(client.run(os.getpid).values())


def test_two_workers_find_what_one_process_finds_although_one_is_killed(cluster: str, menu: Menu) -> None:
    victim = worker_pids(cluster)[0]
    found: list[Found] = []
    for one in DaskEngine(cluster).run(menu, SEEDS):
        found.append(one)
        if len(found) == 5:
            os.kill(victim, signal.SIGKILL)
    assert victim not in worker_pids(cluster)
    assert by_seed(found) == by_seed(list(LocalEngine(1).run(menu, SEEDS)))


def deadly(_menu: Menu, seed: int) -> Found:
    """Kill the worker that runs seed 3, whichever it is."""
    if seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return Found(seed=seed, verdict="pass", broken="", detail="", nodes=3, faults=0, sim_ms=0, digest="")


def test_only_the_seed_that_kills_every_worker_is_a_crash(cluster: str, menu: Menu) -> None:
    found = by_seed(list(DaskEngine(cluster, deadly).run(menu, range(1, 7))))
    assert [(one.seed, one.verdict) for one in found if one.seed != 3] == [(seed, "pass") for seed in (1, 2, 4, 5, 6)]
    assert (found[2].seed, found[2].verdict, found[2].broken) == (3, "crash", "killed_worker")
    assert found[2].detail == f"every worker process died that ran this seed, alone on {cluster}"


def refuses(_menu: Menu, seed: int) -> Found:
    """Refuse a menu."""
    raise InputError([f"racks/x.toml: is gone, says seed {seed}"])


def broken(_menu: Menu, seed: int) -> Found:
    """Fail in a way that no engine expects."""
    raise LookupError(seed)


def test_what_a_worker_cannot_do_is_bad_input_in_its_words(cluster: str, menu: Menu) -> None:
    with pytest.raises(InputError, match=r"^racks/x.toml: is gone, says seed 1$"):
        list(DaskEngine(cluster, refuses).run(menu, (1,)))
    with pytest.raises(InputError, match=r"seed 1 cannot be run there: 1; needed: a Dask scheduler"):
        list(DaskEngine(cluster, broken).run(menu, (1,)))


def test_without_a_scheduler_or_a_worker_the_address_is_bad_input(menu: Menu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twin.swarm.dask_engine.CONNECT_S", 1)
    with pytest.raises(InputError, match=r"--engine dask://127.0.0.1:9: no scheduler answers within 1 s"):
        list(DaskEngine("127.0.0.1:9").run(menu, (1,)))


def test_a_scheduler_that_is_lost_is_told_after_what_has_been_found(cluster: str, menu: Menu) -> None:
    with Client(f"tcp://{cluster}", set_as_default=False) as client:
        scheduler = client.run_on_scheduler(os.getpid)
    results = DaskEngine(cluster).run(menu, range(1, 10_000))
    assert next(results).verdict == "pass"
    os.kill(scheduler, signal.SIGKILL)  # the last test here: nothing is left of the cluster
    with pytest.raises(InputError, match="the scheduler is gone"):
        for _ in results:
            pass
