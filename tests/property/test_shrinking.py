"""Shrinking keeps its promises whatever makes a tape fail, also if more faults do not always fail when fewer do."""

from collections.abc import Callable
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from formats.synthetic import SyntheticRack
from twin.swarm.found import Found
from twin.swarm.shrink import shrink
from twin.swarm.tape import Tape

KINDS = ("power_loss", "node_crash", "process_pause", "session_expiry")
Judge = Callable[[Tape], bool]


def tape_of(count: int) -> Tape:
    """A tape of so many faults, each known by its odd time."""
    return Tape(
        why="made up.",
        seed=3,
        rack=SyntheticRack(nodes=5),
        catalog="catalog/minimal.toml",
        duration_ms=600_000,
        fault=tuple(
            {"kind": KINDS[n % 4], "target": f"n{n % 5 + 1}", "at_ms": 40_000 + 10_000 * n + n, "for_ms": 5_001}
            for n in range(count)
        ),
    )


def numbers(tape: Tape) -> frozenset[int]:
    """Which faults of ``tape_of`` these are, as long as nothing has been moved."""
    return frozenset(int(str(fault["at_ms"])) % 10_000 for fault in tape.fault)


def found(tape: Tape, fails: bool) -> Found:
    verdict, broken = ("safety", "planted") if fails else ("pass", "")
    return Found(seed=1, verdict=verdict, broken=broken, detail="", nodes=5, faults=0, sim_ms=0, digest="")  # type: ignore[arg-type]


def kept_in_place(judge: Callable[[frozenset[int]], bool]) -> Judge:
    """Fails as ``judge`` says of the faults, and only if nothing else of the tape was changed but what is left out."""
    return lambda tape: tape.duration_ms == 600_000 and tape.rack == SyntheticRack(nodes=5) and judge(numbers(tape))


@st.composite
def failing(draw: st.DrawFn) -> tuple[Tape, Judge]:
    """A tape and what makes it fail: any of some groups of faults, or a function of the faults without any pattern."""
    count = draw(st.integers(1, 40))
    if draw(st.booleans()):
        groups = draw(st.lists(st.frozensets(st.integers(0, count - 1), max_size=4), min_size=1, max_size=3))
        return tape_of(count), kept_in_place(lambda kept: any(group <= kept for group in groups))
    salt, share = draw(st.integers(0, 999)), draw(st.integers(1, 9))
    everything = frozenset(range(count))
    return tape_of(count), kept_in_place(
        lambda kept: kept == everything or crc32(f"{salt}{sorted(kept)}".encode()) % 10 < share
    )


@given(failing(), st.integers(1, 400))
def test_what_is_left_fails_within_the_runs_and_is_never_worse(case: tuple[Tape, Judge], runs_max: int) -> None:
    tape, judge = case
    runs: list[Tape] = []

    def attempt(one: Tape) -> Found:
        runs.append(one)
        return found(one, judge(one))

    done = shrink(tape, attempt, runs_max=runs_max)
    assert judge(done.tape)
    assert done.runs == len(runs) <= runs_max
    assert done.faults_after == len(done.tape.fault) <= done.faults_before
    assert numbers(done.tape) <= numbers(tape)
    if "stopped" not in done.note:
        for index in range(len(done.tape.fault)):
            rest = replace(done.tape, fault=done.tape.fault[:index] + done.tape.fault[index + 1 :])
            assert not judge(rest), "it is not 1-minimal"
    assert shrink(tape, attempt, runs_max=runs_max) == done


@given(st.integers(5, 50), st.data())
def test_up_to_three_needed_faults_are_found_in_thirty_runs(count: int, data: st.DataObject) -> None:
    needed = data.draw(st.frozensets(st.integers(0, count - 1), max_size=3))
    runs: list[int] = []

    def attempt(tape: Tape) -> Found:
        fails = kept_in_place(lambda kept: needed <= kept)(tape)
        runs.append(len(tape.fault))
        return found(tape, fails)

    done = shrink(tape_of(count), attempt)
    assert numbers(done.tape) == needed
    assert runs.index(len(needed)) <= 30
