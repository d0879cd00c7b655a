"""Outages of hours in a simulated rack: what is broken stays broken until its repair, and then comes back by itself."""

from typing import get_args

import pytest

from core.ids import NodeId
from core.specs import Timing
from formats.catalog import load_catalog
from formats.rack import load_rack
from tests.sim.running import ROOT
from twin.failures.outage import FAULT_OF, Cause, FaultKind
from twin.failures.outages import Outages
from twin.failures.replay import Replay
from twin.faults import FAULTS
from twin.recorder import Recorder
from twin.world.clients import ClientLoad
from twin.world.world import World

BROKEN = NodeId("n3")
HOUR_MS = 3_600_000
START_MS, END_MS = 60_000, 60_000 + HOUR_MS


def rack_with(fault: FaultKind) -> tuple[World, Outages]:
    world = World(
        load_rack(ROOT / "racks" / "five.toml"),
        load_catalog(ROOT / "catalog" / "minimal.toml"),
        seed=1,
        fidelity="capacity",
        start="warm",
        timing=Timing(),
        clients=ClientLoad(every_ms=0),
        journal=Recorder(),
    )
    outage = Replay(node=BROKEN, start_ms=START_MS, end_ms=END_MS, cause="hardware", detail="CPU", fault=fault)
    outages = Outages(world, [outage])
    outages.arm()
    world.start()
    return world, outages


def test_every_cause_becomes_a_fault_of_the_catalogue() -> None:
    assert set(FAULT_OF) == set(get_args(Cause))
    assert set(FAULT_OF.values()) <= set(FAULTS)


@pytest.mark.parametrize("fault", get_args(FaultKind))
def test_a_broken_machine_stays_away_until_its_repair_and_then_joins_again(fault: FaultKind) -> None:
    world, _ = rack_with(fault)
    world.run_until(START_MS - 1)
    assert BROKEN in world.members()
    for at_ms in range(START_MS + 10_000, END_MS, 5_000):
        world.run_until(at_ms)
        assert BROKEN not in world.members(), f"back at {at_ms} ms"
    world.run_until(END_MS + HOUR_MS // 2)
    assert BROKEN in world.members()
    assert len(world.members()) == 5


def test_a_crashed_machine_was_power_cycled_in_vain_meanwhile() -> None:
    world, _ = rack_with("node_crash")
    states = []
    for at_ms in range(START_MS, END_MS, 5_000):
        world.run_until(at_ms)
        states.append(world.power.chassis[BROKEN].state)
    assert "no_boot" in states, "its steward never tried"
    assert "up" not in states[1:]


def test_the_heal_phase_repairs_what_is_still_broken() -> None:
    world, outages = rack_with("power_loss")
    world.run_until(START_MS + 30_000)
    assert BROKEN not in world.members()
    outages.heal_all()
    world.run_until(START_MS + HOUR_MS // 2)
    assert BROKEN in world.members()
