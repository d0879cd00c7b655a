"""A snapshot is the whole machine: what follows comes out the same, so any segment of a journal replays alone."""

from functools import cache
from pathlib import Path

import pytest

from core.journal import Line, decode_event, decode_opening, encode, read_lines
from core.machine import Machine
from twin.run import Options, run
from twin.scenario import load_scenario

ROOT = Path(__file__).parents[2]
SCENARIOS = ("lose-the-holder", "drain-during-failover", "agent-never-returns", "sixth-node")


@cache
def journal_of(scenario: str) -> tuple[Line, ...]:
    """The journal of one scenario's run."""
    written: list[bytes] = []
    run(load_scenario(ROOT / "scenarios" / scenario), Options(), sink=written.append)
    return tuple(read_lines(b"".join(written).splitlines(keepends=True)))


@pytest.mark.parametrize("every", [97, 211])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_machine_restored_from_a_snapshot_does_what_the_first_one_does(scenario: str, every: int) -> None:
    machines: dict[tuple[str, int], tuple[Machine, Machine]] = {}
    openings = {}
    events = 0
    for line in journal_of(scenario):
        key = (line.node, line.incarnation)
        if line.kind == "open":
            openings[key] = decode_opening(line.body)
            machines[key] = (Machine(openings[key]), Machine(openings[key]))
        elif line.kind == "event":
            first, second = machines[key]
            event = decode_event(line.body)
            expected = [encode(effect) for effect in first.step(event)]
            assert [encode(effect) for effect in second.step(event)] == expected, (line.at_ms, key, event)
            events += 1
            if events % every == 0:
                snapshot = second.snapshot()
                restored = Machine.restore(openings[key], snapshot)
                assert restored.snapshot() == snapshot
                assert restored.view() == second.view()
                machines[key] = (first, restored)
    assert events > 10 * every
