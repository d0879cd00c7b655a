"""Phases are read from journals alone, and a fit to them gives back the calibration that they came from."""

from pathlib import Path

import msgspec
import pytest

from core import effects as fx
from core import events as ev
from core.ids import BootId, Epoch, NodeId, OpId, VolumeName
from core.journal import Line, encode, read_lines
from core.records import Instance
from trial.phases import phases_of
from twin.calibration import Sampled, load
from twin.fit import Fitted, fit
from twin.run import Options, run
from twin.scenario import load_scenario

ROOT = Path(__file__).parents[2]
N1, N2 = NodeId("n1"), NodeId("n2")
INSTANCE = Instance(node=N1, boot_id=BootId("b"), epoch=Epoch(1), address="10.0.0.1:0/1")


def asks(at_ms: int, op: int, node: NodeId = N1, incarnation: int = 1) -> Line:
    effect = fx.FenceInstance(op=OpId(op), volume=VolumeName("v"), instance=INSTANCE, block_ms=1, ms_max=1)
    return Line(at_ms, node, incarnation, "effect", msgspec.Raw(encode(effect)))


def answers(at_ms: int, op: int, node: NodeId = N1, incarnation: int = 1) -> Line:
    event = ev.OpSucceeded(at_ms=at_ms, op=OpId(op), result=ev.Done())
    return Line(at_ms, node, incarnation, "event", msgspec.Raw(encode(event)))


def fails(at_ms: int, op: int) -> Line:
    event = ev.OpFailed(at_ms=at_ms, op=OpId(op), reason="unanswered", detail="")
    return Line(at_ms, N1, 1, "event", msgspec.Raw(encode(event)))


def test_an_operation_takes_from_its_effect_to_its_success() -> None:
    assert phases_of([asks(100, 1), asks(110, 2), answers(150, 2), answers(230, 1)]) == {"fence_ms": (40, 130)}


def test_what_failed_or_was_never_answered_is_no_sample() -> None:
    assert phases_of([asks(100, 1), fails(150, 1), asks(200, 2)]) == {}


def test_ops_of_other_agents_are_other_ops() -> None:
    lines = [asks(100, 1), asks(105, 1, N2), asks(110, 1, N1, 2), answers(111, 1, N1, 2), answers(125, 1, N2)]
    assert phases_of(lines) == {"fence_ms": (1, 20)}


SLOW = {
    "storage.open_ms": Sampled(min=500, p50=600, p90=700, max=800, source="test"),
    "storage.barrier_ms": Sampled(min=60, p50=80, p90=100, max=110, source="test"),
    "storage.down_silent_ms": Sampled(min=3_200, p50=3_400, p90=3_600, max=3_700, source="test"),
    "service.mariadb.start_ms": Sampled(min=2_000, p50=2_200, p90=2_400, max=2_500, source="test"),
    "service.mariadb.recovery_ms": Sampled(value=0, source="test"),
}


@pytest.fixture(scope="module")
def fitted() -> dict[str, Fitted]:
    """What is fitted to the journal of a rack whose storage and database are slower than the twin's own."""
    outcomes = []
    for name in ("lose-the-holder", "session-expiry"):
        scenario = load_scenario(ROOT / "scenarios" / name)
        for seed in range(6):
            journal = bytearray()
            result = run(scenario, Options(seed=seed, calibration=load().replaced(SLOW)), journal.extend)
            samples = phases_of(read_lines(bytes(journal).splitlines(keepends=True)))
            outcomes.append(msgspec.structs.replace(result.outcome, samples=samples))
    return {one.entry: one for one in fit(outcomes, load()).entries}


def test_a_fit_gives_back_what_the_samples_were_drawn_from(fitted: dict[str, Fitted]) -> None:
    assert 550 <= fitted["storage.open_ms"].after.number <= 720
    assert 2_050 <= fitted["service.mariadb.start_ms"].after.number <= 2_450
    assert fitted["service.mariadb.recovery_ms"].after.number == 0
    write = fitted["zookeeper.write_ms"]
    assert write.before is not None
    assert abs(write.after.number - write.before.number) <= 1


def test_the_parts_of_a_fence_add_up_to_the_whole(fitted: dict[str, Fitted]) -> None:
    parts = ("storage.command_ms", "storage.command_answer_ms", "storage.barrier_ms")
    whole = sum(fitted[part].after.number for part in parts)
    assert 140 <= whole <= 200  # command 50, answer 20, barrier 80, later where an entry spreads slowly


def test_fences_that_waited_tell_when_dead_daemons_are_down(fitted: dict[str, Fitted]) -> None:
    assert 3_250 <= fitted["storage.down_silent_ms"].after.number <= 3_600
