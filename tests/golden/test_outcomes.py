"""Every scenario's outcome is the recorded one: ``make golden REWRITE=1`` records anew; read the diff."""

import os

import pytest

from tests.sim.running import NAMES, ROOT, run, summary


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in NAMES])
def test_the_outcome_is_the_recorded_one(name: str) -> None:
    golden = ROOT / "scenarios" / name / "golden.txt"
    found = summary(run(name)[1])
    if os.environ.get("REWRITE") == "1":
        golden.write_text(found, encoding="utf-8")
    assert golden.exists(), "no expectation is recorded: run 'make golden REWRITE=1' and read it"
    assert found == golden.read_text(encoding="utf-8")
