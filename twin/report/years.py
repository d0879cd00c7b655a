"""The page of a site's years: what failed each day, what it did to the placement groups, when services stood still."""

from html import escape
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import SymmetricalLogLocator

from twin.failures.distributions import Floats
from twin.report import colours
from twin.report.frame import style, to_svg
from twin.report.sheet import cards, figure, section, sheet, table, write_sheet
from twin.table import Column, Table
from twin.years.site_years import SiteYears

_DAY_MS = 86_400_000.0
_WEEK_BINS = 120
"""More days than that are drawn as averages of seven."""


def write_years(folder: Path, of: SiteYears) -> Path:
    """Write the page as one file that loads nothing from anywhere. Raises: InputError if it cannot be written."""
    return write_sheet(folder, "index.html", page(of))


def page(of: SiteYears) -> str:
    """Build the page; the same years give the same bytes."""
    held = of.storage
    worst = 1.0 - max((one.away_ms for one in of.singletons), default=0) / of.timeline.duration_ms
    facts = [
        ("nodes", f"{of.site.nodes:,}"),
        ("disks", f"{of.site.disks:,}"),
        ("node failures", f"{len(of.timeline.node_down.component):,}"),
        ("disk failures", f"{len(of.timeline.by_kind['disk'].component):,}"),
        ("in bursts", f"{of.bursts.share_two_or_more:.0%}"),
        ("singletons available", f"{worst:.5%}"),
    ]
    if held is not None:
        facts.append(("groups lost", f"{len(held.lost_groups):,}"))
    caption = (
        "Each failure of a node or disk on its day. A placement group is degraded while one of its copies is away, and "
        "stands still while fewer than min_size are up. Days on which many nodes fail at once are bursts: a rack, a "
        "power unit, a bad rollout."
    )
    body = (
        f"<header><div><h1>{escape(of.title)}</h1>"
        f'<p class="why">Seed {of.seed}; every outage comes from a published fit of one component, see the table.</p>'
        f"</div></header>{cards(facts)}"
        + section("Day by day", figure(draw_years(of), caption), wide=True)
        + section("Bursts", figure(draw_bursts(of), _BURSTS), wide=True)
        + section("Components", table(_shown(of.components)), wide=True)
        + (section("Placement groups", table(of.states), wide=True) if held is not None else "")
        + section("Singletons", table(_shown(of.services)))
    )
    return sheet(of.title, body)


def _shown(rows: Table) -> Table:
    """The table for a page: time away in parts per million, which can be told apart where availabilities cannot."""
    columns: dict[str, Column] = dict(rows)
    columns["away_ppm"] = np.round((1.0 - columns.pop("availability").astype(np.float64)) * 1e6, 3)
    if "source" in columns:
        columns["source"] = columns.pop("source")
    return Table(columns, {**rows.units, "away_ppm": "of 1,000,000"})


_BURSTS = (
    "Node failures by how many nodes failed within 120 s of each other. If nodes failed independently, nearly all "
    "would stand on the left."
)


def draw_years(of: SiteYears) -> str:
    """Draw failures, placement groups and stood-still services over time, as SVG."""
    style("years")
    daily = {name: column.astype(np.float64) for name, column in of.daily.items()}
    rows = 5 if of.storage is not None else 3
    drawn = Figure(figsize=(11.0, 1.6 * rows + 0.4), layout="constrained")
    panels = drawn.subplots(rows, 1, sharex=True)
    edges = np.append(daily["day"], of.timeline.duration_ms / _DAY_MS)
    _steps(panels[0], edges, daily["node_failures"], "node failures\na day", colours.service(0))
    _steps(panels[1], edges, daily["disk_outages"], "disk failures\na day", colours.service(1))
    if of.storage is not None:
        for panel, name, words, colour in (
            (panels[2], "groups_degraded", "degraded groups,\n% (day's mean)", colours.service(2)),
            (panels[3], "groups_inactive", "groups under\nmin_size, %", colours.FAULT),
        ):
            share = daily[name] / of.storage.groups * 100
            _steps(panel, edges, share, words, colour)
            least = float(share[share > 0].min(initial=1.0))
            panel.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(least)))
            panel.set_ylim(0, max(1e-6, 2.0 * float(share.max(initial=0.0))))
            panel.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=10.0 ** np.floor(np.log10(least))))
            panel.yaxis.get_major_locator().set_params(numticks=5)
    _services(panels[-1], of)
    for panel in panels:
        panel.set_xlim(0, edges[-1])
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    panels[-1].set_xlabel("day")
    return to_svg(drawn)


def _steps(axes: Axes, edges: Floats, values: Floats, label: str, colour: str) -> None:
    axes.stairs(values, edges, fill=len(edges) <= _WEEK_BINS * 8, color=colour, linewidth=0.8)
    axes.set_ylabel(label, fontsize=8)
    axes.set_ylim(bottom=0)


def _services(axes: Axes, of: SiteYears) -> None:
    """A mark for each time a singleton was not served: its day, and for how long."""
    for number, one in enumerate(of.singletons):
        seconds = (one.end_ms - one.start_ms) / 1_000.0
        axes.plot(
            one.start_ms / _DAY_MS,
            seconds,
            marker="o",
            linestyle="none",
            markersize=4,
            label=one.service,
            color=colours.service(3 + number),
        )
    axes.set_yscale("log")
    axes.set_ylim(0.5, max(20.0, 2.0 * max((one.longest_ms / 1_000 for one in of.singletons), default=1.0)))
    axes.set_ylabel("singleton away,\nseconds", fontsize=8)
    if of.singletons:
        axes.legend(frameon=False, fontsize=8, loc="upper right")


def draw_bursts(of: SiteYears) -> str:
    """Draw how many node failures fell into bursts of which size, as SVG."""
    style("bursts")
    down = of.timeline.node_down
    drawn = Figure(figsize=(11.0, 2.6), layout="constrained")
    axes = drawn.subplots()
    limits = [1, 2, 3, 5, 10, 20, 50, 100, 1_000, 1_000_000]
    names = ["1", "2", "3-4", "5-9", "10-19", "20-49", "50-99", "100-999", "1,000 or more"]
    counts = np.zeros(len(names))
    if len(down.component):
        order = np.argsort(down.start_ms, kind="stable")
        number = np.concatenate([[0], np.cumsum(np.diff(down.start_ms[order]) > 120_000)])
        pairs = np.unique(np.stack([number, down.component[order]]), axis=1)[0]
        counts, _ = np.histogram(np.bincount(pairs), bins=limits, weights=np.bincount(number))
    axes.bar(names, counts / max(1.0, counts.sum()) * 100, color=colours.service(0))
    axes.set_xlabel("nodes that failed together")
    axes.set_ylabel("node failures, %")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return to_svg(drawn)
