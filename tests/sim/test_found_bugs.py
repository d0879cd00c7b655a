"""What campaigns found in the core, each as its shrunk tape ``scenarios/found-*``: without the mend it fails."""

from pathlib import Path

import pytest

from tests.mutants.hunt import copy_tree
from tests.sim.changed_tree import Change, broken_in, changed

FOUND = (
    (
        "found-old-generation",
        Change(
            "core/recovery.py",
            "generation = next(slot.generation for slot in work.slots if slot.node == node)",
            "generation = ward.power.generation if ward.power is not None else 0",
        ),
        "power_committed",
    ),
    (
        "found-retired-and-fit",
        Change(
            "core/membership.py",
            "MAINTENANCE, Lifecycle.QUARANTINED, Lifecycle.RETIRED)",
            "MAINTENANCE)",
        ),
        "convergence",
    ),
    (
        "found-second-claimer",
        Change("core/ending.py", "return b.now >= s.admit_at_ms", "return True"),
        "admission_waits",
    ),
    (
        "found-stale-adoption",
        Change("core/singleton.py", "if not evidence.is_fresh(b, s):", "if b.now < 0:"),
        "invariants",
    ),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree whose files may be changed."""
    to = tmp_path_factory.mktemp("tree")
    copy_tree(to)
    return to


@pytest.mark.parametrize(("scenario", "back", "broken"), FOUND, ids=[found[0] for found in FOUND])
def test_a_bug_that_a_campaign_found_stays_mended(scenario: str, back: Change, broken: str, tree: Path) -> None:
    assert broken_in(tree, scenario) == []
    with changed(tree, [back]):
        assert broken in broken_in(tree, scenario)
