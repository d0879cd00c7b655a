"""The replay of a machine room's years: recorded ones where the file is at hand, else generated from the fits."""

import os
from collections.abc import Iterator
from pathlib import Path

from bench.running import ROOT, run
from bench.table import Row

TARGET_MS = 20_000
"""For all recorded years; the scenario replays some of them, and the target is shared out by time."""
RECORDED_YEARS = 8.63
DATA = Path(os.environ.get("MOXIE_DATA", ROOT.parent / "shared" / "data"))
RECORDED = DATA / "failures" / "lanl" / "LA-UR-05-7318-failure-data-1996-2005.csv.xz"


def rows() -> Iterator[Row]:
    """Measure the wall time, and tell what the years brought."""
    traces = {"generated": (), "recorded": ("--trace", str(RECORDED))} if RECORDED.exists() else {"generated": ()}
    for name, options in traces.items():
        outcome = run(ROOT / "scenarios" / "lanl", *options)
        wall_ms = outcome["wall_ms"]
        years = outcome["sim_ms"] / 365.25 / 86_400_000
        yield Row(
            what=f"{name}: {years:.1f} years",
            measured=f"{wall_ms / 1_000:.1f} s",
            target=f"<= {TARGET_MS / 1_000 * years / RECORDED_YEARS:.1f} s",
            ok=wall_ms <= TARGET_MS * years / RECORDED_YEARS,
        )
        yield Row(what=f"{name}: failovers", measured=f"{len(outcome['failovers']):,}")
        for service, down_ms in outcome["unavailable_ms"].items():
            yield Row(what=f"{name}: availability of {service}", measured=f"{1 - down_ms / outcome['sim_ms']:.6f}")
        for figure, value in outcome["figures"].items():
            yield Row(what=f"{name}: {figure.replace('_', ' ')}", measured=f"{value:,}")
