"""Apply one planted bug to a copy of the tree and ask the detectors, cheapest first, until one notices."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from tests.mutants.planted import Mutant

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("core", "twin", "drivers", "catalog", "racks", "scenarios", "tests", "pyproject.toml")
DETECTORS: tuple[tuple[str, ...], ...] = (
    ("tests/unit/test_gate.py", "tests/unit/test_found_machines.py", "tests/unit/test_upgrade_rules.py"),
    ("tests/unit/test_rules.py", "tests/unit/test_rules_of_nodes.py"),
    ("tests/property/test_gate.py",),
    ("tests/property/test_machine_rules.py",),
    ("tests/model/test_model.py",),
    ("tests/sim",),
)
"""What a mutant must be caught by, each a choice of tests; the next is asked only if the ones before it see nothing."""
OF_MACHINES = range(13, 16)
"""The rules of machines and images: tests of their own are asked first for them, and last for the others."""
SECONDS_MAX = 240
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


class Catch(msgspec.Struct, frozen=True):
    """Which test caught a mutant; ``test`` is empty if none did."""

    mutant: Mutant
    test: str


def planted_in(mutant: Mutant, source: str) -> str:
    """The source with the bug. Raises: ValueError if the place is not found exactly once."""
    found = source.count(mutant.old)
    if found != 1:
        raise ValueError(f"{mutant.name}: its place occurs {found} times in core/{mutant.file}")
    return source.replace(mutant.old, mutant.new)


def copy_tree(to: Path) -> None:
    """Copy what the detectors need."""
    ignored = shutil.ignore_patterns("__pycache__", ".hypothesis", "golden", "mutants")
    for part in PARTS:
        origin = ROOT / part
        if origin.is_dir():
            shutil.copytree(origin, to / part, ignore=ignored)
        elif origin.exists():
            shutil.copy(origin, to / part)


def first_complaint(tree: Path) -> str:
    """Which test fails on the unchanged core; empty if none does. A detector that cries always catches nothing."""
    copy_tree(tree)
    return next(filter(None, (caught_by(detector, tree) for detector in DETECTORS[:5])), "")


def hunt(mutant: Mutant, tree: Path) -> Catch:
    """Plant a bug in a fresh copy of the tree at ``tree`` and find who notices."""
    copy_tree(tree)
    target = tree / "core" / mutant.file
    target.write_text(planted_in(mutant, target.read_text()))
    for detector in DETECTORS if mutant.rule in OF_MACHINES else (*DETECTORS[1:], DETECTORS[0]):
        if not all((tree / path).exists() for path in detector):
            continue
        test = caught_by(detector, tree)
        if test:
            return Catch(mutant, test)
    return Catch(mutant, "")


def caught_by(detector: tuple[str, ...], tree: Path) -> str:
    """The first test of a detector that fails in this tree; empty if all pass."""
    environment = dict(os.environ, PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="1", MODEL_STATES="1500")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "--no-header",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        *detector,
    ]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{detector[0]} (does not end)"
    if done.returncode == 0:
        return ""
    found = _FAILED.search(done.stdout)
    return found.group(1) if found else f"{detector[0]}: {(done.stdout + done.stderr)[-300:]}"
