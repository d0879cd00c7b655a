"""The page of timer advice: false alarms a year against failover times, one point for each setting."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.errors import InputError
from formats.paint import Paint
from twin.advise.advice import Advice
from twin.advise.words import to_text, toml_of
from twin.report import colours
from twin.report.frame import style, to_svg
from twin.report.sheet import sheet

FLOOR = 1e-4
"""Rarer than once in ten thousand years is drawn as that: a logarithmic axis has no zero."""

Curve = tuple[str, Sequence[int], str]
"""A name, one failover time in milliseconds for each setting, and a colour."""


def write_page(path: Path, advice: Advice) -> None:
    """Write the page as one file that loads nothing from anywhere.

    Raises: InputError if it cannot be written.
    """
    try:
        path.write_text(page(advice), encoding="utf-8")
    except OSError as error:
        raise InputError([f"--report {path}: cannot be written ({error}); needed: a folder"]) from None


def page(advice: Advice) -> str:
    """Build the page; the same advice gives the same bytes."""
    good, word = ("good", "advised") if advice.advised is not None else ("bad", "none")
    timing = f"<pre>{escape(toml_of(advice.advised))}</pre>" if advice.advised is not None else ""
    reasons = "".join(f"<p>{escape(reason)}.</p>" for reason in advice.reasons)
    table = escape(to_text(advice, Paint(False)))
    body = (
        f'<header><div class="verdict {good}">{word}</div><div><h1>Timers for {escape(advice.rack)}</h1>'
        f'<p class="why">{advice.nodes} nodes, {advice.holders} singletons; failovers of {escape(advice.service)}.</p>'
        f"</div></header>{reasons}{timing}<section><h2>Session timeout</h2>{draw_sessions(advice)}</section>"
        f"<section><h2>Self-demotion point</h2>{draw_fresh(advice)}</section>"
        f"<section><h2>All settings</h2><pre>{table}</pre></section>"
    )
    return sheet("Timer advice", body)


def draw_sessions(advice: Advice) -> str:
    """Draw the sweep of session timeouts: false alarms a year, and failover times."""
    rows = advice.sessions
    return _picture(
        "sessions",
        [row.setting.session_timeout_ms for row in rows],
        [row.expiries_yearly_max for row in rows],
        [
            ("silent holder, p99", [row.silent_p99_ms for row in rows], colours.service(0)),
            ("silent holder, p50", [row.silent_p50_ms for row in rows], colours.service(1)),
            ("proven off, p99", [row.proven_p99_ms for row in rows], colours.service(2)),
        ],
        advice,
        advice.advised.session_timeout_ms if advice.advised else None,
    )


def draw_fresh(advice: Advice) -> str:
    """Draw the sweep of self-demotion points: false alarms a year, and failover times."""
    rows = advice.fresh
    return _picture(
        "fresh",
        [row.setting.fresh_ms for row in rows],
        [row.withdrawals_yearly_max for row in rows],
        [
            ("proven off, p99", [row.proven_p99_ms for row in rows], colours.service(2)),
            ("proven off, p50", [row.proven_p50_ms for row in rows], colours.service(1)),
        ],
        advice,
        advice.advised.fresh_ms if advice.advised else None,
    )


def _picture(
    name: str, limits_ms: list[int], yearly: list[float], curves: list[Curve], advice: Advice, advised: int | None
) -> str:
    style(f"advice-{name}")
    figure = Figure(figsize=(11.0, 3.4), layout="constrained")
    alarms, times = figure.subplots(1, 2)
    _log_axis(alarms, limits_ms, "upper end of false alarms a year")
    alarms.set_yscale("log")
    alarms.plot(limits_ms, [max(rate, FLOOR) for rate in yearly], marker="o", color=colours.service(3))
    alarms.axhline(advice.yearly_max, linestyle="--", linewidth=1, color="0.4")
    _log_axis(times, limits_ms, "failover, seconds")
    for label, times_ms, colour in curves:
        times.plot(limits_ms, [ms / 1000 for ms in times_ms], marker="o", label=label, color=colour)
    times.set_ylim(bottom=0)
    times.legend(frameon=False, fontsize=8)
    for axes in (alarms, times):
        if advised is not None:
            axes.axvline(advised, linewidth=6, alpha=0.15, color=colours.service(0))
    return to_svg(figure)


def _log_axis(axes: Axes, limits_ms: list[int], label: str) -> None:
    axes.set_xscale("log")
    axes.set_xticks(limits_ms, [f"{ms / 1000:g}" for ms in limits_ms], fontsize=8)
    axes.minorticks_off()
    axes.set_xlabel("setting, seconds")
    axes.set_ylabel(label)
