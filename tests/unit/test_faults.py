"""Every fault in a small world: it does its harm, it can be healed, and its mark says so."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from core.ids import NodeId, ServiceName
from core.specs import Timing
from formats.catalog import load_catalog
from formats.rack import load_rack
from trial.fault import Planned
from trial.targets import parse
from twin.faults import FAULTS
from twin.faults.base import Fault
from twin.inject import Injector
from twin.world.world import World

ROOT = Path(__file__).parents[2]
VICTIM = NodeId("n3")
OTHER = NodeId("n1")
KEYS: dict[str, dict[str, object]] = {
    "agent_crash": {"restarts": False},
    "clock_drift": {"ppm": 1_000},
    "group_slow": {"volume": "mariadb"},
    "lock_stuck": {"volume": "mariadb"},
    "service_crash": {"service": "mariadb"},
    "service_never_healthy": {"service": "mariadb"},
}
TARGETS = {"switch_loss": "switch:s1", "new_node": "n6"}

HARM: dict[str, Callable[[World], bool]] = {
    "agent_crash": lambda world: not world.agents[VICTIM].alive,
    "bmc_dead": lambda world: not world.power.bmc.alive(VICTIM),
    "bmc_hung": lambda world: not world.power.bmc.alive(VICTIM),
    "clock_drift": lambda world: world.clocks[VICTIM].drift_ppm == 1_000,
    "link_delay": lambda world: world.fabric.latency_ms(VICTIM, OTHER) >= 200,
    "link_loss": lambda world: not world.fabric.reachable(OTHER, VICTIM) and not world.fabric.storage_reachable(VICTIM),
    "partition": lambda world: not world.fabric.reachable(OTHER, VICTIM) and world.fabric.storage_reachable(VICTIM),
    "power_loss": lambda world: not world.power.chassis[VICTIM].fed,
    "process_pause": lambda world: world.power.chassis[VICTIM].state == "frozen",
    "quorum_loss": lambda world: not world.ensemble.quorum(),
    "service_never_healthy": lambda world: (ServiceName("mariadb"), VICTIM) in world.sick,
    "storage_cut": lambda world: not world.fabric.storage_reachable(VICTIM) and world.fabric.reachable(OTHER, VICTIM),
    "zookeeper_crash": lambda world: not world.ensemble.server_running(VICTIM),
}
"""Harm that is there while the fault lasts and gone soon after."""


def world_with(*planned: Planned) -> tuple[World, Injector]:
    rack, catalog = load_rack(ROOT / "racks/six.toml"), load_catalog(ROOT / "catalog/minimal.toml")
    world = World(rack, catalog, seed=1, fidelity="protocol", start="warm", timing=Timing(), clients=None, journal=None)
    injector = Injector(world, planned)
    injector.arm()
    world.start()
    return world, injector


def planned(kind: str, target: str, **keys: object) -> Planned:
    table = {"target": target, "at_ms": 3_000, **KEYS.get(kind, {}), **keys}
    fault: Fault = msgspec.convert(table, FAULTS[kind])
    return Planned(kind=kind, fault=fault, terms=parse(target) if target else ())


def target_of(kind: str) -> str:
    return TARGETS.get(kind, "" if FAULTS[kind].STRIKES == "none" else str(VICTIM))


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_strikes_and_is_healed_once(kind: str) -> None:
    world, injector = world_with(planned(kind, target_of(kind), for_ms=1_000))
    world.run_until(3_500)
    assert [mark.fault for mark in injector.active] == [kind]
    assert injector.active[0].text
    world.run_until(4_500)
    injector.heal_all()
    assert injector.active == ()
    assert [(mark.from_ms, mark.to_ms) for mark in world.truth.faults] == [(3_000, 4_000)]


@pytest.mark.parametrize("kind", HARM)
def test_harm_lasts_as_long_as_its_fault(kind: str) -> None:
    world, _ = world_with(planned(kind, target_of(kind), for_ms=1_000))
    world.run_until(2_900)
    assert not HARM[kind](world)
    world.run_until(3_400)
    assert HARM[kind](world)
    world.run_until(9_000)
    assert not HARM[kind](world)


def test_a_one_way_partition_cuts_one_way() -> None:
    world, injector = world_with(planned("partition", "n3", direction="out", away_from=("n1", "n2")))
    world.run_until(3_100)
    assert not world.fabric.reachable(VICTIM, OTHER)
    assert world.fabric.reachable(OTHER, VICTIM)
    assert world.fabric.reachable(VICTIM, NodeId("n4"))
    injector.heal_all()
    assert world.fabric.reachable(VICTIM, OTHER)


def test_a_whole_power_domain_dies_with_its_bmcs_and_a_single_node_without() -> None:
    world, _ = world_with(planned("power_loss", "pdu:p1"), planned("power_loss", "n3"))
    world.run_until(3_100)
    states = {node: world.power.chassis[node].state for node in world.nodes if world.power.bmc.alive(node)}
    assert [node for node in ("n1", "n2", "n3") if world.power.chassis[NodeId(node)].state != "off"] == []
    assert list(states) == ["n3", "n4", "n5"]


def test_a_fault_strikes_again_and_nothing_strikes_in_the_heal_phase() -> None:
    world, injector = world_with(planned("clock_jump", "n3", times=5, every_ms=500))
    world.run_until(4_200)
    injector.heal_all()
    world.run_until(8_000)
    assert [mark.from_ms for mark in world.truth.faults] == [3_000, 3_500, 4_000]


def test_a_fault_without_anybody_to_strike_is_recorded_and_over() -> None:
    world, injector = world_with(planned("node_crash", "holder-of:scheduler", at_ms=0))
    world.run_until(100)
    assert injector.active == ()
    assert world.truth.faults[0].text == "holder-of:scheduler: nobody at the moment"


def test_a_flapping_link_goes_up_and_down_and_stays_up_when_healed() -> None:
    world, injector = world_with(planned("link_flap", "n3", down_ms=300, up_ms=200))
    seen = []
    for at_ms in range(3_000, 5_000, 50):
        world.run_until(at_ms)
        seen.append(world.fabric.reachable(OTHER, VICTIM))
    assert sum(1 for before, after in pairwise(seen) if before != after) >= 7
    injector.heal_all()
    for at_ms in range(5_000, 7_000, 50):
        world.run_until(at_ms)
        assert world.fabric.reachable(OTHER, VICTIM)
