"""Shrinking: a planted bug of three faults among fifty, small rack, round times, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from core.errors import InputError
from formats.synthetic import SyntheticRack
from tests.unit.planted_tape import planted_attempt, planted_tape
from twin.swarm.attempt import attempt
from twin.swarm.found import Found
from twin.swarm.minimal import ddmin, minimal, scan
from twin.swarm.shrink import Shrunk, shrink
from twin.swarm.tape import Table, Tape, to_scenario, to_toml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shrunk() -> Shrunk:
    return shrink(planted_tape(), planted_attempt)


def test_a_planted_bug_of_three_faults_among_fifty_is_shrunk_to_them(shrunk: Shrunk) -> None:
    assert shrunk.faults_before == 50
    assert [fault["kind"] for fault in shrunk.tape.fault] == ["service_crash", "storage_cut", "operator_drain"]
    assert shrunk.runs <= 200
    assert (shrunk.found.verdict, shrunk.found.broken) == ("safety", "invariants")


def test_what_is_left_is_small_and_round(shrunk: Shrunk) -> None:
    tape = shrunk.tape
    assert len(tape.nodes) == 3
    assert tape.services == ("mariadb",)
    assert tape.timing == {}
    assert tape.clients == {}
    assert [fault["at_ms"] for fault in tape.fault] == [40_000, 50_000, 60_000]
    assert tape.duration_ms == 70_000
    assert all("times" not in fault for fault in tape.fault)
    assert "Shrunk from 50 faults" in tape.why


def test_the_shrunk_tape_fails_as_was_said_and_not_without_any_one_of_its_faults(shrunk: Shrunk) -> None:
    assert planted_attempt(shrunk.tape) == shrunk.found
    for index in range(len(shrunk.tape.fault)):
        rest = replace(shrunk.tape, fault=shrunk.tape.fault[:index] + shrunk.tape.fault[index + 1 :])
        assert planted_attempt(rest).verdict == "pass"


def test_a_shrunk_tape_is_as_simple_as_it_gets(shrunk: Shrunk) -> None:
    again = shrink(shrunk.tape, planted_attempt)
    assert replace(again.tape, why="") == replace(shrunk.tape, why="")


def test_a_tape_that_does_not_fail_is_refused_with_its_verdict() -> None:
    with pytest.raises(InputError, match='verdict "pass"'):
        shrink(replace(planted_tape(), fault=planted_tape().fault[:3]), planted_attempt)


def test_a_tape_that_is_no_scenario_is_refused() -> None:
    with pytest.raises(InputError, match="no such fault"):
        shrink(replace(planted_tape(), fault=({"kind": "meteor", "at_ms": 1},)))


def test_few_runs_still_give_a_tape_that_fails_and_say_so() -> None:
    few = shrink(planted_tape(), planted_attempt, runs_max=10)
    assert few.runs == 10
    assert few.faults_after < 50
    assert "stopped after 10 runs" in few.note
    assert planted_attempt(few.tape) == few.found


def test_no_tape_is_run_twice_and_progress_is_told_after_every_run() -> None:
    ran: list[bytes] = []
    told: list[tuple[int, int]] = []

    def counted(tape: Tape) -> Found:
        ran.append(msgspec.json.encode(tape))
        return stand_in(tape, sum(fault["kind"] == "agent_crash" for fault in tape.fault) >= 3)

    done = shrink(planted_tape(), counted, progress=lambda *both: told.append(both))
    assert len(ran) == len(set(ran))
    assert done.faults_after == 3
    assert [runs for runs, _ in told] == list(range(2, done.runs + 1))
    assert told[-1][1] == done.faults_after


def test_a_made_up_rack_loses_the_nodes_that_do_not_matter_and_is_numbered_anew() -> None:
    faults: tuple[Table, ...] = (
        {"kind": "power_loss", "target": "n11", "at_ms": 60_000},
        {"kind": "partition", "target": "n10", "away_from": ["n11"], "at_ms": 70_000},
    )
    tape = Tape(
        why="two of twelve",
        seed=1,
        rack=SyntheticRack(nodes=12, spares=1, per_rack=7, disks=3),
        catalog="catalog/minimal.toml",
        duration_ms=100_000,
        fault=faults,
    )
    done = shrink(tape, lambda one: stand_in(one, len(one.fault) == 2))
    assert done.tape.rack == SyntheticRack(nodes=3)
    assert done.tape.nodes == ()
    assert {str(fault["target"]) for fault in done.tape.fault} <= {"n1", "n2", "n3"}


@pytest.mark.parametrize("other", [{"broken": "another"}, {"verdict": "liveness"}])
def test_another_failure_does_not_count(other: dict[str, str]) -> None:
    """With fewer than three agent crashes it fails as well, but differently."""

    def attempt_two_ways(tape: Tape) -> Found:
        found = stand_in(tape, True)
        crashes = sum(fault["kind"] == "agent_crash" for fault in tape.fault)
        return found if crashes >= 3 else replace(found, **other)

    done = shrink(planted_tape(), attempt_two_ways)
    assert [fault["kind"] for fault in done.tape.fault] == ["agent_crash"] * 3
    assert (done.found.verdict, done.found.broken) == ("safety", "planted")


def test_faults_that_only_shift_a_race_give_way_to_another_seed() -> None:
    """Two faults are needed; on the first seed the race is lost only if six others shift the times."""

    def race(tape: Tape) -> Found:
        kinds = [fault["kind"] for fault in tape.fault]
        needed = kinds.count("agent_crash") >= 1 and "storage_cut" in kinds
        return stand_in(tape, needed and (tape.seed % 7 == 5 or kinds.count("bmc_slow") >= 6))

    done = shrink(planted_tape(), race)
    assert sorted(str(fault["kind"]) for fault in done.tape.fault) == ["agent_crash", "storage_cut"]
    assert done.tape.seed == 5
    assert race(done.tape) == done.found


def test_faults_that_only_fail_together_with_all_others_stay() -> None:
    tape = planted_tape()
    done = shrink(tape, lambda one: stand_in(one, len(one.fault) % 2 == 0 and len(one.fault) > 40), runs_max=150)
    assert done.faults_after == 42
    assert done.runs <= 150


def stand_in(tape: Tape, fails: bool) -> Found:
    """What a run would have given, without running it; no scenario is none here either."""
    scenario = to_scenario(tape)
    return Found(
        seed=tape.seed,
        verdict="safety" if fails else "pass",
        broken="planted" if fails else "",
        detail="",
        nodes=len(scenario.rack.nodes),
        faults=len(tape.fault),
        sim_ms=0,
        digest="",
    )


def test_bisection_finds_few_items_among_many_in_few_calls() -> None:
    calls: list[tuple[int, ...]] = []

    def fails(part: tuple[int, ...]) -> bool:
        calls.append(part)
        return {17, 400, 998} <= set(part)

    assert minimal(range(1_000), fails) == (17, 400, 998)
    assert len(calls) <= 50


@pytest.mark.parametrize("search", [scan, ddmin])
def test_everything_stays_if_nothing_can_be_spared(search) -> None:  # type: ignore[no-untyped-def]
    assert search(range(30), lambda part: len(part) == 30) == tuple(range(30))


def test_nothing_stays_if_it_fails_by_itself() -> None:
    assert minimal(range(30), lambda _part: True) == ()


@pytest.mark.parametrize("hash_seed", ["0", "77"])
def test_the_file_of_a_shrunk_tape_fails_the_same_way_elsewhere(shrunk: Shrunk, hash_seed: str, tmp_path: Path) -> None:
    file = tmp_path / "tape.toml"
    file.write_text(to_toml(shrunk.tape))
    code = (
        "import sys, msgspec; from pathlib import Path; from tests.unit.planted_tape import planted_attempt;"
        "from twin.swarm.tape import read_tape;"
        "sys.stdout.buffer.write(msgspec.json.encode(planted_attempt(read_tape(Path(sys.argv[1])))))"
    )
    environment = dict(os.environ, PYTHONHASHSEED=hash_seed, PYTHONPATH=os.pathsep.join(["", *sys.path]))
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    assert msgspec.json.decode(done.stdout, type=Found) == shrunk.found


def test_the_real_machines_pass_the_planted_tape() -> None:
    assert attempt(planted_tape()).verdict == "pass"
