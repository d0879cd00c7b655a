"""All fidelities run the same core and world: their failover times must come from the same distribution."""

from collections import Counter
from functools import cache
from pathlib import Path
from statistics import median

import pytest

from trial.scenario import Fidelity
from trial.verdict import Outcome
from twin.kolmogorov import statistic
from twin.run import Options, run
from twin.scenario import Scenario, load_scenario, scenario_of

ROOT = Path(__file__).parents[2]
SEEDS = range(100, 120)
KS_MAX = 0.43
"""Critical value of the two-sample Kolmogorov-Smirnov statistic, 20 against 20, at 5 % (1.36 * sqrt(40 / 400))."""
FEW_SEEDS, FEW_KS_MAX = range(100, 110), 0.61
"""The same for 10 against 10."""
HOLDER = {"target": "holder-of:mariadb", "at_ms": 31_000, "for_ms": 15_000}
MOVES: dict[str, dict[str, object]] = {
    "node crash": {"kind": "node_crash", **HOLDER},
    "power loss": {"kind": "power_loss", **HOLDER},
    "partition": {"kind": "partition", **HOLDER},
    "session expiry": {"kind": "session_expiry", **HOLDER},
    "storage cut": {"kind": "storage_cut", **HOLDER},
    "frozen machine": {"kind": "process_pause", **HOLDER},
    "frozen agent": {"kind": "process_pause", "what": "agent", **HOLDER},
    "slow link": {"kind": "link_delay", "delay_ms": 3_000, **HOLDER},
}
"""Faults that move the database."""
STAYS: dict[str, dict[str, object]] = {
    "clock jumps": {"kind": "clock_jump", "by_ms": 700, "every_ms": 2_000, "times": 5, **HOLDER, "for_ms": 1_000},
    "one clock jump": {"kind": "clock_jump", "by_ms": 10_000, **HOLDER},
    "clock drift": {"kind": "clock_drift", "ppm": 200_000, **HOLDER},
    "storage stall": {"kind": "storage_stall", "at_ms": 31_000, "for_ms": 15_000},
    "no leader": {"kind": "quorum_loss", "at_ms": 31_000, "for_ms": 15_000},
}
"""Faults that it outlasts where it is, though not always without an interruption."""


def struck(fault: dict[str, object]) -> Scenario:
    """A rack of five, and one fault."""
    racks = {"rack": str(ROOT / "racks/five.toml"), "catalog": str(ROOT / "catalog/minimal.toml")}
    return scenario_of({**racks, "duration_ms": 47_000, "fault": [fault]}, Path("struck.toml"), "a fault")


@cache
def outcomes_of(fault: str, fidelity: Fidelity) -> list[Outcome]:
    """What comes of the fault of that name, over a few seeds; run once."""
    return outcomes(struck({**MOVES, **STAYS}[fault]), fidelity, FEW_SEEDS)


def outcomes(scenario: Scenario, fidelity: Fidelity, seeds: range = SEEDS) -> list[Outcome]:
    return [run(scenario, Options(seed=seed, fidelity=fidelity)).outcome for seed in seeds]


def totals(found: list[Outcome]) -> list[int]:
    """Failover times of the database over all seeds, in ms."""
    return [move.total_ms for outcome in found for move in outcome.failovers if move.service == "mariadb"]


def notes(found: list[Outcome]) -> Counter[str]:
    """What the machines said over all seeds."""
    return sum((Counter(outcome.notes) for outcome in found), Counter())


@pytest.mark.parametrize("scenario", ["lose-the-holder", "operating-system-panic"])
def test_failover_times_agree_between_protocol_and_capacity(scenario: str) -> None:
    loaded = load_scenario(ROOT / "scenarios" / scenario)
    protocol, capacity = totals(outcomes(loaded, "protocol")), totals(outcomes(loaded, "capacity"))
    assert len(protocol) == len(capacity) == len(SEEDS)
    assert statistic(protocol, capacity) <= KS_MAX, (sorted(protocol), sorted(capacity))
    assert abs(median(protocol) - median(capacity)) <= 0.15 * median(protocol)


@pytest.mark.parametrize("fault", MOVES)
def test_failover_times_agree_between_protocol_and_campaign(fault: str) -> None:
    protocol, campaign = totals(outcomes_of(fault, "protocol")), totals(outcomes_of(fault, "campaign"))
    assert len(protocol) == len(campaign) == len(FEW_SEEDS)
    assert statistic(protocol, campaign) <= FEW_KS_MAX, (sorted(protocol), sorted(campaign))


@pytest.mark.parametrize("fault", STAYS)
def test_interruptions_agree_between_protocol_and_campaign(fault: str) -> None:
    protocol, campaign = outcomes_of(fault, "protocol"), outcomes_of(fault, "campaign")
    assert not totals(protocol)
    assert not totals(campaign)
    down = [[outcome.unavailable_ms["mariadb"] for outcome in found] for found in (protocol, campaign)]
    assert statistic(*down) <= FEW_KS_MAX, [sorted(times) for times in down]


@pytest.mark.parametrize("fault", [*MOVES, *STAYS])
def test_machines_say_the_same_in_protocol_and_campaign(fault: str) -> None:
    protocol, campaign = notes(outcomes_of(fault, "protocol")), notes(outcomes_of(fault, "campaign"))
    assert protocol.keys() == campaign.keys()
    for note in protocol:
        assert abs(protocol[note] - campaign[note]) <= 3 + protocol[note] // 8, (note, protocol[note], campaign[note])


def test_clients_of_a_campaign_ask_often_when_something_changes_and_seldom_in_calm_times() -> None:
    fidelities: tuple[Fidelity, ...] = ("protocol", "campaign", "capacity")
    answered = {
        fidelity: [outcome.acknowledged_writes for outcome in outcomes_of("node crash", fidelity)]
        for fidelity in fidelities
    }
    assert max(answered["capacity"]) == 0
    assert min(answered["campaign"]) >= 10
    assert max(answered["campaign"]) * 3 <= min(answered["protocol"])
