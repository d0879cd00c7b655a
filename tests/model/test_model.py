"""Every interleaving of two real machines, one singleton, a small ZooKeeper and a small storage, with up to two faults.

Explored breadth-first from a world that serves. At every state and step: a single writer as judged by what the storage
accepted, no stale read, no acknowledged write lost, and all rules of ``twin/check/rules.py``. From every n-th state
(``MODEL_FAIR_EVERY``) a fair run with all faults ended must lead back to serving. Equal states are one state: times are
kept relative to now.

``MODEL_STATES`` bounds each exploration, ``MODEL_SECONDS`` its time; the report says which were complete.
"""

import itertools
import os
import time

import pytest

from twin.check.explore import Bounds, Explored, Explorer
from twin.check.faults import FAULTS
from twin.check.small import Root, each_of, root_of

STATES = int(os.environ.get("MODEL_STATES", "11000"))
SECONDS = float(os.environ.get("MODEL_SECONDS", "30"))
FAIR_EVERY = int(os.environ.get("MODEL_FAIR_EVERY", "40"))
PAIRS = tuple(itertools.combinations_with_replacement(FAULTS, 2))
report: list[tuple[str, Explored]] = []


def explore(volume: bool, faults: tuple[str, ...], states: int = STATES, **options: object) -> Explored:
    end = time.monotonic() + SECONDS
    root = root_of(Root(volume=volume, nodes=2, faults=each_of(faults)), **options)
    explorer = Explorer(root, Bounds(states_max=states, fair_every=FAIR_EVERY), lambda: time.monotonic() < end)
    found = explorer.run()
    report.append((f"{'volume' if volume else 'no volume'}: {' + '.join(faults) or 'no fault'}", found))
    assert found.counterexample is None, found.counterexample
    return found


@pytest.mark.parametrize("volume", [True, False], ids=["volume", "no_volume"])
def test_without_faults_every_state_is_explored(volume: bool) -> None:
    found = explore(volume, ())
    assert found.complete
    assert found.states >= 5, "beats and ticks"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("volume", [True, False], ids=["volume", "no_volume"])
def test_one_fault_keeps_the_rules(volume: bool, fault: str) -> None:
    assert explore(volume, (fault,)).states >= 5


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_two_faults_keep_the_rules_with_a_volume(pair: tuple[str, str]) -> None:
    assert explore(True, pair, STATES // 2).states >= 5


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_two_faults_keep_the_rules_without_a_volume(pair: tuple[str, str]) -> None:
    assert explore(False, pair, STATES // 3).states >= 5


def test_late_fences_and_late_writes_keep_the_rules() -> None:
    """The fence needs up to two ticks to be in force, and writes land up to two ticks late."""
    found = explore(True, ("cut", "freeze"), fence_slack_ms=200, write_slack_ms=200)
    assert found.states > 100


def test_without_reduction_the_rules_hold_too() -> None:
    """Every order of local steps of the two nodes as well (the others take those of one node first)."""
    found = explore(True, ("crash",), order="every")
    assert found.states > 100


def test_zz_the_report_of_what_was_explored(capsys: pytest.CaptureFixture[str]) -> None:
    """Print states, transitions and depth of every exploration of this run."""
    with capsys.disabled():
        print(f"\n{'exploration':44} {'states':>9} {'transitions':>12} {'depth':>6} {'fair runs':>10}  complete")
        for name, found in report:
            known = "complete" if found.complete else "cut at the bound"
            sizes = f"{found.states:9,} {found.transitions:12,} {found.depth:6} {found.fair_runs:10}"
            print(f"{name:44} {sizes}  {known}")
        print(f"{'all':44} {sum(f.states for _, f in report):9,} {sum(f.transitions for _, f in report):12,}")
    if len(report) > 60:
        assert sum(found.states for _, found in report) >= min(100_000, 20 * STATES)
