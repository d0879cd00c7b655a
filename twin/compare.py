"""What the twin predicted beside what was measured: the times of every failover, by scenario and service."""

from collections.abc import Iterable, Sequence

import msgspec

from core.errors import InputError
from formats.paint import Paint
from trial.expect import quantile
from trial.reports import Half, half_of
from trial.verdict import Failover, Outcome
from twin.kolmogorov import p_value, statistic

PARTS = ("detect", "fence", "start", "total")
"""The phases of a failover and their sum, which is what clients feel and what is judged."""

MEDIAN_RATIO_MAX = 0.15
"""A predicted median may be off by this share of the measured one."""
TAIL_RATIO_MAX = 0.30
"""A predicted p99 may be off by this share of the measured one."""
SLACK_MS = 5
"""A difference this small is none: real clocks and processes are that coarse, and a share of nothing is nothing."""


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Nearest-rank quantiles of ``count`` times, in milliseconds."""

    count: int
    p50_ms: int
    p99_ms: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the failovers of one service in one scenario. Ratios are predicted to measured, None for x to 0.

    ``distance`` and ``p_value`` are those of Kolmogorov and Smirnov. The samples themselves are in ascending order.
    """

    scenario: str
    service: str
    part: str
    predicted: Quantiles
    measured: Quantiles
    p50_ratio: float | None
    p99_ratio: float | None
    p50_ok: bool
    p99_ok: bool
    distance: float
    p_value: float
    predicted_ms: tuple[int, ...]
    measured_ms: tuple[int, ...]

    @property
    def ok(self) -> bool:
        """Whether both quantiles are near enough."""
        return self.p50_ok and self.p99_ok


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """``met``: every total is near enough, and nothing moved in one world only (``missing``).

    ``notes``: what was left out, or was not as its scenario expects.
    """

    met: bool
    rows: tuple[Row, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def totals(self) -> tuple[Row, ...]:
        """The rows that are judged."""
        return tuple(row for row in self.rows if row.part == "total")


def compare(predicted: Sequence[Outcome], measured: Sequence[Outcome], half: Half | None = None) -> Comparison:
    """Compare every scenario that is in both; ``half`` chooses among the measured ones, as for a fit.

    Raises: InputError if no scenario of that half is in both.
    """
    ours, theirs = _by_scenario(predicted), _by_scenario(measured)
    chosen = half_of(theirs, half)
    both = [name for name in chosen if name in ours]
    if not both:
        which = f" of the {half} half" if half else ""
        raise InputError(
            [f"no scenario{which} is in both reports; predicted: {_names(ours)}; measured: {_names(chosen)}"]
        )
    notes = [f"{name}: measured, not predicted" for name in chosen if name not in ours]
    if half is None:
        notes += [f"{name}: predicted, not measured" for name in sorted(ours) if name not in theirs]
    rows: list[Row] = []
    missing: list[str] = []
    for name in both:
        notes += _unexpected(name, "predicted", ours[name]) + _unexpected(name, "measured", theirs[name])
        _scenario(name, ours[name], theirs[name], rows, missing)
    met = not missing and all(row.ok for row in rows if row.part == "total")
    return Comparison(met=met, rows=tuple(rows), missing=tuple(missing), notes=tuple(notes))


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _by_scenario(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.scenario, []).append(outcome)
    return dict(sorted(found.items()))


def _unexpected(name: str, which: str, outcomes: Sequence[Outcome]) -> list[str]:
    """A run that did not go as expected counts all the same: leaving it out would flatter."""
    odd = [outcome.verdict for outcome in outcomes if not outcome.as_expected]
    verdicts = ", ".join(dict.fromkeys(odd))
    return [f"{name}: {len(odd)} of {len(outcomes)} {which} runs were not as expected ({verdicts})"] if odd else []


def _scenario(
    name: str, ours: Sequence[Outcome], theirs: Sequence[Outcome], rows: list[Row], missing: list[str]
) -> None:
    one, other = _moves(ours), _moves(theirs)
    for service in sorted({**one, **other}):
        if service not in one or service not in other:
            where, times = ("predicted", one) if service in one else ("measured", other)
            count, runs = len(times[service]), len(ours if where == "predicted" else theirs)
            missing.append(f"{name}: {service} moved only as {where} ({count} times in {runs} runs)")
            continue
        for part in PARTS:
            rows.append(_row(name, service, part, _times(one[service], part), _times(other[service], part)))


def _moves(outcomes: Sequence[Outcome]) -> dict[str, list[Failover]]:
    found: dict[str, list[Failover]] = {}
    for outcome in outcomes:
        for move in outcome.failovers:
            found.setdefault(move.service, []).append(move)
    return found


def _times(moves: Sequence[Failover], part: str) -> tuple[int, ...]:
    return tuple(sorted(int(getattr(move, f"{part}_ms")) for move in moves))


def _row(scenario: str, service: str, part: str, predicted: tuple[int, ...], measured: tuple[int, ...]) -> Row:
    ours, theirs = _quantiles(predicted), _quantiles(measured)
    distance = statistic(predicted, measured)
    return Row(
        scenario=scenario,
        service=service,
        part=part,
        predicted=ours,
        measured=theirs,
        p50_ratio=_ratio(ours.p50_ms, theirs.p50_ms),
        p99_ratio=_ratio(ours.p99_ms, theirs.p99_ms),
        p50_ok=near(ours.p50_ms, theirs.p50_ms, MEDIAN_RATIO_MAX),
        p99_ok=near(ours.p99_ms, theirs.p99_ms, TAIL_RATIO_MAX),
        distance=round(distance, 6),
        p_value=round(p_value(distance, len(predicted), len(measured)), 6),
        predicted_ms=predicted,
        measured_ms=measured,
    )


def _quantiles(times_ms: Sequence[int]) -> Quantiles:
    return Quantiles(count=len(times_ms), p50_ms=quantile(times_ms, 50), p99_ms=quantile(times_ms, 99))


def _ratio(predicted_ms: int, measured_ms: int) -> float | None:
    if measured_ms == 0:
        return 1.0 if predicted_ms == 0 else None
    return round(predicted_ms / measured_ms, 4)


def near(predicted_ms: int, measured_ms: int, ratio_max: float) -> bool:
    """Whether a prediction is off by at most that share of what was measured, or by next to nothing."""
    return abs(predicted_ms - measured_ms) <= max(SLACK_MS, ratio_max * measured_ms)


# -- for a terminal ----------------------------------------------------------------------------------------------------

_HEAD = (
    *("scenario", "service", "part", "moves"),
    *("predicted p50", "p99", "measured p50", "p99", "ratio p50", "p99", "KS D", "p"),
)


def to_text(found: Comparison, paint: Paint) -> str:
    """The comparison as a table, and in a sentence what came of it."""
    cells = [_cells(row) for row in found.rows]
    widths = [max(len(line[i]) for line in [_HEAD, *cells]) for i in range(len(_HEAD))]
    lines = [paint.dim(_line(_HEAD, widths))]
    for row, cell in zip(found.rows, cells, strict=True):
        words = paint.good("near") if row.ok else paint.bad(_off(row))
        text = _line(cell, widths)
        lines.append(f"{paint.strong(text) if row.part == 'total' else text}  {words}")
    lines += [paint.bad(line) for line in found.missing]
    lines += [paint.dim(line) for line in found.notes]
    return "\n".join([*lines, "", (paint.good if found.met else paint.bad)(summary(found))]) + "\n"


def summary(found: Comparison) -> str:
    """Say in a sentence how many totals are as near as they should be."""
    totals = found.totals
    good = sum(1 for row in totals if row.ok)
    worst = max([abs(row.p50_ratio - 1.0) for row in totals if row.p50_ratio is not None], default=0.0)
    targets = f"median within {MEDIAN_RATIO_MAX:.0%}, p99 within {TAIL_RATIO_MAX:.0%}"
    moved = f"; {len(found.missing)} moved in one world only" if found.missing else ""
    return f"{good} of {len(totals)} totals are near ({targets}); the worst median is off by {worst:.0%}{moved}"


def _off(row: Row) -> str:
    return "off: " + " and ".join(name for name, ok in (("p50", row.p50_ok), ("p99", row.p99_ok)) if not ok)


def _cells(row: Row) -> tuple[str, ...]:
    ours, theirs = row.predicted, row.measured
    return (
        row.scenario,
        row.service,
        row.part,
        f"{ours.count}/{theirs.count}",
        f"{ours.p50_ms:,d} ms",
        f"{ours.p99_ms:,d} ms",
        f"{theirs.p50_ms:,d} ms",
        f"{theirs.p99_ms:,d} ms",
        ratio_text(row.p50_ratio),
        ratio_text(row.p99_ratio),
        f"{row.distance:.2f}",
        f"{row.p_value:.3f}",
    )


def ratio_text(ratio: float | None) -> str:
    """Show a ratio; there is none to nothing."""
    return "-" if ratio is None else f"{ratio:.2f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
    return "  ".join([*left, *right])


def to_json(found: Comparison) -> bytes:
    """One JSON object on one line."""
    return msgspec.json.encode(found) + b"\n"
