"""Availability of singletons: years of outages in the twin itself, in capacity fidelity, the real core deciding."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

from core.errors import InputError
from formats.rack import load_rack
from twin.run import Options, run
from twin.scenario import scenario_of
from twin.table import Table

YEAR_MS = 31_557_600_000
SYSTEM = 2
"""Of LANL; named because a scenario's trace must name one. Outages are generated from the fit, not replayed."""
HEAL_MS = 3_600_000


def availability(
    rack: Path,
    catalog: Path,
    years: float = 1.0,
    seeds: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """Run a rack through years of node outages and measure how long each singleton was served by nobody.

    Outages are drawn from the published fit of LANL's machines, each node on its own (`twin.failures.generate`), once
    for each of ``seeds`` seeds. The interval is Student's over the seeds; with one seed there is none (NaN).

    Columns: service, availability, low, high, unavailable (minutes a year), failovers (a year).
    Raises: InputError for a rack or catalog that cannot be read, or that has no singleton.
    """
    nodes = len(load_rack(rack).nodes)
    rows: dict[str, list[tuple[float, float]]] = {}
    for seed in range(1, seeds + 1):
        outcome = run(scenario_of(_tables(rack, catalog, nodes, years, seed), Path("years.toml"), "years"), Options())
        length_ms = max(1, outcome.outcome.sim_ms)
        for service, away_ms in outcome.outcome.unavailable_ms.items():
            moves = sum(move.service == service for move in outcome.outcome.failovers)
            rows.setdefault(service, []).append((away_ms / length_ms, moves * YEAR_MS / length_ms))
        if progress is not None:
            progress(seed, seeds)
    if not rows:
        raise InputError([f"{catalog}: has no singleton; needed: one, whose availability is measured"])
    return _table(rows, years, seeds)


def _tables(rack: Path, catalog: Path, nodes: int, years: float, seed: int) -> dict[str, object]:
    return {
        "seed": seed,
        "rack": str(rack),
        "catalog": str(catalog),
        "fidelity": "capacity",
        "duration_ms": round(years * YEAR_MS),
        "heal_ms": HEAL_MS,
        "clients": {"every_ms": 0},
        "trace": {"system": SYSTEM, "nodes": nodes, "years": years},
    }


def _table(rows: dict[str, list[tuple[float, float]]], years: float, seeds: int) -> Table:
    columns: dict[str, list[object]] = {
        name: [] for name in ("service", "availability", "low", "high", "unavailable", "failovers")
    }
    wide = float(stats.t.ppf(0.975, seeds - 1)) if seeds > 1 else math.nan
    for service, found in rows.items():
        away = np.array([share for share, _ in found])
        half = wide * float(away.std(ddof=1)) / math.sqrt(seeds) if seeds > 1 else math.nan
        mean = float(away.mean())
        columns["service"].append(service)
        columns["availability"].append(1.0 - mean)
        columns["low"].append(max(0.0, 1.0 - mean - half))
        columns["high"].append(min(1.0, 1.0 - mean + half))
        columns["unavailable"].append(mean * YEAR_MS / 60_000)
        columns["failovers"].append(float(np.mean([moves for _, moves in found])))
    units = {"unavailable": "min/year", "failovers": "1/year"}
    return Table(columns, units, f"Singletons, {seeds} runs of {years:g} years")
