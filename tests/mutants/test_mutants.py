"""Every planted bug is caught by the suite; the table says by which test.

``MUTANTS_TABLE=FILE`` also writes the table as Markdown (``docs/mutants.md``).
"""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.mutants.hunt import ROOT, Catch, first_complaint, hunt, planted_in
from tests.mutants.planted import MUTANTS

WORKERS = 2


def test_there_is_a_planted_bug_for_each_rule_and_thirty_in_all() -> None:
    counted = Counter(mutant.rule for mutant in MUTANTS)
    assert sorted(counted) == list(range(1, 16))
    assert len(MUTANTS) >= 30
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_planted_bug_has_its_place_in_the_core(mutant) -> None:  # type: ignore[no-untyped-def]
    source = (ROOT / "core" / mutant.file).read_text()
    compile(planted_in(mutant, source), mutant.file, "exec")


def table(catches: list[Catch]) -> str:
    """The table as Markdown."""
    rows = [f"| {c.mutant.rule} | {c.mutant.words} | `{c.mutant.file}` | {c.test or '**nobody**'} |" for c in catches]
    head = "# Planted bugs and who catches them\n\n| rule | planted bug | in | first caught by |\n|---|---|---|---|\n"
    return head + "\n".join(sorted(rows, key=lambda row: int(row.split("|")[1]))) + "\n"


def test_every_planted_bug_is_caught(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor(WORKERS) as pool:
        complaint = pool.submit(first_complaint, tmp_path / "unchanged")
        catches = list(pool.map(lambda mutant: hunt(mutant, tmp_path / mutant.name), MUTANTS))
    text = table(catches)
    with capsys.disabled():
        print("\n" + text)
    if "MUTANTS_TABLE" in os.environ:
        Path(os.environ["MUTANTS_TABLE"]).write_text(text)
    assert complaint.result() == "", "a detector fails on the unchanged core"
    assert [catch.mutant.name for catch in catches if not catch.test] == []
