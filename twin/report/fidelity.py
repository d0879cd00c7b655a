"""The page of a comparison: for each scenario and service, predicted and measured distributions over each other."""

from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from core.errors import InputError
from twin.compare import MEDIAN_RATIO_MAX, SLACK_MS, TAIL_RATIO_MAX, Comparison, Row, ratio_text, summary
from twin.report import colours
from twin.report.frame import style, to_svg
from twin.report.sheet import sheet
from twin.timeline import took

PREDICTED, MEASURED = colours.service(0), colours.service(1)
WIDTH_INCHES, HEIGHT_INCHES = 12.0, 2.3


def write_page(path: Path, found: Comparison) -> None:
    """Write the page as one file that loads nothing from anywhere.

    Raises: InputError if it cannot be written.
    """
    text = page(found)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError([f"--html {path}: cannot be written ({error}); needed: a file"]) from None


def page(found: Comparison) -> str:
    """Build the page; the same comparison gives the same bytes."""
    parts = [
        _head(found),
        _totals(found.totals),
        *(_section(list(rows)) for _, rows in groupby(found.rows, key=lambda row: (row.scenario, row.service))),
        _foot(found),
    ]
    return sheet("Twin and lab", "".join(parts))


def _head(found: Comparison) -> str:
    good, word = ("good", "near") if found.met else ("bad", "off")
    totals = found.totals
    facts = [
        ("scenarios", str(len({row.scenario for row in totals}))),
        ("failovers predicted", str(sum(row.predicted.count for row in totals))),
        ("failovers measured", str(sum(row.measured.count for row in totals))),
        ("totals near", f"{sum(1 for row in totals if row.ok)} of {len(totals)}"),
    ]
    cards = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return (
        f'<header><div class="verdict {good}">{word}</div><div><h1>Twin and lab</h1>'
        '<p class="why">The same scenario files, run in the simulated rack and on real servers: how long every '
        "failover took, predicted beside measured.</p>"
        f'<p class="word {good}">{escape(summary(found))}.</p></div></header><dl class="cards">{cards}</dl>'
    )


_COLUMNS = (
    "<th>scenario</th><th>service</th>"
    '<th class="n">moves</th><th class="n">predicted p50</th><th class="n">p99</th><th class="n">measured p50</th>'
    '<th class="n">p99</th><th class="n">ratio p50</th><th class="n">p99</th><th class="n">KS D</th>'
    '<th class="n">p</th><th></th>'
)


def _totals(rows: Sequence[Row]) -> str:
    lines = "".join(
        f"<tr><td>{escape(row.scenario)}</td><td>{escape(row.service)}</td>{_figures(row)}</tr>" for row in rows
    )
    return (
        '<section class="wide"><h2>From the cause to serving again</h2>'
        f"<table><thead><tr>{_COLUMNS}</tr></thead><tbody>{lines}</tbody></table></section>"
    )


def _figures(row: Row) -> str:
    ours, theirs = row.predicted, row.measured
    cells = (
        f"{ours.count} / {theirs.count}",
        took(ours.p50_ms),
        took(ours.p99_ms),
        took(theirs.p50_ms),
        took(theirs.p99_ms),
        _judged(row.p50_ratio, row.p50_ok),
        _judged(row.p99_ratio, row.p99_ok),
        f"{row.distance:.2f}",
        f"{row.p_value:.3f}",
    )
    good, word = ("good", "near") if row.ok else ("bad", "off")
    return "".join(f'<td class="n">{cell}</td>' for cell in cells) + f'<td class="{good}">{word}</td>'


def _judged(ratio: float | None, ok: bool) -> str:
    return f'<span class="{"good" if ok else "bad"}">{ratio_text(ratio)}</span>'


def _section(rows: Sequence[Row]) -> str:
    """One service in one scenario: a picture with a panel for each part, and the figures."""
    first = rows[0]
    lines = "".join(f"<tr><td>{row.part}</td><td></td>{_figures(row)}</tr>" for row in rows)
    columns = _COLUMNS.replace("<th>scenario</th><th>service</th>", "<th>part</th><th></th>")
    key = "".join(
        f'<span><i style="background:{colour}"></i>{name}</span>'
        for name, colour in (("predicted", PREDICTED), ("measured", MEASURED))
    )
    return (
        f'<section class="wide"><h2>{escape(first.scenario)}: {escape(first.service)}</h2><p class="key">{key}'
        f'<span class="faint">share of failovers that took at most that long</span></p>'
        f'<div class="picture">{draw(rows)}</div>'
        f"<table><thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table></section>"
    )


def draw(rows: Sequence[Row]) -> str:
    """Draw the empirical distribution functions of each row side by side, as an SVG element."""
    with mpl.rc_context():
        style(f"moxie/{rows[0].scenario}/{rows[0].service}")
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), facecolor="white", layout="constrained")
        for index, row in enumerate(rows):
            axes = figure.add_subplot(1, len(rows), index + 1)
            _panel(axes, row, index == 0)
        return to_svg(figure)


def _panel(axes: Axes, row: Row, first: bool) -> None:
    high_ms = max(1, row.predicted_ms[-1], row.measured_ms[-1]) * 1.06
    for times_ms, colour in ((row.predicted_ms, PREDICTED), (row.measured_ms, MEASURED)):
        shares = [index / len(times_ms) for index in range(len(times_ms) + 1)]
        axes.step([0, *times_ms, high_ms], [*shares, 1.0], where="post", color=colour, linewidth=1.6)
    axes.set_xlim(0, high_ms)
    axes.set_ylim(0, 1.03)
    axes.set_title(f"{row.part} (ms)", fontsize=9.5, color=colours.INK, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set_yticks([0, 0.5, 1.0], ["0", "½", "1"] if first else ["", "", ""])
    axes.tick_params(colors=colours.FAINT, length=3)
    axes.grid(color=colours.LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(colours.LINE)


def _foot(found: Comparison) -> str:
    missing = "".join(f'<p class="bad">{escape(line)}</p>' for line in found.missing)
    notes = "".join(f"<p>{escape(line)}</p>" for line in found.notes)
    return (
        f"<footer>{missing}{notes}<p>Near: the median within {MEDIAN_RATIO_MAX:.0%} of the measured one and the p99 "
        f"within {TAIL_RATIO_MAX:.0%}; a difference of up to {SLACK_MS} ms is none. Quantiles are nearest ranks. D and "
        "p are those of the two-sample test of Kolmogorov and Smirnov.</p></footer>"
    )
