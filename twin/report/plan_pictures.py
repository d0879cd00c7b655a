"""The pictures of a plan: where raw bytes go, PGs on each OSD, what growth brings and moves. All as SVG elements."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from twin.capacity.joining import Joining
from twin.capacity.plan_records import Growth, Plan
from twin.capacity.plan_text import size
from twin.capacity.steps import Step
from twin.report import colours
from twin.report.frame import style, to_svg
from twin.report.time_axis import in_unit

WIDTH_INCHES = 12.0
ROW_INCHES = 0.36
OSDS_SHOWN = 64
"""More OSDs than this are drawn as a distribution instead of one bar each."""

RAW, LEFT, TAKEN, RISE = colours.SERVICES[0], "#dbe3ee", "#e3a6a2", "#8fd0ac"
USABLE = colours.HEAL
Shower = Callable[[float], str]
FIRST, THEN, IDEAL = "#b9c4d3", colours.SERVICES[0], colours.INK


def draw_waterfall(steps: Sequence[Step], result: str = "usable") -> str:
    """Draw an amount that falls step by step: what each step takes in red, what it leaves in grey.

    ``steps``: of one unit, in order; ``result``: the name of what is left at the end.
    """
    rows = len(steps) + 2
    with mpl.rc_context():
        style(f"moxie/plan/waterfall/{steps[0].unit}")
        figure = Figure(figsize=(WIDTH_INCHES, 0.6 + ROW_INCHES * rows), facecolor="white", layout="constrained")
        axes = figure.add_subplot(1, 1, 1)
        shown = _shower(steps[0].unit)
        top = max([steps[0].before, *(step.after for step in steps)])
        _bar(axes, rows - 1, 0, steps[0].before, RAW, shown(steps[0].before), top)
        for at, step in enumerate(steps):
            row = rows - 2 - at
            low, high = sorted((step.before, step.after))
            axes.barh(row, low, color=LEFT, height=0.7)
            word = "nothing" if low == high else f"{'−' if step.taken > 0 else '+'}{shown(abs(step.taken))}"
            _bar(axes, row, low, high, TAKEN if step.taken > 0 else RISE, word, top)
        _bar(axes, 0, 0, steps[-1].after, USABLE, shown(steps[-1].after), top)
        names = ["raw" if steps[0].unit.startswith("bytes") else "there is", *(step.name for step in steps), result]
        axes.set_yticks(range(rows), list(reversed(names)), color=colours.INK)
        axes.set_xlim(0, top * 1.13 or 1)
        axes.set_ylim(-0.6, rows - 0.4)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
        if not steps[0].unit.startswith("bytes"):
            axes.set_xlabel(steps[0].unit, color=colours.FAINT)
        quiet(axes, "x")
        return to_svg(figure)


def _bar(axes: Axes, row: float, low: float, high: float, colour: str, words: str, top: float) -> None:
    axes.barh(row, high - low, left=low, color=colour, height=0.7)
    axes.text(high + top * 0.008, row, words, va="center", fontsize=8.5, color=colours.INK)


def _shower(unit: str) -> Shower:
    """How amounts of a unit are written."""
    if unit.startswith("bytes"):
        return size
    return lambda value: f"{value:,.0f}" if abs(value) >= 10 or float(value).is_integer() else f"{value:,.1f}"


def draw_osd_pgs(now: Mapping[int, int], then: Mapping[int, int], then_name: str = "after growth") -> str:
    """Draw how many PGs each OSD has, now and after a change; of many OSDs, how many have how many."""
    with mpl.rc_context():
        style("moxie/plan/osd-pgs")
        figure = Figure(figsize=(WIDTH_INCHES, 3.0), facecolor="white", layout="constrained")
        axes = figure.add_subplot(1, 1, 1)
        osds = sorted({*now, *then})
        if len(osds) <= OSDS_SHOWN:
            _pgs_each(axes, osds, now, then, then_name)
        else:
            _pgs_spread(axes, now, then, then_name)
        axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        quiet(axes, "y")
        return to_svg(figure)


def _pgs_each(axes: Axes, osds: Sequence[int], now: Mapping[int, int], then: Mapping[int, int], name: str) -> None:
    places = np.arange(len(osds))
    one = then == now or not then
    axes.bar(places - (0 if one else 0.2), [now.get(osd, 0) for osd in osds], 0.4, color=FIRST, label="now")
    if not one:
        axes.bar(places + 0.2, [then.get(osd, 0) for osd in osds], 0.4, color=THEN, label=name)
    if len(osds) <= 24:
        bars = [(-0.2, now)] if one else [(-0.2, now), (0.2, then)]
        for shift, counts in bars:
            for at, osd in enumerate(osds):
                where = at + (0 if one else shift)
                axes.text(where, counts.get(osd, 0), str(counts.get(osd, 0)), ha="center", va="bottom", fontsize=7.5)
    axes.set_xticks(places, [str(osd) for osd in osds], fontsize=8)
    axes.set_xlabel("OSD", color=colours.FAINT)
    axes.set_ylabel("PGs", color=colours.FAINT)


def _pgs_spread(axes: Axes, now: Mapping[int, int], then: Mapping[int, int], name: str) -> None:
    counts = [np.array(sorted(one.values())) for one in (now, then) if one]
    low, top = min(int(count.min()) for count in counts), max(int(count.max()) for count in counts)
    edges = np.arange(low - 0.5, top + 1.5, max(1.0, round((top - low) / 80))).tolist()
    names = (("now", FIRST), (name, THEN))[: len(counts)]
    for (label, colour), count in zip(names, counts, strict=True):
        filled = label == "now"
        axes.hist(count, edges, color=colour, label=label, histtype="stepfilled" if filled else "step", linewidth=1.6)
        axes.axvline(float(count.mean()), color=colour, linestyle="--", linewidth=1)
    axes.set_xlabel("PGs on an OSD (dashed: mean)", color=colours.FAINT)
    axes.set_ylabel("OSDs", color=colours.FAINT)


def draw_growth(steps: Sequence[Growth], joining: Joining | None = None) -> str:
    """Draw what each step of growth moves beside the least that any algorithm must, and how long it takes.

    ``joining``: what a server takes from dark to member, if that was measured; then its time stands first.
    """
    with mpl.rc_context():
        style("moxie/plan/growth")
        figure = Figure(figsize=(WIDTH_INCHES, 3.2), facecolor="white", layout="constrained")
        moved, takes = figure.subplots(1, 2)
        nodes = [step.moment.nodes for step in steps]
        moved.bar(nodes, [step.bytes_moved for step in steps], 0.6, color=THEN, label="moved")
        ideal = [step.bytes_ideal for step in steps]
        moved.hlines(
            ideal, np.array(nodes) - 0.38, np.array(nodes) + 0.38, color=IDEAL, lw=2, label="the least possible"
        )
        moved.yaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
        _headed(moved, "bytes that move to get there")
        _times(takes, steps, nodes, joining)
        for axes in (moved, takes):
            _by_nodes(axes, nodes)
        return to_svg(figure)


def _times(axes: Axes, steps: Sequence[Growth], nodes: Sequence[int], joining: Joining | None) -> None:
    """Bars of the time from dark to clean: joining first, then recovery with its range."""
    join_ms = joining.median_ms if joining is not None else 0
    scale, unit = in_unit(join_ms + max(step.recovery_high_ms for step in steps))
    if joining is not None:
        axes.bar(nodes, join_ms / scale, 0.6, color=FIRST, label="dark to member")
    middle = np.array([step.recovery_ms for step in steps]) / scale
    low = middle - np.array([step.recovery_low_ms for step in steps]) / scale
    high = np.array([step.recovery_high_ms for step in steps]) / scale - middle
    axes.bar(
        nodes,
        middle,
        0.6,
        bottom=join_ms / scale,
        yerr=[low, high],
        capsize=4,
        color=colours.SERVICES[1],
        ecolor=colours.INK,
        label="data moves (line: range)",
    )
    axes.set_ylabel(unit, color=colours.FAINT)
    _headed(axes, "time a step takes")


def _headed(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9.5, loc="left", color=colours.INK)
    axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)


def draw_marginal(plan: Plan) -> str:
    """Draw what one more node is worth at each size: bytes, VMs, and what a terabyte costs, as far as known."""
    steps = plan.growth
    nodes = [step.moment.nodes for step in steps]
    more = [step.marginal.bytes / step.marginal.nodes for step in steps]
    panels: list[tuple[str, list[float], Shower]] = [("usable bytes each node brings", more, size)]
    if all(step.marginal.vms is not None for step in steps):
        vms = [(step.marginal.vms or 0) / step.marginal.nodes for step in steps]
        panels.append(("VMs each node brings", vms, _shower("VMs")))
    costs = [step.marginal.price_per_tb for step in steps]
    if all(cost is not None for cost in costs):
        panels.append((f"{plan.currency} a usable TB", [cost or 0.0 for cost in costs], _shower("price")))
    with mpl.rc_context():
        style("moxie/plan/marginal")
        figure = Figure(figsize=(WIDTH_INCHES, 2.9), facecolor="white", layout="constrained")
        found = figure.subplots(1, len(panels), squeeze=False)[0]
        for at, (axes, (title, values, shown)) in enumerate(zip(found, panels, strict=True)):
            axes.bar(nodes, values, 0.6, color=colours.service(at))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _, shown=shown: shown(value)))
            axes.set_title(title, fontsize=9.5, loc="left", color=colours.INK)
            _by_nodes(axes, nodes)
        return to_svg(figure)


def _by_nodes(axes: Axes, nodes: Sequence[int]) -> None:
    axes.set_xlim(min(nodes) - 0.8, max(nodes) + 0.8)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.set_xlabel("nodes then", color=colours.FAINT)
    quiet(axes, "y")


def quiet(axes: Axes, grid: str) -> None:
    """Give axes faint lines along ``grid`` (x or y) and no frame, as in the other pictures."""
    axes.tick_params(colors=colours.FAINT, length=3)
    axes.tick_params(axis="y" if grid == "x" else "x", colors=colours.INK, length=0)
    axes.grid(axis="x" if grid == "x" else "y", color=colours.LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colours.LINE)
