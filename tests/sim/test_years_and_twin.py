"""Years in bulk beside the capacity-fidelity twin: the same outages move the same singletons, in about as long."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.sim.running import run
from twin.failures.renewal import Outages, union
from twin.failures.replay import outages_for
from twin.scenario import load_scenario
from twin.streams import Streams
from twin.years.measured import PROVEN, SILENT
from twin.years.singletons import SingletonYears, singleton_years
from twin.years.site import Site, regular
from twin.years.timeline import KINDS, Timeline

SCENARIO = "lanl"


def moves(outcome: dict[str, Any], service: str) -> list[tuple[int, int]]:
    """When the twin moved a service to another node because its node was lost, and how long that took."""
    return [
        (move["at_ms"], move["total_ms"])
        for move in outcome["failovers"]
        if move["service"] == service and move["from"] != move["to"]
    ]


def in_bulk(seed: int) -> tuple[Timeline, list[SingletonYears]]:
    """The same years without the twin: outages of the scenario, nodes and services as it knows them."""
    scenario = load_scenario(Path("scenarios") / SCENARIO)
    assert scenario.trace is not None
    nodes = tuple(spec.id for spec in scenario.rack.specs)
    replayed = outages_for(scenario.trace, None, nodes, Streams(seed), scenario.duration_ms)
    rows = sorted((nodes.index(outage.node), outage.start_ms, outage.end_ms) for outage in replayed)
    down = union([Outages(*np.asarray(rows, dtype=np.int64).T)])
    none = Outages(*(np.empty(0, np.int64) for _ in range(3)))
    timeline = Timeline(
        duration_ms=scenario.duration_ms,
        by_kind={kind: down if kind == "node" else none for kind in KINDS},
        node_alone=down,
        node_held=none,
        node_down=down,
    )
    site: Site = msgspec.structs.replace(regular(len(nodes), 1, nodes_per_rack=25), bursts=None)
    return timeline, singleton_years(site, timeline, scenario.catalog.specs, SILENT, seed, scenario.rack.specs)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_outages_move_the_same_singletons_at_the_same_moments(seed: int) -> None:
    """A service that needs no other moves exactly as in the twin, and its outages last within a third as long.

    One that needs another (the scheduler, the database) also follows that one's fate in the twin, which the years in
    bulk do not model, so it moves up to twice as often there.
    """
    _, outcome = run(SCENARIO, "--seed", str(seed))
    timeline, (database, scheduler) = in_bulk(seed)
    assert len(timeline.node_down.component) > 200
    told = moves(outcome, database.service)
    assert database.start_ms.tolist() == [at_ms for at_ms, _ in told]
    assert database.away_ms == pytest.approx(outcome["unavailable_ms"][database.service], rel=1 / 3)
    dependent = len(moves(outcome, scheduler.service))
    assert scheduler.failovers <= dependent <= 2 * scheduler.failovers


def test_the_failover_times_used_are_those_that_the_protocol_takes() -> None:
    """The shipped quantiles come from many runs; single runs of the same two causes lie within them."""
    for scenario, failover in (("operating-system-panic", SILENT), ("power-loss-proven", PROVEN)):
        _, outcome = run(scenario)
        (total_ms,) = [move["total_ms"] for move in outcome["failovers"] if move["service"] == "mariadb"]
        assert failover.quantiles_ms[0] * 0.9 <= total_ms <= failover.quantiles_ms[-1] * 1.4
