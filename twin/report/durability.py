"""The page of ``twin durability``: losses at once, a year with and without correlation, and survival over time."""

import math
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from twin.durability.assess import VARIANTS, Durability, PoolLoss
from twin.durability.durations import mean_hours
from twin.durability.layout import UNITS
from twin.durability.words import hours_text, spelled
from twin.report import colours
from twin.report.frame import style, to_svg
from twin.report.sheet import cards, figure, section, sheet, table, write_sheet
from twin.table import Table

_COLOURS = {
    "independent": colours.service(3),
    "components": colours.service(0),
    "bursts": colours.service(1),
}
_PLURALS = {"disk": "disks", "node": "nodes", "pdu": "PDUs", "rack": "racks"}


def write_page(folder: Path, found: Durability) -> Path:
    """Write the page as ``index.html`` into a folder. Raises: InputError if it cannot be written."""
    return write_sheet(folder, "index.html", page(found))


def page(found: Durability) -> str:
    """Build the page; the same answer gives the same bytes."""
    worst = max(found.pools, key=lambda pool: pool.outcomes[-1].loss.probability.high)
    last = worst.outcomes[-1]
    body = (
        f"<header><div><h1>Durability of {escape(found.name)}</h1>"
        f'<p class="why">{escape(found.source)}, {spelled(found.years)}; bursts: {escape(found.bursts)}. '
        "How each figure is found: docs/durability.md.</p></div></header>"
    )
    body += cards(
        [
            ("data loss, worst pool", last.loss.probability.text),
            ("under independence", worst.outcomes[0].loss.probability.text),
            ("copies made again after", hours_text(mean_hours(worst.recovery))),
            ("any PG below min_size", last.away.any_group.text),
        ]
    )
    for index, pool in enumerate(found.pools):
        body += section(
            f"Pool {pool.layout.name}",
            figure(loss_picture(pool, f"loss-{index}"), _loss_caption(pool, found.years)),
            figure(
                survival_picture(pool, found.years, f"survival-{index}"), "The chance that data has been lost by then."
            ),
            figure(at_once_picture(pool, f"once-{index}"), _at_once_caption(pool)),
            wide=True,
        )
    body += section("All figures", table(found.table), table(_sources(worst)))
    return sheet(f"Durability of {found.name}", body)


def _loss_caption(pool: PoolLoss, years: float) -> str:
    words = "; ".join(f"{one.variant}: {VARIANTS[one.variant]}" for one in pool.outcomes)
    ratio = pool.ratio()
    said = f" Counting on independence would be wrong by a factor of {ratio:,.3g}." if ratio else ""
    shown = f"Chance to lose data in {spelled(years)}, with 95 % intervals, and share of time below min_size."
    return f"{shown} {words}.{said}"


def _at_once_caption(pool: PoolLoss) -> str:
    return (
        "The chance to lose data if so many disks, nodes, PDUs or racks are lost for good at the same moment, each "
        f"choice equally likely. {pool.copysets:,} distinct copysets; a disk shares PGs with {pool.scatter_width:.0f} "
        "others."
    )


def loss_picture(pool: PoolLoss, salt: str = "loss") -> str:
    """Draw the chance of loss and the unavailability of each variant as SVG, on logarithmic axes."""
    style(salt)
    drawing = Figure(figsize=(11.0, 2.6), layout="constrained")
    left, right = drawing.subplots(1, 2)
    names = [one.variant for one in pool.outcomes]
    losses = [
        (one.loss.probability.value, one.loss.probability.low, one.loss.probability.high) for one in pool.outcomes
    ]
    _bars(left, names, losses, "chance of data loss")
    shares: list[tuple[float | None, float, float]] = []
    for one in pool.outcomes:
        group = one.away.per_group
        exact = one.below_ratio
        shares.append((group.value, group.low, group.high) if exact is None else (exact, exact, exact))
    _bars(right, names, shares, "share of time below min_size, mean PG")
    return to_svg(drawing)


def _bars(axes: Axes, names: list[str], values: list[tuple[float | None, float, float]], label: str) -> None:
    known = [value for value, _, _ in values if value]
    floor = 10.0 ** (math.floor(math.log10(min(known))) - 1) if known else 1e-12
    for row, (name, (value, low, high)) in enumerate(zip(names, values, strict=True)):
        place = len(names) - 1 - row
        if value:
            axes.barh(place, value - floor, left=floor, height=0.6, color=_COLOURS[name])
            axes.errorbar(
                value,
                place,
                xerr=[[value - max(low, floor)], [high - value]],
                color=colours.INK,
                capsize=3,
                linewidth=1,
            )
            axes.annotate(f"{value:.2g}", (max(value, high), place), (6, 0), textcoords="offset points", va="center")
        else:
            axes.annotate("not converged", (floor, place), (4, 0), textcoords="offset points", va="center")
    axes.set_xscale("log")
    axes.set_xlim(floor, min(1.0, max([*known, floor * 10]) * 30) if known else 1.0)
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.set_xlabel(label)
    _framed(axes)


def survival_picture(pool: PoolLoss, years: float, salt: str = "survival") -> str:
    """Draw the chance that data has been lost until each moment as SVG."""
    style(salt)
    drawing = Figure(figsize=(11.0, 2.8), layout="constrained")
    axes = drawing.subplots()
    for one in pool.outcomes:
        curve = one.loss.curve
        at = np.arange(1, len(curve) + 1) * years / len(curve)
        if one.loss.probability.value and curve[-1] > 0:
            seen = curve > 0
            axes.plot(at[seen], curve[seen], color=_COLOURS[one.variant], label=one.variant, linewidth=1.8)
    axes.set_yscale("log")
    axes.set_xlim(0, years)
    axes.set_xlabel("years")
    axes.set_ylabel("chance of data loss so far")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _framed(axes)
    return to_svg(drawing)


def at_once_picture(pool: PoolLoss, salt: str = "at-once") -> str:
    """Draw the chance of loss over the number of disks, nodes, PDUs or racks lost at once as SVG."""
    style(salt)
    drawing = Figure(figsize=(11.0, 3.0), layout="constrained")
    axes = drawing.subplots()
    for index, unit in enumerate(UNITS):
        rows = [row for row in pool.at_once.rows if row["unit"] == unit]
        lost = np.array([row["lost"] for row in rows], dtype=np.float64)
        chance = np.array([row["probability"] for row in rows], dtype=np.float64)
        shown = chance > 0
        if shown.any():
            axes.plot(
                lost[shown], chance[shown], marker="o", markersize=4, color=colours.service(index), label=_PLURALS[unit]
            )
    axes.set_yscale("log")
    axes.set_ylim(top=1.5)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
    axes.set_xlabel("lost for good at once")
    axes.set_ylabel("chance of data loss")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _framed(axes)
    return to_svg(drawing)


def _framed(axes: Axes) -> None:
    axes.minorticks_off()
    axes.grid(color=colours.LINE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _sources(pool: PoolLoss) -> Table:
    """Where the figures of failure behaviour are from."""
    rows = [("recovery", hours_text(mean_hours(pool.recovery)), "", pool.recovery_source)]
    behaviour = pool.behaviours[list(pool.behaviours)[-1]]
    rows += [
        (kind, hours_text(mean_hours(part.life)), f"{part.lost_ratio:g}", part.source)
        for kind, part in behaviour.components
    ]
    rows += [
        (burst.name, hours_text(mean_hours(burst.every)), f"{burst.lost_ratio:g}", burst.source)
        for burst in behaviour.bursts
    ]
    names = ("what", "mean time", "lost_ratio", "source")
    return Table({name: [row[index] for row in rows] for index, name in enumerate(names)}, title="Behaviour")
