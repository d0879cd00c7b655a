"""Runs of scenarios and advice on timers for notebooks: tables and pictures."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from trial.verdict import Outcome
from twin.advise.advice import Advice
from twin.advise.rack import advise
from twin.advise.words import toml_of
from twin.report.advice import draw_fresh, draw_sessions
from twin.report.picture import draw_svg
from twin.report.shown import Picture
from twin.run import Options, Result, run
from twin.scenario import load_scenario
from twin.table import Table


class Run:
    """One run of a scenario: ``outcome`` holds every figure, the rest shows it."""

    def __init__(self, result: Result) -> None:
        self.outcome: Outcome = result.outcome
        self._result = result

    @property
    def picture(self) -> Picture:
        """The timeline: one row for each server, a bar for each service that runs in one place."""
        return Picture(draw_svg(self._result.story))

    @property
    def failovers(self) -> Table:
        """Each move of a singleton with its phases."""
        return _failovers([(self.outcome.seed, self.outcome)])

    @property
    def checks(self) -> Table:
        """What every checker said."""
        checks = self.outcome.checks
        return Table(
            {"checker": [check.name for check in checks], "holds": ["yes" if check.ok else "no" for check in checks]}
        )


def simulate(scenario: str | Path, seed: int | None = None) -> Run:
    """Run a scenario in the twin.

    Raises: InputError if the scenario, its rack or its catalog is not right.
    """
    return Run(run(load_scenario(Path(scenario)), Options(seed=seed)))


def failover_times(scenario: str | Path, seeds: int = 20) -> Table:
    """Run a scenario once for each of the seeds 1 to ``seeds`` and list every move of a singleton.

    Raises: InputError as ``simulate``.
    """
    loaded = load_scenario(Path(scenario))
    return _failovers([(seed, run(loaded, Options(seed=seed)).outcome) for seed in range(1, seeds + 1)])


class Timers:
    """Advice on timers: ``advice`` holds every figure, the rest shows it."""

    def __init__(self, advice: Advice) -> None:
        self.advice = advice

    @property
    def sessions(self) -> Table:
        """The sweep of session timeouts: false alarms a year for the whole rack, and failover times."""
        rows = self.advice.sessions
        columns = {
            "session_timeout_ms": [row.setting.session_timeout_ms for row in rows],
            "false_alarms_yearly_max": [row.expiries_yearly_max for row in rows],
            "proven_p50_ms": [row.proven_p50_ms for row in rows],
            "silent_p50_ms": [row.silent_p50_ms for row in rows],
            "silent_p99_ms": [row.silent_p99_ms for row in rows],
        }
        return Table(columns, {name: "ms" for name in columns if name.endswith("_ms")})

    @property
    def withdrawals(self) -> Table:
        """The sweep of the self-demotion point: after how long without any answer a holder stops by itself."""
        rows = self.advice.fresh
        columns = {
            "fresh_ms": [row.setting.fresh_ms for row in rows],
            "false_alarms_yearly_max": [row.withdrawals_yearly_max for row in rows],
            "successor_waits_ms": [row.admission_ms for row in rows],
            "proven_p50_ms": [row.proven_p50_ms for row in rows],
            "proven_p99_ms": [row.proven_p99_ms for row in rows],
        }
        return Table(columns, {name: "ms" for name in columns if name.endswith("_ms")})

    @property
    def session_picture(self) -> Picture:
        """False alarms and failover times over the session timeout."""
        return Picture(draw_sessions(self.advice))

    @property
    def withdrawal_picture(self) -> Picture:
        """False alarms and failover times over the self-demotion point."""
        return Picture(draw_fresh(self.advice))

    @property
    def toml(self) -> str:
        """What to write into a scenario or a rack's configuration, or nothing if no setting will do."""
        return toml_of(self.advice.advised) if self.advice.advised is not None else ""


def timers(rack: str | Path, catalog: str | Path, journals: Sequence[Path] = (), seeds: int = 20) -> Timers:
    """Say which timers a rack should have (`twin advise`).

    Raises: InputError as ``twin.advise.rack.advise``.
    """
    return Timers(advise(rack, catalog, journals, seeds))


def _failovers(outcomes: list[tuple[int, Outcome]]) -> Table:
    moves = [{"seed": seed} | msgspec.to_builtins(move) for seed, outcome in outcomes for move in outcome.failovers]
    names = ("seed", "service", "cause", "from", "to", "epoch", "detect_ms", "fence_ms", "start_ms", "total_ms")
    units = {name: "ms" for name in names if name.endswith("_ms")}
    return Table({name: [move[name] for move in moves] for name in names}, units)
