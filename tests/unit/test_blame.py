"""Blame: leaving a fault out is a fork of the world at that fault; what it says about each; and the reason in words."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from core.errors import InputError
from tests.unit.planted_tape import ThirdTimeUnlucky, planted_attempt, planted_tape
from twin.run import Options, run
from twin.scenario import load_scenario
from twin.swarm.attempt import attempt
from twin.swarm.blame import Blame, blame, difference, to_lines, wilson
from twin.swarm.found import Found
from twin.swarm.tape import Table, Tape, read_tape, to_scenario
from twin.swarm.words import fault_words, reason, rule_words, target_words

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"


@pytest.fixture(scope="module")
def small() -> Tape:
    """The three faults of the planted bug and two that do not matter."""
    faults: tuple[Table, ...] = (
        {"kind": "service_crash", "target": "holder-of:mariadb", "service": "mariadb", "at_ms": 40_000},
        {"kind": "bmc_slow", "target": "n1", "at_ms": 45_000, "for_ms": 5_000},
        {"kind": "storage_cut", "target": "n4", "at_ms": 50_000, "for_ms": 10_000},
        {"kind": "operator_drain", "target": "n2", "at_ms": 60_000},
        {"kind": "power_loss", "target": "n1", "at_ms": 65_000},
    )
    return replace(planted_tape(), nodes=("n1", "n2", "n4"), services=("mariadb",), duration_ms=70_000, fault=faults)


@pytest.fixture(scope="module")
def blamed(small: Tape) -> Blame:
    return blame(small, planted_attempt, seeds=6)


def journal(tape: Tape) -> list[bytes]:
    """The lines of a run's journal."""
    chunks: list[bytes] = []
    run(to_scenario(tape), Options(), sink=chunks.append)
    return b"".join(chunks).splitlines()


def until(lines: list[bytes], at_ms: int) -> list[bytes]:
    """Those before a moment."""
    return [line for line in lines if int(line[1:].split(b",", 1)[0]) < at_ms]


@pytest.fixture(scope="module")
def whole() -> list[bytes]:
    """The journal of a run with all its faults."""
    return journal(stormy())


def stormy() -> Tape:
    """A tape of real faults, all of which change what happens after them."""
    kinds: tuple[Table, ...] = (
        {"kind": "link_loss", "target": "leader", "at_ms": 40_000, "for_ms": 9_000},
        {"kind": "power_loss", "target": "holder-of:mariadb", "at_ms": 60_000, "for_ms": 30_000},
        {"kind": "process_pause", "target": "n2", "at_ms": 61_500, "for_ms": 4_000},
        {"kind": "zookeeper_leader_crash", "at_ms": 90_000, "for_ms": 5_000},
        {"kind": "node_crash", "target": "leader", "at_ms": 110_000},
    )
    return replace(planted_tape(), fault=kinds, duration_ms=130_000)


@pytest.mark.parametrize("index", range(5))
def test_a_run_without_a_fault_is_the_same_run_up_to_that_fault(whole: list[bytes], index: int) -> None:
    tape = stormy()
    at_ms = int(str(tape.fault[index]["at_ms"]))
    fork = journal(replace(tape, fault=tape.fault[:index] + tape.fault[index + 1 :]))
    before = until(whole, at_ms)
    assert len(before) > 100
    assert until(fork, at_ms) == before
    assert until(fork, at_ms + 20_000) != until(whole, at_ms + 20_000)


def test_the_necessary_faults_are_ranked_first(blamed: Blame) -> None:
    first, rest = blamed.faults[:3], blamed.faults[3:]
    assert {one.words.split(" of ")[0] for one in first} == {"service crash", "storage cut", "operator drain"}
    assert all(one.failed == 0 and one.drop == 1 and one.necessary and one.needed for one in first)
    assert all(one.failed == blamed.failed and one.drop == 0 and not one.necessary and not one.needed for one in rest)


def test_every_fault_gets_a_sentence(blamed: Blame) -> None:
    lines = to_lines(blamed)
    assert lines[0] == (
        "without the service crash of the holder of mariadb at 0:40.000 it failed in 0 of 6 runs, with it in 6 of 6"
    )
    assert lines[-1].endswith("it failed in 6 of 6 runs, with it in 6 of 6; it does not matter")


def test_a_failure_that_is_rare_over_seeds_is_said_to_be_so() -> None:
    tape = replace(planted_tape(), fault=planted_tape().fault[:1])

    planted = Found(seed=1, verdict="pass", broken="x", detail="", nodes=1, faults=1, sim_ms=1, digest="")

    def rare(one: Tape) -> Found:
        fails = one.seed == tape.seed and len(one.fault) == 1
        return replace(planted, seed=one.seed, verdict="safety" if fails else "pass")

    (line,) = to_lines(blame(tape, rare, seeds=10))
    assert line.endswith("in 1 of 10; that may be chance, but on the seed of the tape it does not fail without it")


def test_progress_counts_all_runs(small: Tape) -> None:
    told: list[tuple[int, int]] = []
    blame(small, planted_attempt, seeds=2, progress=lambda *both: told.append(both))
    assert told == [(number, 12) for number in range(1, 13)]


def test_a_tape_that_does_not_fail_has_nothing_to_blame(small: Tape) -> None:
    with pytest.raises(InputError, match='verdict "pass"'):
        blame(replace(small, fault=()), planted_attempt)


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.1611), (20, 0.8389, 1.0), (10, 0.2993, 0.7007)])
def test_the_interval_of_a_ratio_is_that_of_wilson(successes: int, low: float, high: float) -> None:
    assert wilson(successes, 20) == pytest.approx((low, high), abs=1e-4)


def test_the_interval_of_a_difference_is_that_of_newcombe() -> None:
    """His table II, case (b) is unequal; this is method 10 by hand for 9/10 and 3/10."""
    assert difference(9, 3, 10) == pytest.approx((0.1705, 0.8090), abs=1e-3)
    low, high = difference(10, 10, 20)
    assert low == pytest.approx(-high)


def test_the_reason_names_the_rule_what_was_seen_and_what_it_took(small: Tape, blamed: Blame) -> None:
    seen: set[str] = set()
    lines = reason(small, planted_attempt(small), blamed, make=lambda opening: ThirdTimeUnlucky(opening, seen))
    text = "\n".join(lines)
    assert "A machine broke an invariant that every machine checks" in lines[0]
    assert "planted: the third kind of trouble" in lines[1]
    assert "Necessary: service crash of the holder of mariadb at 0:40.000 (without it 0)" in text
    assert "With all faults 6 of 6 runs fail." in text
    assert "0:50.000  n4: storage cut" in text


def test_the_reason_of_a_broken_checker_gives_the_number_and_the_text_of_the_rule() -> None:
    assert rule_words("safety", "single_writer") == (
        "Rule 3 (docs/RULES.md) was broken: after an instance has written a volume, the storage accepts no write of an "
        "earlier one (safety: single_writer)."
    )
    assert rule_words("safety", "invariants", "at 5 ms: epoch_is_set: x on n1 at 5 ms: y") == (
        "A machine broke rule 1: whoever holds a singleton has an epoch (safety: epoch_is_set)."
    )
    assert rule_words("liveness", "convergence").startswith("The rack did not converge in time")
    assert rule_words("liveness", "failover_ms.mariadb.p99").startswith("What was expected did not come true")


def test_the_reason_without_blame_lists_the_faults_and_how_the_service_moved() -> None:
    tape = read_tape(SCENARIOS / "lose-the-holder")
    found = replace(attempt(tape), verdict="safety", broken="single_writer", detail="mariadb: wrote at 100000 ms")
    lines = reason(tape, found)
    assert any(line.startswith("It took: power loss of the holder of mariadb at") for line in lines)
    assert any(line.startswith("Before that, mariadb went from n") for line in lines)
    assert len(lines) <= 20


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("n3", "n3"),
        ("holder-of:mariadb", "the holder of mariadb"),
        ("leader", "the ZooKeeper leader"),
        ("n1,pdu:p1", "n1 and PDU p1"),
        ("others(leader)", "others(leader)"),
    ],
)
def test_targets_are_said_in_words(target: str, words: str) -> None:
    assert target_words(target) == words


def test_a_fault_is_said_with_its_time_and_how_long_it_lasts() -> None:
    fault = {"kind": "link_loss", "target": "n2", "at_ms": 62_000, "for_ms": 20_000, "times": 3}
    assert fault_words(fault) == "link loss of n2 at 1:02.000 for 20.0 s (3 times)"


def test_every_scenario_file_with_faults_can_be_a_tape_to_blame() -> None:
    assert load_scenario(SCENARIOS / "lose-the-holder").faults
    assert read_tape(SCENARIOS / "lose-the-holder").fault
