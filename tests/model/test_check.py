"""``twin check`` finds planted bugs without randomness, loses nothing by reduction, states its bounds, and reruns."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.effects import AnyEffect
from core.errors import InputError
from formats.paint import Paint
from tests.model.reach import Reached, reach
from tests.mutants.hunt import ROOT, planted_in
from tests.mutants.planted import MUTANTS
from twin.check import enabled
from twin.check.actions import apply
from twin.check.brains import BASE_MS, RememberedBrains
from twin.check.canonical import canonical
from twin.check.check import Wanted, check
from twin.check.options import Order
from twin.check.schedule import read_schedule, replay
from twin.check.shelf import Shelf
from twin.check.small import Root, any_of, each_of, root_of
from twin.check.text import to_text
from twin.cli import main
from twin.scenario import load_scenario


def tree_with(bug: str, tree: Path) -> Path:
    """A copy of the product with one planted bug."""
    for part in ("core", "formats", "trial", "twin", "tests/model"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    mutant = next(mutant for mutant in MUTANTS if mutant.name == bug)
    file = tree / "core" / mutant.file
    file.write_text(planted_in(mutant, file.read_text()))
    return tree


def run_in(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="1")
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


# -- planted bugs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bug", "kinds", "faults"), [("start_before_fence", "crash", 1), ("unfenced_dropped", "freeze,crash", 2)]
)
def test_a_classic_planted_bug_is_found_without_randomness(
    bug: str, kinds: str, faults: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = tree_with(bug, tmp_path / "tree")
    wanted = ("--nodes", "2", "--faults", str(faults), "--kinds", kinds, "--states", "2000", "--seconds", "120")
    done = run_in(tree, "twin.cli", "check", *wanted, "--json", "--out", str(tmp_path / "out"))
    assert done.returncode == 4, done.stderr
    told: dict[str, Any] = msgspec.json.decode(done.stdout)
    part = told["parts"][-1]
    assert told["why"].startswith("rule 3: ")
    assert part["faults"] == faults, "no fewer faults show it"
    steps = len(told["counterexample"]["lines"])
    with capsys.disabled():
        print(f"\n{bug}: {steps} steps, {part['states']:,} states with {faults} faults, {part['seconds']} s")
    file = tmp_path / "out" / "counterexample.jsonl"
    again = [run_in(tree, "twin.cli", "check", "--replay", str(file)) for _ in range(2)]
    assert [one.returncode for one in again] == [4, 4]
    assert again[0].stdout == again[1].stdout
    assert told["why"] in again[0].stdout

    mended = replay(read_schedule(file), str(file))
    assert mended.verdict == "pass", "the same schedule is harmless for the real core"
    scenario = load_scenario(tmp_path / "out" / "counterexample.toml")
    assert len(scenario.faults) == faults


def test_a_world_that_breaks_while_it_starts_is_a_counterexample_too(tmp_path: Path) -> None:
    tree = tree_with("identity_not_recorded", tmp_path / "tree")
    done = run_in(tree, "twin.cli", "check", "--nodes", "2", "--seconds", "20", "--out", str(tmp_path / "out"))
    assert done.returncode == 4, done.stderr
    assert "while the world starts: rule 2: " in done.stdout


# -- reductions --------------------------------------------------------------------------------------------------------

SMALL_WORLDS = [("volume", "storage_cut", 5), ("no volume", "storage_cut", 4), ("volume", "freeze", 3)]


@pytest.mark.parametrize(("kind_of", "fault", "ticks"), SMALL_WORLDS)
def test_the_partial_order_reduction_reaches_all_that_is_judged(kind_of: str, fault: str, ticks: int) -> None:
    reduced = reach(kind_of == "volume", fault, ticks, "reduced")
    full = reach(kind_of == "volume", fault, ticks, "prompt")
    assert reduced.seen == full.seen
    assert reduced.broken == full.broken == ()
    assert reduced.states < full.states


def test_every_order_reaches_nothing_else_that_is_judged_in_a_small_world() -> None:
    """Also slow nodes; shown for this world only, which is why it is said to be a bound and not a reduction."""
    assert reach(True, "cut", 2, "every").seen == reach(True, "cut", 2, "reduced").seen


def test_the_partial_order_reduction_finds_every_violation(tmp_path: Path) -> None:
    tree = tree_with("counted_from_the_answer", tmp_path / "tree")

    def broken(order: Order) -> tuple[str, ...]:
        done = run_in(tree, "tests.model.reach", "volume", "freeze", "3", order)
        assert done.returncode == 0, done.stderr
        return msgspec.json.decode(done.stdout, type=Reached).broken

    reduced = broken("reduced")
    assert len(reduced) > 1
    assert reduced == broken("prompt")


def without_op(effect: AnyEffect) -> AnyEffect:
    return msgspec.structs.replace(effect, op=0) if hasattr(effect, "op") else effect


def test_a_machine_in_canonical_form_does_what_the_original_does() -> None:
    """Both take each event of a walk with a failover: the same effects and the same state, up to the names of ops."""
    world = root_of(Root(volume=True, nodes=2, faults=each_of(("crash",))))
    apply(world, ("crash", 1))
    for _ in range(400):
        apply(world, enabled.settled(world)[0])
    brains = world.brains
    assert isinstance(brains, RememberedBrains)
    compared = 0
    for original, (form, names) in brains.renamed.items():
        old_names = {new: old for old, new in names.items()}
        for (brain, number), (after, effects) in brains.steps.items():
            if brain != form or original == form:
                continue
            event = brains.events.values[number]
            if hasattr(event, "op"):
                event = msgspec.structs.replace(event, op=old_names.get(event.op, event.op))
            machine = brains.machine(original)
            assert [without_op(e) for e in machine.step(event)] == [without_op(e) for e in effects]
            expected = canonical(brains.machine(after).snapshot(), BASE_MS)[0]
            assert canonical(machine.snapshot(), BASE_MS)[0] == expected
            compared += 1
    assert compared > 50


def test_two_orders_of_independent_requests_end_in_one_state() -> None:
    world = root_of(Root(volume=True, nodes=2))
    apply(world, ("tick",))
    while local := enabled.local_actions(world):
        apply(world, local[0])
    beats = [action for action in enabled.shared_actions(world) if action[0] == "beat"]
    assert len(beats) >= 2
    shelf = Shelf(world)
    ends = []
    for order in (beats[:2], beats[1::-1]):
        walk = world.branch()
        for beat in order:
            apply(walk, beat)
            while local := enabled.local_actions(walk):
                apply(walk, local[0])
        ends.append(shelf.put(walk))
    assert ends[0] == ends[1]


def test_a_state_taken_from_the_shelf_goes_back_as_the_same() -> None:
    world = root_of(Root(volume=True, nodes=3, faults=any_of(("crash",), 2)))
    shelf = Shelf(world)
    state = shelf.put(world)
    taken = shelf.take(state)
    assert shelf.put(taken) == state
    apply(taken, ("crash", 0))
    assert shelf.put(taken) != state
    assert shelf.put(shelf.take(state)) == state, "what was kept did not change"
    world.own_node(0).boot += 1
    kept = shelf.put(world)
    apply(world, ("crash", 0))
    assert shelf.take(kept).nodes[0].power == "up", "nor does it when the world that was put goes on"


# -- bounds and bad input ----------------------------------------------------------------------------------------------


def quiet(_: int, __: object) -> None:
    pass


def test_a_world_without_faults_is_explored_to_its_end() -> None:
    report = check(Wanted(nodes=3, faults=0, seconds_max=60), lambda: 0.0, quiet)
    assert report.complete
    assert "complete: every schedule with no fault" in to_text(report, Paint(False))
    assert "in any schedule" in to_text(report, Paint(False))


@pytest.mark.parametrize(("bound", "word"), [({"states_max": 300}, "states"), ({"depth_max": 4}, "depth")])
def test_what_was_cut_says_so(bound: dict[str, int], word: str) -> None:
    report = check(Wanted(nodes=3, faults=1, **bound), lambda: 0.0, quiet)  # type: ignore[arg-type]
    assert not report.complete
    text = to_text(report, Paint(False))
    depth = report.parts[-1].explored.depth
    assert f"complete up to depth {depth} of every schedule with at most one fault; cut by the bound of {word}" in text
    assert "not known" in text


def test_time_is_a_bound() -> None:
    clock = iter(range(10_000))
    report = check(Wanted(nodes=2, faults=1, seconds_max=8), lambda: float(next(clock)), quiet)
    assert report.parts[-1].explored.cut == "time"


def test_two_explorations_find_the_same() -> None:
    wanted = Wanted(nodes=3, faults=2, states_max=500)
    assert check(wanted, lambda: 0.0, quiet) == check(wanted, lambda: 0.0, quiet)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--nodes", "4"), "allowed: 2 to 3"),
        (("--faults", "9"), "allowed: 0 to 3"),
        (("--kinds", "crash,crahs"), "no such kind"),
        (("--kinds", "cut,cut"), "named twice"),
        (("--seconds", "0"), "more than 0"),
        (("--fair-every", "0"), "more than 0"),
        (("--replay", "no-such-file.jsonl"), "cannot be read"),
    ],
)
def test_bad_options_are_bad_input(options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *options]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "{", "{}\n", '{"root":{"volume":true,"nodes":7},"verdict":"safety","why":"","fair":false}']
)
def test_a_file_that_is_no_schedule_is_bad_input(text: str, tmp_path: Path) -> None:
    file = tmp_path / "schedule.jsonl"
    file.write_text(text)
    with pytest.raises(InputError, match=r"schedule\.jsonl"):
        read_schedule(file)
