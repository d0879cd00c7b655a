"""Rare situations: each is reached by a real run that is made for it, and by none in which nothing happens."""

from functools import cache
from pathlib import Path

import msgspec
import pytest

from twin.run import Options, run
from twin.scenario import Scenario, load_scenario
from twin.swarm.sometimes import SOMETIMES, reached_in
from twin.swarm.tape import Table, Tape, to_scenario

ROOT = Path(__file__).parents[2]
HOLDER = "holder-of:mariadb"
AGAIN: tuple[Table, ...] = (
    {"kind": "power_loss", "target": HOLDER, "at_ms": 60_000, "for_ms": 30_000, "bmc_too": True},
    {"kind": "power_loss", "target": "n4", "at_ms": 63_200, "for_ms": 30_000},
)
"""The holder dies, and then its successor between its fence and the start of the service."""

LATE: tuple[Table, ...] = (
    {"kind": "agent_crash", "target": HOLDER, "at_ms": 60_000},
    {"kind": "zookeeper_cut", "target": "n3", "at_ms": 60_050, "for_ms": 2_600},
)
"""The holder's agent is back soon, and its session over before it is heard of."""

SHORT: tuple[Table, ...] = ({"kind": "link_loss", "target": HOLDER, "at_ms": 60_000, "for_ms": 1_000},)
"""The holder is alone for longer than its evidence is fresh, and not as long as its session lasts."""

TAPES = {"AGAIN": AGAIN, "LATE": LATE, "SHORT": SHORT}

REACHED_BY = {
    "claim_race": "leader-crash-during-failover",
    "claim_unanswered": "leader-crash-during-failover",
    "failover_during_failover": "AGAIN",
    "claimer_died_fencing": "AGAIN",
    "three_epochs_in_a_minute": "lock-stuck",
    "came_back": "holder-lost-again-and-again",
    "drain_during_failover": "drain-during-failover",
    "woke_up_behind": "frozen-holder",
    "fence_done_again": "pdu-loss",
    "refused_at_once": "bmc-lying",
    "resumed": "SHORT",
    "unblocked": "lose-the-holder",
    "gave_up": "holder-cut-from-storage",
    "stayed": "storage-stall",
    "early_close": "power-loss-proven",
    "bmc_lied": "bmc-lying",
    "stale_order_refused": "paused-steward",
    "power_fenced": "quarantine",
    "brake_engaged": "pdu-loss",
    "boot_timeout": "sixth-node-netboot-failing",
    "quarantined": "quarantine",
    "adopted_unnoticed": "agent-crash",
    "adoption_refused": "LATE",
    "handed_over": "agent-never-returns",
    "served_without_quorum": "quorum-lost-ten-minutes",
    "leader_and_holder_lost": "lose-the-leading-holder",
    "voter_died_in_change": "ensemble-growth-under-failure",
    "nowhere": "dark-start",
}


def tape(*faults: Table) -> Tape:
    return Tape(
        why="for a test",
        seed=1,
        rack="racks/five.toml",
        catalog="catalog/minimal.toml",
        duration_ms=120_000,
        fault=faults,
    )


def scenario_called(name: str) -> Scenario:
    return to_scenario(tape(*TAPES[name])) if name in TAPES else load_scenario(ROOT / "scenarios" / name)


@cache
def reached(name: str) -> tuple[str, ...]:
    scenario = msgspec.structs.replace(scenario_called(name), fidelity="campaign")
    return reached_in(run(scenario, Options()).truth, scenario)


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_every_situation_has_a_run_that_reaches_it() -> None:
    assert list(REACHED_BY) == [one.name for one in SOMETIMES]


@pytest.mark.parametrize(("situation", "run_called"), REACHED_BY.items())
def test_a_situation_is_reached_by_the_run_that_is_made_for_it(situation: str, run_called: str) -> None:
    assert situation in reached(run_called)


def test_a_calm_run_reaches_nothing() -> None:
    scenario = to_scenario(tape())
    assert reached_in(run(scenario, Options()).truth, scenario) == ()


@pytest.mark.parametrize(
    ("situation", "run_called"),
    [
        ("failover_during_failover", "lose-the-holder"),
        ("claimer_died_fencing", "lose-the-holder"),
        ("three_epochs_in_a_minute", "holder-lost-again-and-again"),
        ("came_back", "lose-the-holder"),
        ("drain_during_failover", "drain"),
        ("woke_up_behind", "frozen-agent"),
        ("fence_done_again", "lose-the-holder"),
        ("refused_at_once", "power-loss-proven"),
        ("bmc_lied", "power-loss-proven"),
        ("stale_order_refused", "bmc-slow"),
        ("adopted_unnoticed", "LATE"),
        ("adoption_refused", "agent-crash"),
        ("served_without_quorum", "zookeeper-leader-crash"),
        ("leader_and_holder_lost", "zookeeper-leader-crash"),
        ("leader_and_holder_lost", "lose-the-holder"),
        ("voter_died_in_change", "cold-start"),
    ],
)
def test_what_only_looks_like_a_situation_is_none(situation: str, run_called: str) -> None:
    assert situation not in reached(run_called)


def test_every_situation_is_told_in_one_line() -> None:
    assert all(one.text and len(one.text) <= 90 and not one.text.endswith(".") for one in SOMETIMES)
    assert all(one.rule in ("-", *map(str, range(1, 13))) for one in SOMETIMES)
