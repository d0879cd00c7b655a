"""A thousand dark machines: how long until all are in that can be, on the wall's clock, and what became of the rest."""

import time
from collections import Counter
from collections.abc import Iterator

from bench.running import ROOT
from bench.table import Row
from trial.marks import NoteMark
from twin.run import Options, Result, run
from twin.scenario import load_scenario

TARGET_S = 10.0
SCENARIO = "thousand-dark"


def rows() -> Iterator[Row]:
    """Run the scenario ``thousand-dark`` once, in this process."""
    scenario = load_scenario(ROOT / "scenarios" / SCENARIO)
    begun = time.perf_counter()
    result = run(scenario, Options())
    wall_s = time.perf_counter() - begun
    total = len(scenario.rack.nodes)
    yield Row(
        what=f"{total:,} machines, one simulated hour",
        measured=f"{wall_s:.1f} s",
        target=f"<= {TARGET_S:.0f} s",
        ok=wall_s <= TARGET_S,
    )
    yield from _ends(result, total)


def _ends(result: Result, total: int) -> Iterator[Row]:
    """What became of every machine."""
    notes = result.truth.notes
    joined = {note.by: note.at_ms for note in reversed(notes) if note.kind == "joined"}
    last_min = max(joined.values(), default=0) / 60_000
    left = {_whom(note): _reason(note) for note in notes if note.kind in ("quarantined", "found_locked")}
    ends = {whom: reason for whom, reason in left.items() if whom not in joined and "dropped" not in reason}
    unseen = total - len(joined) - len(ends)
    yield Row(what="verdict", measured=result.outcome.verdict, ok=result.outcome.as_expected)
    yield Row(what="joined", measured=f"{len(joined):,}")
    yield Row(what="the last of them after", measured=f"{last_min:.1f} min")
    yield Row(what="machine steps", measured=f"{result.outcome.steps:,}")
    for reason, count in sorted(Counter(ends.values()).items()):
        yield Row(what=reason[:100], measured=str(count))
    yield Row(what="never seen (their BMCs are dead), or still tried", measured=str(unseen))


def _whom(note: NoteMark) -> str:
    """Which node, or which BMC where there is no node."""
    return note.detail.partition(": ")[0] if note.kind == "found_locked" else str(note.node)


def _reason(note: NoteMark) -> str:
    """Why somebody was left alone, without the names."""
    said = note.detail.partition(": ")[2] if note.kind == "found_locked" else note.detail
    return f"{'quarantined' if note.kind == 'quarantined' else 'left alone'}: {said}"
