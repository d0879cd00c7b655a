"""The lab end to end: a rack of five real nodes comes up, survives real faults, and leaves nothing behind."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from core.machine import Machine
from drivers.lab.client import read_history
from drivers.lab.shell import NETNS, members_of
from tests.real.require import require
from trial.verdict import Outcome
from twin.journals import read_journal
from twin.replay import replay

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("lab")]

NAME = "mxtest"
FOLDER = Path("/var/lib/moxie-lab-test")
ROOT = Path(__file__).parents[2]
PROGRAMS = ("ip", "nft", "nsenter", "unshare", "java", "ipmi_sim", "ceph-mon", "ceph-osd", "qemu-storage-daemon")
LAB_S_MAX = 1_200
SCENARIOS = ("power-loss-proven", "agent-crash", "zookeeper-leader-crash", "partition-holder-majority", "drain")


def lab(*words: str, seconds: float = LAB_S_MAX) -> subprocess.CompletedProcess[str]:
    """One command of the lab, in a process of its own: it moves into the lab's namespaces."""
    command, *rest = words
    argv = (sys.executable, "-m", "drivers.cli", "lab", command, "--name", NAME, "--dir", str(FOLDER), *rest)
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)


def left() -> dict[str, list[str]]:
    """What there is of a lab on this machine."""
    spaces = [path.name for path in NETNS.iterdir() if path.name.startswith(f"{NAME}-")] if NETNS.is_dir() else []
    files = [str(path) for path in (FOLDER,) if path.exists()]
    loops = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return {
        "namespaces": spaces,
        "processes": [str(pid) for pid in members_of(spaces)],
        "folder": files,
        "loops": [line for line in loops if str(FOLDER) in line],
        "mounts": [line for line in mounts if str(FOLDER) in line],
    }


NOTHING: dict[str, list[str]] = {"namespaces": [], "processes": [], "folder": [], "loops": [], "mounts": []}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Outcome], Path]]:
    """Five scenarios, one after the other on one lab."""
    require(*PROGRAMS)
    lab("down")
    report = tmp_path_factory.mktemp("lab")
    paths = [f"scenarios/{name}" for name in SCENARIOS]
    try:
        done = lab("run", *paths, "--json", "--report", str(report))
        assert done.stdout, done.stderr[-3_000:]
        found = [msgspec.json.decode(line, type=Outcome) for line in done.stdout.splitlines()]
        yield {outcome.scenario: outcome for outcome in found}, report
    finally:
        lab("down")


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_unsafe_happens_and_the_rack_converges(name: str, outcomes: tuple[dict[str, Outcome], Path]) -> None:
    outcome = outcomes[0][name]
    assert [check for check in outcome.checks if not check.ok] == []
    assert (outcome.crash, outcome.lost_writes, outcome.double_writers, outcome.pending) == (None, 0, 0, ())
    assert outcome.acknowledged_writes > 100


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_the_scenario_expects_beside_times_is_met(name: str, outcomes: tuple[dict[str, Outcome], Path]) -> None:
    missed = [wish for wish in outcomes[0][name].expectations if not wish.ok]
    slow = [wish for wish in missed if wish.name.startswith(("failover_ms", "unavailable_ms"))]
    assert [wish for wish in missed if wish not in slow] == []


@pytest.mark.parametrize("name", ["agent-crash", "zookeeper-leader-crash"])
def test_a_crash_beside_the_database_neither_moves_nor_restarts_it(
    name: str, outcomes: tuple[dict[str, Outcome], Path]
) -> None:
    """How long clients waited is on record and not judged: one flush of a busy disk may take longer than they wait."""
    outcome = outcomes[0][name]
    assert [move for move in outcome.failovers if move.service == "mariadb"] == []
    history = outcomes[1] / name / "001" / "history.jsonl"
    served = {(op.node, op.epoch) for op in read_history(history) if op.service == "mariadb" and op.outcome == "ok"}
    assert len(served) == 1


def test_a_power_loss_that_the_bmc_proves_ends_the_session_early(outcomes: tuple[dict[str, Outcome], Path]) -> None:
    outcome = outcomes[0]["power-loss-proven"]
    assert outcome.notes["early_close"] >= 1
    assert [move.cause for move in outcome.failovers if move.service == "mariadb"] == ["power_loss"]
    assert outcome.samples["fence_ms"]


def test_the_journals_of_every_agent_replay_byte_for_byte(outcomes: tuple[dict[str, Outcome], Path]) -> None:
    files = sorted(outcomes[1].glob("*/001/journals/*/*.jsonl"))
    assert len(files) >= 5 * len(SCENARIOS)
    for file in files:
        assert replay(read_journal(file), Machine, Machine.restore).difference is None, file


def test_a_run_leaves_nothing_behind(outcomes: tuple[dict[str, Outcome], Path]) -> None:
    assert left() == NOTHING


def test_a_lab_whose_command_was_killed_is_taken_away_whole(outcomes: tuple[dict[str, Outcome], Path]) -> None:
    argv = (sys.executable, "-m", "drivers.cli", "lab", "up", "--name", NAME, "--dir", str(FOLDER), "--nodes", "3")
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as command:
        assert command.stderr is not None
        for line in command.stderr:
            if "is up and has" in line:
                break
        os.kill(command.pid, 9)
    assert left() != NOTHING
    done = lab("down")
    assert done.returncode == 0, done.stderr
    assert left() == NOTHING
    again = lab("down")
    assert (again.returncode, "nothing was left" in again.stderr) == (0, True)


def test_a_name_that_is_taken_is_refused_with_the_remedy() -> None:
    require(*PROGRAMS)
    subprocess.run(("ip", "netns", "add", f"{NAME}-infra"), check=True)
    try:
        done = lab("up", "--nodes", "3")
        assert done.returncode == 2
        assert f"remedy: rack lab down --name {NAME}" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        subprocess.run(("ip", "netns", "del", f"{NAME}-infra"), check=True)


def test_bad_words_are_refused_in_one_sentence() -> None:
    for words in (("run",), ("run", "scenarios/no-such"), ("run", "scenarios/clock-jump"), ("up", "--nodes", "99")):
        done = lab(*words)
        assert done.returncode == 2, words
        assert "Traceback" not in done.stderr
