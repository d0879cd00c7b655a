"""Reports of runs as files: outcomes, one JSON object a line, as ``--json`` prints them in either world."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from core.errors import InputError
from trial.verdict import Outcome

Half = Literal["odd", "even"]
"""Every other scenario in order of their names; the first one is odd."""

SUFFIXES = (".json", ".jsonl")
PROBLEMS_MAX = 20


def read_outcomes(path: Path) -> tuple[Outcome, ...]:
    """Read all outcomes of a file, or of every JSON file below a folder, in order of names and lines.

    Raises: InputError if there is none, or with what is wrong in which line.
    """
    files = _files(path)
    problems: list[str] = []
    found: list[Outcome] = []
    for file in files:
        try:
            text = file.read_bytes()
        except OSError as error:
            problems.append(f"{file}: cannot be read ({error.strerror}); needed: a report, outcomes as JSON")
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                try:
                    found.append(msgspec.json.decode(line, type=Outcome))
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    problems.append(f"{file}: line {number}: is no outcome ({error}); needed: what --json prints")
    if problems:
        more = [f"and {len(problems) - PROBLEMS_MAX} more"] if len(problems) > PROBLEMS_MAX else []
        raise InputError([*problems[:PROBLEMS_MAX], *more])
    if not found:
        raise InputError([f"{path}: holds no outcome; needed: a report, one JSON object a line, as --json prints it"])
    return tuple(found)


def half_of(names: Iterable[str], half: Half | None) -> tuple[str, ...]:
    """The scenarios of one half, in order; all of them where no half is asked for."""
    ordered: Sequence[str] = sorted(dict.fromkeys(names))
    if half is None:
        return tuple(ordered)
    return tuple(ordered[(0 if half == "odd" else 1) :: 2])


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not path.is_file():
        raise InputError([f"{path}: is no file and no folder; needed: a report, as --json prints it"])
    return [path]
