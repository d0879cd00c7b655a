"""Hunt planted bugs with the swarm: ``python -m tests.mutants.swarm_hunt [NAMES] [--seeds 2000] [--table FILE]``.

Each bug is planted in a copy of the tree; there seeds run until one fails, and its campaign is shrunk. A seed counts
only if it passes without the bug. Every bug that is done is a line of ``--results``; it is not hunted again, unless
``--again`` says so, so that a hunt can be interrupted and gone on with.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import msgspec

from tests.mutants.hunt import ROOT, planted_in
from tests.mutants.planted import MUTANTS, Mutant
from tests.mutants.swarm_in_tree import Answer, Ask
from twin.swarm.tape import Tape

PARTS = ("core", "formats", "trial", "twin", "catalog", "racks")
IN_TREE = Path(__file__).with_name("swarm_in_tree.py")
SECONDS_MAX = 1_200
RESULTS = ROOT / "reports" / "swarm_hunt.jsonl"


class Row(msgspec.Struct, kw_only=True):
    """What came of one planted bug. ``seed`` 0: no seed found it. ``clean``: the shrunk tape's verdict without the bug.

    ``skipped``: seeds that fail without the bug as well. ``trouble``: why there is no answer.
    """

    name: str
    rule: int
    seeds: int = 0
    seed: int = 0
    verdict: str = ""
    broken: str = ""
    detail: str = ""
    faults_before: int = 0
    faults_after: int = 0
    nodes_after: int = 0
    runs: int = 0
    note: str = ""
    clean: str = ""
    skipped: tuple[int, ...] = ()
    find_s: float = 0.0
    shrink_s: float = 0.0
    tape: Tape | None = None
    trouble: str = ""


class Hunt:
    """One hunt with its clean copy of the tree; used by as many threads as there are jobs."""

    def __init__(self, tree: Path, folder: Path, profile: str, seeds: int, runs_max: int) -> None:
        self.folder = folder
        self.profile = profile
        self.seeds = seeds
        self.runs_max = runs_max
        self.clean = folder / "clean"
        copy_parts(tree, self.clean)
        self._ask(self.clean, seeds=(1, 1))  # a tree that does not run at all is no reason to hunt fifty bugs

    def row(self, mutant: Mutant) -> Row:
        """Plant a bug, search for it, shrink what is found."""
        tree = self.folder / mutant.name
        row = Row(name=mutant.name, rule=mutant.rule)
        try:
            shutil.copytree(self.clean, tree)
            target = tree / "core" / mutant.file
            target.write_text(planted_in(mutant, target.read_text()))
            self._search(tree, row)
        except (ValueError, RuntimeError, subprocess.TimeoutExpired) as error:
            row.trouble = str(error)[-600:]
        shutil.rmtree(tree, ignore_errors=True)
        return row

    def _search(self, tree: Path, row: Row) -> None:
        low = 1
        while low <= self.seeds:
            hit = self._ask(tree, seeds=(low, self.seeds))
            row.seeds += hit.ran
            row.find_s += hit.seconds
            if hit.found is None or hit.tape is None:
                return
            clean = self._ask(self.clean, tape=hit.tape).found
            assert clean is not None
            if clean.verdict == "pass":
                self._shrink(tree, row, hit.tape)
                return
            row.skipped += (hit.tape.seed,)
            low = hit.tape.seed + 1

    def _shrink(self, tree: Path, row: Row, tape: Tape) -> None:
        done = self._ask(tree, tape=tape, runs_max=self.runs_max)
        assert done.found is not None
        assert done.shrunk is not None
        row.seed, row.verdict, row.broken = tape.seed, done.found.verdict, done.found.broken
        row.detail = done.found.detail[:300]
        row.faults_before, row.faults_after = done.shrunk.faults_before, done.shrunk.faults_after
        row.nodes_after, row.runs, row.note = done.found.nodes, done.shrunk.runs, done.shrunk.note
        row.shrink_s, row.tape = done.seconds, done.shrunk.tape
        clean = self._ask(self.clean, tape=done.shrunk.tape).found
        row.clean = f"{clean.verdict} {clean.broken}".strip() if clean is not None else ""

    def _ask(self, tree: Path, seeds: tuple[int, int] = (1, 0), tape: Tape | None = None, runs_max: int = 0) -> Answer:
        """Ask in a process of its own. Raises: RuntimeError if it fails; TimeoutExpired."""
        ask = Ask(root=str(tree), profile=self.profile, seeds=seeds, tape=tape, runs_max=runs_max)
        environment = dict(os.environ, PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="1")
        done = subprocess.run(
            [sys.executable, "-P", str(IN_TREE)],
            input=msgspec.json.encode(ask),
            cwd=tree,
            env=environment,
            capture_output=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr.decode(errors="replace"))
        return msgspec.json.decode(done.stdout, type=Answer)


def copy_parts(tree: Path, to: Path) -> None:
    """Copy what the twin needs, as it is now."""
    for part in PARTS:
        shutil.copytree(tree / part, to / part, ignore=shutil.ignore_patterns("__pycache__"))


def read_rows(file: Path) -> dict[str, Row]:
    """The last line of each planted bug, in the order of the bugs."""
    lines = file.read_text().splitlines() if file.exists() else []
    rows = {row.name: row for row in (msgspec.json.decode(line, type=Row) for line in lines)}
    return {mutant.name: rows[mutant.name] for mutant in MUTANTS if mutant.name in rows}


def to_do(names: list[str], again: str, rows: dict[str, Row]) -> list[Mutant]:
    """The planted bugs that are to be hunted: those named, and of all others those without a line that counts."""
    if names:
        return [mutant for mutant in MUTANTS if mutant.name in names]
    done = {"none": set(rows), "missed": {r.name for r in rows.values() if r.seed}, "all": set[str]()}[again]
    return [mutant for mutant in MUTANTS if mutant.name not in done]


def table(rows: dict[str, Row]) -> str:
    """The table as Markdown."""
    head = (
        "| rule | planted bug | in | seeds until found | what breaks | faults | after shrinking | nodes left |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    lines = []
    for mutant in sorted((m for m in MUTANTS if m.name in rows), key=lambda m: m.rule):
        row = rows[mutant.name]
        start = f"| {mutant.rule} | {mutant.words} | `{mutant.file}` |"
        if row.seed:
            figures = f" {row.seeds} | {row.broken} | {row.faults_before} | {row.faults_after} | {row.nodes_after} |"
        else:
            figures = f" **not in {row.seeds}** | {'no answer' if row.trouble else ''} | | | |"
        lines.append(start + figures)
    return head + "\n".join(lines) + "\n"


def one_line(row: Row) -> str:
    """A row for a terminal."""
    if row.trouble:
        return f"{row.name:32} no answer: {row.trouble.strip().splitlines()[-1]}"
    if not row.seed:
        return f"{row.name:32} NOT FOUND in {row.seeds} seeds ({row.find_s:.0f} s)"
    skipped = f", {len(row.skipped)} seeds fail without it too" if row.skipped else ""
    return (
        f"{row.name:32} {row.broken} after {row.seeds} seeds ({row.find_s:.0f} s); faults {row.faults_before} ->"
        f" {row.faults_after}, {row.nodes_after} nodes, {row.runs} runs ({row.shrink_s:.0f} s); clean: {row.clean}"
        f"{skipped}"
    )


def main() -> None:
    """Hunt, and print a line for each planted bug as it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="planted bugs, hunted again even if done; default: all")
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--profile", default="everything")
    parser.add_argument("--runs", type=int, default=300, help="runs of one shrinking")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--tree", type=Path, default=ROOT, help="the tree to copy; default: this one")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--again", choices=("none", "missed", "all"), default="none")
    parser.add_argument("--table", type=Path, help="write the table there as Markdown")
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    mutants = to_do(options.names, options.again, read_rows(options.results))
    print(f"{len(mutants)} planted bugs to hunt", flush=True)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        hunt = Hunt(options.tree.absolute(), Path(folder), options.profile, options.seeds, options.runs)
        for done in as_completed([pool.submit(hunt.row, mutant) for mutant in mutants]):
            row = done.result()
            print(one_line(row), flush=True)
            with options.results.open("ab") as file:
                file.write(msgspec.json.encode(row) + b"\n")
    rows = read_rows(options.results)
    found = [row for row in rows.values() if row.seed]
    few = sum(1 for row in found if row.faults_after <= 4)
    print(f"{len(found)} of {len(rows)} found; {few} with at most 4 faults left")
    if options.table:
        options.table.write_text(table(rows))


if __name__ == "__main__":
    main()
