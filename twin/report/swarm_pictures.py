"""The pictures of a swarm: how failover times are spread, by service and cause, and which campaigns failed."""

from collections.abc import Sequence
from math import log10

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from trial.gates import ANY, Gate
from twin.report import colours
from twin.report.frame import style, to_svg
from twin.swarm.spread import Spread, bin_edge
from twin.swarm.summary import Share
from twin.timeline import took

WIDTH_INCHES = 12.0
ROW_INCHES = 0.34
CAUSES_SHOWN = 8
ROWS_MAX = 60
LONG = 15
"""A picture of more rows than this has its scale above it as well."""

_TICKS = (1, 10, 100, 1_000, 10_000, 60_000, 600_000)
_FINE_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 60_000, 120_000, 600_000)


def draw_spreads(spreads: Sequence[Spread], gates: Sequence[tuple[Gate, bool]]) -> str:
    """Draw a ridge for each spread, over time in the logarithm, with its quantiles and its gates, as an SVG element.

    ``gates``: each with whether it is met.
    """
    rows = list(spreads)[:ROWS_MAX]
    height = 0.75 + ROW_INCHES * len(rows)
    with mpl.rc_context():
        style("moxie/swarm/spreads")
        figure = Figure(figsize=(WIDTH_INCHES, height), facecolor="white", layout="constrained")
        axes = figure.add_subplot(1, 1, 1)
        services = [name for name in dict.fromkeys(spread.service for spread in rows) if name != ANY]
        for index, spread in enumerate(rows):
            colour = colours.INK if spread.service == ANY else colours.service(services.index(spread.service))
            base = float(len(rows) - 1 - index)
            _ridge(axes, spread, base, colour)
            mine = [(gate, ok) for gate, ok in gates if (gate.service, gate.cause) == (spread.service, spread.cause)]
            for gate, ok in mine:
                _gate(axes, gate, ok, base)
        _frame(axes, rows, [gate.most_ms for gate, _ in gates])
        return to_svg(figure)


def _ridge(axes: Axes, spread: Spread, base: float, colour: str) -> None:
    """The bins as bars whose height is their share of the fullest, a dot at the median, ticks up to the p99."""
    fullest = max(count for _, count in spread.bins)
    whole = spread.cause == ANY
    axes.bar(
        [bin_edge(index) for index, _ in spread.bins],
        [0.8 * count / fullest for _, count in spread.bins],
        width=[bin_edge(index + 1) - bin_edge(index) for index, _ in spread.bins],
        bottom=base,
        align="edge",
        color=colour,
        alpha=0.55 if whole else 0.3,
        linewidth=0,
        zorder=2,
    )
    axes.plot([max(1, spread.p50), max(1, spread.p99)], [base, base], color=colour, linewidth=1.4, zorder=3)
    axes.plot([max(1, spread.p50)], [base], marker="o", markersize=5 if whole else 4, color=colour, zorder=4)
    for ms, size in ((spread.p90, 5), (spread.p99, 8)):
        axes.plot([max(1, ms)], [base], marker="|", markersize=size, markeredgewidth=1.4, color=colour, zorder=4)


def _gate(axes: Axes, gate: Gate, ok: bool, base: float) -> None:
    """A wall at the bound, with the quantile that has to stay in front of it."""
    colour = colours.HEAL if ok else colours.FAULT
    axes.plot([gate.most_ms, gate.most_ms], [base - 0.12, base + 0.86], color=colour, linewidth=2.0, zorder=5)
    words = f" {gate.quantile} ≤ {took(gate.most_ms)}"
    behind = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8}
    axes.text(gate.most_ms, base + 0.62, words, color=colour, fontsize=8, va="center", bbox=behind, zorder=5)


def _frame(axes: Axes, rows: Sequence[Spread], bounds_ms: Sequence[int]) -> None:
    low = min([bin_edge(spread.bins[0][0]) for spread in rows] + [float(ms) for ms in bounds_ms], default=1.0)
    high = max([float(spread.max) for spread in rows] + [float(ms) for ms in bounds_ms], default=1.0)
    low, high = max(1.0, low), max(10.0, high)
    axes.set_xscale("log")
    axes.set_xlim(low * 0.8, high * 1.5)
    axes.set_ylim(-0.35, len(rows) - 0.1)
    axes.set_yticks([float(len(rows) - 1 - i) for i in range(len(rows))], [_name(spread) for spread in rows])
    for label, spread in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(colours.INK if spread.cause == ANY else colours.FAINT)
        label.set_fontweight("bold" if spread.cause == ANY else "normal")
        label.set_verticalalignment("bottom")
    ticks = [ms for ms in _TICKS if low * 0.8 <= ms <= high * 1.5]
    if len(ticks) < 3:  # all within a decade or so
        ticks = [ms for ms in _FINE_TICKS if low * 0.8 <= ms <= high * 1.5]
    axes.set_xticks(ticks, [_tick(ms) for ms in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    axes.tick_params(axis="x", labeltop=len(rows) > LONG)
    _quiet(axes, "x")


def _tick(ms: int) -> str:
    if ms < 1_000:
        return f"{ms} ms"
    return f"{ms // 1_000} s" if ms < 60_000 else f"{ms // 60_000} min"


def _name(spread: Spread) -> str:
    name = "all services" if spread.service == ANY else spread.service
    return f"{name if spread.cause == ANY else spread.cause}  {spread.count:,d}"


def _quiet(axes: Axes, grid: str) -> None:
    """Faint lines and no frame, as in the other pictures."""
    axes.tick_params(axis="x", colors=colours.FAINT, length=3)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x" if grid == "x" else "y", color=colours.LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colours.LINE)


def draw_faults(by_faults: Sequence[Share]) -> str:
    """Draw how many campaigns had how many faults, and how many of them failed, as an SVG element."""
    with mpl.rc_context():
        style("moxie/swarm/faults")
        figure = Figure(figsize=(WIDTH_INCHES, 2.4), facecolor="white", layout="constrained")
        axes = figure.add_subplot(1, 1, 1)
        numbers = [int(share.name) for share in by_faults]
        passed = [share.campaigns - share.failed for share in by_faults]
        axes.bar(numbers, passed, color=colours.MEMBERSHIP["joined"], width=0.8, label="passed")
        axes.bar(
            numbers,
            [share.failed for share in by_faults],
            bottom=passed,
            color=colours.FAULT,
            width=0.8,
            label="failed",
        )
        _shares_above(axes, by_faults)
        axes.set_xlabel("faults in a campaign", color=colours.FAINT)
        axes.set_ylabel("campaigns", color=colours.FAINT)
        axes.tick_params(axis="y", colors=colours.FAINT)
        if numbers:
            step = 10 ** max(0, int(log10(max(1, max(numbers) / 12))))
            axes.set_xticks(range(min(numbers), max(numbers) + 1, step))
        _quiet(axes, "y")
        return to_svg(figure)


def _shares_above(axes: Axes, by_faults: Sequence[Share]) -> None:
    """The share that failed, above the bars where any did."""
    for share in by_faults:
        if share.failed:
            words = f"{share.failed / share.campaigns:.0%}"
            axes.annotate(
                words,
                (int(share.name), share.campaigns),
                textcoords="offset points",
                xytext=(0, 3),
                ha="center",
                color=colours.FAULT,
                fontsize=8,
            )
