"""Both fidelities run the same core and world: their failover times must come from the same distribution."""

from pathlib import Path
from statistics import median

import numpy as np
import pytest

from trial.scenario import Fidelity
from twin.run import Options, run
from twin.scenario import load_scenario

SCENARIOS = Path(__file__).parents[2] / "scenarios"
SEEDS = range(100, 120)
KS_MAX = 0.43
"""Critical value of the two-sample Kolmogorov-Smirnov statistic, 20 against 20, at 5 % (1.36 * sqrt(40 / 400))."""


def totals(scenario: str, fidelity: Fidelity) -> list[int]:
    """Failover times of the database over all seeds, in ms."""
    loaded = load_scenario(SCENARIOS / scenario)
    found = []
    for seed in SEEDS:
        outcome = run(loaded, Options(seed=seed, fidelity=fidelity)).outcome
        found += [move.total_ms for move in outcome.failovers if move.service == "mariadb"]
    return found


@pytest.mark.parametrize("scenario", ["lose-the-holder", "operating-system-panic"])
def test_failover_times_agree_between_protocol_and_capacity(scenario: str) -> None:
    protocol, capacity = totals(scenario, "protocol"), totals(scenario, "capacity")
    assert len(protocol) == len(capacity) == len(SEEDS)
    grid = np.array(sorted({*protocol, *capacity}))
    first = np.searchsorted(np.sort(protocol), grid, side="right") / len(protocol)
    second = np.searchsorted(np.sort(capacity), grid, side="right") / len(capacity)
    assert float(np.abs(first - second).max()) <= KS_MAX, (sorted(protocol), sorted(capacity))
    assert abs(median(protocol) - median(capacity)) <= 0.15 * median(protocol)
