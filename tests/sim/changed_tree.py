"""Runs scenarios in a copy of the tree whose files may be changed, to see that they notice."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.mutants.hunt import ROOT


class Change(msgspec.Struct, frozen=True):
    """One textual change of a file: ``old`` occurs exactly once in it and becomes ``new``."""

    file: str
    old: str
    new: str


@contextmanager
def changed(tree: Path, changes: Sequence[Change]) -> Iterator[None]:
    """Make the changes in a copy of the tree, and undo them."""
    try:
        for change in changes:
            source = (tree / change.file).read_text()
            assert source.count(change.old) == 1, change.file
            (tree / change.file).write_text(source.replace(change.old, change.new))
        yield
    finally:
        for change in changes:
            shutil.copy(ROOT / change.file, tree / change.file)


def broken_in(tree: Path, scenario: str) -> list[str]:
    """Run a scenario in a tree; name everything that is broken. Its journal is ``journal.jsonl`` there."""
    command = [sys.executable, "-m", "twin.cli", "run", f"scenarios/{scenario}", "--json", "--journal", "journal.jsonl"]
    environment = dict(os.environ, PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    outcome = json.loads(done.stdout)
    found = [check["name"] for check in outcome["checks"] if not check["ok"]]
    found += [wish["name"] for wish in outcome["expectations"] if not wish["ok"]]
    found += ["convergence"] if outcome["pending"] else []
    found += ["crash"] if outcome["crash"] else []
    return found
