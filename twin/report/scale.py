"""The page of `twin scale`: what racks deliver, what takes a share of it, times, and how costs grow with the rack."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from twin.report import colours
from twin.report.frame import style, to_svg
from twin.report.sheet import cards, figure, section, sheet, table, write_sheet
from twin.scaling.scale import Scaling
from twin.scaling.usl import curve

SIZE_INCHES = (11.0, 3.9)


def write_page(folder: Path, found: Scaling) -> Path:
    """Write the page as ``index.html`` of a folder, one file that loads nothing, and its pictures beside it.

    Raises: InputError if a file cannot be written.
    """
    for name, draw in (("delivered", draw_delivered), ("times", draw_times), ("costs", draw_costs)):
        write_sheet(folder, f"{name}.svg", draw(found))
    return write_sheet(folder, "index.html", page(found))


def page(found: Scaling) -> str:
    """Build the page; the same measurements give the same bytes."""
    usl, last = found.usl, found.rows[-1]
    good = not found.broken
    words = "".join(f"<li>{escape(sentence)}</li>" for sentence in (*found.broken, *found.words))
    facts = [
        ("sigma, contention", _said(usl.sigma)),
        ("kappa, coherency", _said(usl.kappa)),
        (f"delivered by {last.nodes:,} nodes", f"{last.delivered:,.2f} nodes"),
        ("to join one more", f"{last.join_ms / 1000:,.0f} s"),
        ("failover", f"{last.failover_ms / 1000:,.1f} s"),
        ("memory of an agent", f"{last.memory_bytes / 1e6:,.2f} MB"),
    ]
    body = (
        f'<header><div class="verdict {"good" if good else "bad"}">{"linear" if good else "bends"}</div>'
        f"<div><h1>One more node, up to {last.nodes:,}</h1>"
        f'<p class="why">Each size settled, then grown by one node through the real join path, then robbed of the '
        f"holder of a singleton; {last.seeds} seeds each.</p></div></header>{cards(facts)}"
    )
    body += section(
        "What a rack delivers",
        figure(
            draw_delivered(found),
            "Left: node-equivalents left for users, with the fitted law and its 95 % band over linear growth. Right: "
            "what takes its share of the capacity; a line that rises bends the curve.",
        ),
    )
    body += section("In words", f"<ul>{words}</ul>")
    body += section(
        "Times",
        figure(draw_times(found), "Medians over the seeds; bars from the smallest to the largest."),
    )
    body += section(
        "What a node costs, and how that grows",
        figure(
            draw_costs(found),
            "Each cost against that in the smallest rack. Level: a node costs the same in any rack. Along the dashed "
            "line: a node's cost grows with the rack, and that of all nodes as its square.",
        ),
        table(found.growth),
    )
    body += section(
        "ZooKeeper",
        figure(draw_zookeeper(found), "At the stated churn; pings of sessions are counted as requests."),
    )
    body += section("All sizes", table(found.summary))
    return sheet("Scaling", body)


def draw_delivered(found: Scaling) -> str:
    """Draw node-equivalents over nodes with the fitted law, and the shares that are taken off, as an SVG element."""
    with _figure("delivered") as drawn:
        left, right = drawn.subplots(1, 2)
        nodes = [row.nodes for row in found.rows]
        usl, fine = found.usl, np.geomspace(nodes[0], nodes[-1], 120)
        _log(left, nodes, "nodes", "delivered, node-equivalents")
        left.set_yscale("log")
        left.set_yticks(nodes, [f"{size:,}" for size in nodes], fontsize=8)
        left.yaxis.set_minor_formatter(NullFormatter())
        left.plot(fine, usl.lambda_ * fine, "--", color=colours.FAINT, linewidth=1, label="linear")
        left.plot(fine, usl.throughput(fine), color=colours.service(0), label="fitted law")
        ends = [(low, high) for low, high in zip(usl.sigma_ci, usl.kappa_ci, strict=True)]
        low, high = (curve(fine, usl.lambda_, sigma, kappa) for sigma, kappa in reversed(ends))
        left.fill_between(fine, low, high, color=colours.service(0), alpha=0.2, linewidth=0, label="95 %")
        left.plot(nodes, [row.delivered for row in found.rows], "o", color=colours.INK, markersize=4, label="measured")
        left.text(
            0.97, 0.05, f"sigma {_said(usl.sigma)}, kappa {_said(usl.kappa)}", transform=left.transAxes, ha="right"
        )
        left.legend(frameon=False, fontsize=8)
        _log(right, nodes, "nodes", "share of the capacity taken off")
        right.set_yscale("log")
        for index, share in enumerate(found.rows[0].shares):
            ratios = [max(row.shares[index].ratio, 1e-12) for row in found.rows]
            right.plot(nodes, ratios, marker="o", markersize=3, color=colours.service(index), label=share.name)
        _beside(right)
        return to_svg(drawn)


def draw_times(found: Scaling) -> str:
    """Draw the times of joins, failovers and cold starts over nodes, as an SVG element."""
    with _figure("times") as drawn:
        rows = found.rows
        nodes = [row.nodes for row in rows]
        cold = [(row.nodes, row.cold_start) for row in rows if row.cold_start is not None]
        panels: Sequence[Axes] = drawn.subplots(1, 3 if cold else 2)
        joins, failovers = panels[:2]
        for axes in panels:
            _log(axes, nodes, "nodes", "")
        _bars(joins, nodes, [(r.join_ms, r.join_ms_min, r.join_ms_max) for r in rows], "carried in until member", 0)
        joins.plot(nodes, [r.order_ms / 1000 for r in rows], ":", color=colours.service(0), label="until ordered on")
        joins.set_ylabel("one more node joins, seconds")
        moved = [(r.failover_ms, r.failover_ms_min, r.failover_ms_max) for r in rows]
        _bars(failovers, nodes, moved, "loss proved by the BMC", 1)
        silent = [r.silent_failover_ms / 1000 for r in rows]
        failovers.plot(nodes, silent, ":", marker="s", markersize=3, color=colours.service(1), label="silent loss")
        failovers.set_ylabel("failover of the database, seconds")
        for axes in panels[2:]:
            minutes = [one.joined_ms / 60_000 for _, one in cold]
            axes.plot(
                [size for size, _ in cold], minutes, marker="o", color=colours.service(2), label="all dark at once"
            )
            axes.set_ylabel("cold start until all have joined, minutes")
        for axes in panels:
            axes.set_ylim(bottom=0)
            axes.legend(frameon=False, fontsize=8, loc="lower left")
        return to_svg(drawn)


def draw_costs(found: Scaling) -> str:
    """Draw what a node costs over nodes, relative to the smallest rack, as an SVG element."""
    with _figure("costs") as drawn:
        axes = drawn.subplots(1, 1)
        rows = found.rows
        nodes = np.array([row.nodes for row in rows], float)
        lines: list[tuple[str, list[float]]] = [
            ("memory of one agent", [row.memory_bytes for row in rows]),
            ("one step of an agent", [row.step_us for row in rows]),
            ("watch events per change and node", [row.watch_events_per_change / row.nodes for row in rows]),
            ("requests per join and node", [row.requests_per_join / row.nodes for row in rows]),
            ("bytes per join and node", [row.bytes_per_join / row.nodes for row in rows]),
            ("snapshot per node", [row.zookeeper_snapshot_bytes / row.nodes for row in rows]),
        ]
        if all(row.cold_start is not None for row in rows):
            lines.append(
                ("cold start, requests per node", [r.cold_start.requests / r.nodes for r in rows if r.cold_start])
            )
        _log(axes, [row.nodes for row in rows], "nodes", "cost of a node, smallest rack = 1")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.plot(nodes, nodes / nodes[0], "--", color=colours.FAINT, linewidth=1, label="in proportion to the rack")
        for index, (name, costs) in enumerate(lines):
            if costs[0] > 0 and all(cost > 0 for cost in costs):
                shown = np.array(costs) / costs[0]
                axes.plot(nodes, shown, marker="o", markersize=3, color=_colour(index), label=name)
        _beside(axes)
        return to_svg(drawn)


def draw_zookeeper(found: Scaling) -> str:
    """Draw requests, watches and the size of a snapshot over nodes, as an SVG element."""
    with _figure("zookeeper") as drawn:
        panels: Sequence[Axes] = drawn.subplots(1, 3)
        rows = found.rows
        nodes = [row.nodes for row in rows]
        shown = (
            ("requests a second", [row.zookeeper_requests_per_s for row in rows]),
            ("watches", [row.zookeeper_watches for row in rows]),
            ("snapshot, kB", [row.zookeeper_snapshot_bytes / 1000 for row in rows]),
        )
        for index, (axes, (name, values)) in enumerate(zip(panels, shown, strict=True)):
            _log(axes, nodes, "nodes", name)
            axes.set_yscale("log")
            axes.plot(nodes, values, marker="o", markersize=3, color=colours.service(index))
        return to_svg(drawn)


@contextmanager
def _figure(name: str) -> Iterator[Figure]:
    with mpl.rc_context():
        style(f"moxie/scale/{name}")
        yield Figure(figsize=SIZE_INCHES, facecolor="white", layout="constrained")


def _said(value: float) -> str:
    """A coefficient; what is left of a bound at 0 by rounding is 0."""
    return "0" if value < 1e-12 else f"{value:.2g}"


def _colour(index: int) -> str:
    return [*colours.SERVICES, colours.INK][index % (len(colours.SERVICES) + 1)]


def _log(axes: Axes, nodes: Sequence[int], across: str, up: str) -> None:
    """A logarithmic axis of nodes with a tick at each size."""
    axes.set_xscale("log")
    axes.set_xticks(list(nodes), [f"{size:,}" for size in nodes], fontsize=8)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(color=colours.LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _beside(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _bars(axes: Axes, nodes: Sequence[int], times: Sequence[tuple[float, int, int]], label: str, index: int) -> None:
    """Medians with bars from the smallest to the largest; times in ms, drawn in seconds."""
    middle = [one[0] / 1000 for one in times]
    spread = [[(one[0] - one[1]) / 1000 for one in times], [(one[2] - one[0]) / 1000 for one in times]]
    colour = colours.service(index)
    axes.errorbar(nodes, middle, yerr=spread, marker="o", markersize=4, capsize=3, color=colour, label=label)
