"""Failover times of one rack under many settings of its timers, each measured in the twin."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from twin.calibration import Calibration, Sampled, load
from twin.run import Options, run
from twin.scenario import scenario_of

CAUSES: Mapping[str, Mapping[str, object]] = {
    "proven": {"kind": "power_loss"},
    "silent": {"kind": "power_loss", "bmc_too": True},
}
"""How the holder is lost: its BMC lives and proves it off, or nobody can say anything and its session must expire."""
STRUCK_MS = 40_000
DURATION_MS = 90_000


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of the timers, in milliseconds; ``tick_ms`` is ZooKeeper's, all others are ``core.specs.Timing``."""

    session_timeout_ms: int
    tick_ms: int
    beat_ms: int
    probe_ms: int
    fresh_ms: int
    withdraw_ms: int


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Failover times that one setting gave, sorted; by how the holder was lost (``CAUSES``)."""

    proven_ms: tuple[int, ...]
    silent_ms: tuple[int, ...]


def quantile(times_ms: Sequence[int], share: float) -> int:
    """The smallest of sorted times that at least ``share`` of them do not exceed; -1 if there are none."""
    return times_ms[max(0, -int(-share * len(times_ms) // 1) - 1)] if times_ms else -1


def measure(rack: Path, catalog: Path, service: str, setting: Setting, seeds: int) -> Times:
    """Lose the holder of ``service`` once for each seed and cause.

    Raises: InputError if the rack or the catalog is not right.
    """
    calibration = load()
    tick = Sampled(source="swept", value=float(setting.tick_ms))
    calibration = calibration.replaced({"zookeeper.tick_ms": tick})
    found = {
        cause: tuple(
            sorted(
                total
                for seed in range(1, seeds + 1)
                for total in _totals(rack, catalog, service, setting, calibration, cause, seed)
            )
        )
        for cause in CAUSES
    }
    return Times(proven_ms=found["proven"], silent_ms=found["silent"])


def _totals(
    rack: Path, catalog: Path, service: str, setting: Setting, calibration: Calibration, cause: str, seed: int
) -> list[int]:
    timing = msgspec.to_builtins(setting)
    del timing["tick_ms"]
    tables = {
        "seed": seed,
        "rack": str(rack),
        "catalog": str(catalog),
        "fidelity": "campaign",
        "duration_ms": DURATION_MS,
        "settle_ms": 0,
        "timing": timing,
        "clients": {"every_ms": 0},
        "fault": [{**CAUSES[cause], "target": f"holder-of:{service}", "at_ms": STRUCK_MS}],
    }
    scenario = scenario_of(tables, Path("advice.toml"), "timer advice")
    outcome = run(scenario, Options(calibration=calibration)).outcome
    return [move.total_ms for move in outcome.failovers if move.service == service][:1]


Measure = Callable[[Setting], Times]
