"""The same seed gives the same run: in any process, under any hash seed; another seed gives another."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sim.running import ROOT, run

SAMPLES = ("lose-the-holder", "black-start", "partition-minority")


def run_in_process(name: str, hash_seed: str) -> dict[str, Any]:
    """Run a scenario in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-m", "twin.cli", "run", f"scenarios/{name}", "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    return {key: value for key, value in outcome.items() if key != "wall_ms"}


@pytest.mark.parametrize("name", [name for name in SAMPLES if (ROOT / "scenarios" / name).exists()])
def test_three_hash_seeds_give_one_outcome(name: str) -> None:
    first, second, third = (run_in_process(name, seed) for seed in ("0", "1", "4242"))
    assert first["digest"]
    assert first == second == third


def test_two_processes_give_the_outcome_of_this_one() -> None:
    _, here = run("lose-the-holder")
    assert run_in_process("lose-the-holder", "random")["digest"] == here["digest"]


def test_another_seed_gives_another_run() -> None:
    assert run("lose-the-holder", "--seed", "8")[1]["digest"] != run("lose-the-holder", "--seed", "9")[1]["digest"]


@pytest.mark.xdist_group("lose-the-holder")
def test_a_journal_holds_no_object_repr_and_replays_byte_for_byte(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    run("lose-the-holder", "--journal", str(journal))
    text = journal.read_text(encoding="utf-8")
    assert len(text.splitlines()) > 1_000
    assert " object at 0x" not in text
    assert "<function" not in text
    done = subprocess.run(
        [sys.executable, "-m", "twin.cli", "replay", str(journal)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
