"""The picture of a recovery: bytes still to move, PGs at risk, and what is left to clients, over time."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from twin.capacity.plan_text import size
from twin.capacity.recovery import Recovery
from twin.report import colours
from twin.report.frame import style, to_svg
from twin.report.plan_pictures import WIDTH_INCHES, quiet
from twin.report.time_axis import in_unit
from twin.timeline import took

LINES = (
    ("pgs_degraded", "with too few copies", colours.MEMBERSHIP["suspect"]),
    ("pgs_at_min_size", "at min_size: the next loss stops their IO", colours.MEMBERSHIP["lost"]),
    ("pgs_under_min_size", "under min_size: IO stands still", colours.FAULT),
)
SHARES = (
    ("disk_left_worst", "busiest disk", colours.SERVICES[0]),
    ("network_left_worst", "busiest host's network", colours.SERVICES[3]),
)
BEFORE = 0.06
"""How much of the time before data moves is shown, as part of the recovery."""


def draw_recovery(recovery: Recovery, name: str = "recovery") -> str:
    """Draw a recovery from when data begins to move. ``name``: another for each picture of a page."""
    with mpl.rc_context():
        style(f"moxie/plan/recovery/{name}")
        figure = Figure(figsize=(WIDTH_INCHES, 5.2), facecolor="white", layout="constrained")
        left, groups, clients = figure.subplots(3, 1, sharex=True, height_ratios=(1.1, 1.1, 0.9))
        scale, unit = in_unit(recovery.recovery_ms)
        at = (recovery.timeline["t_ms"].astype(np.float64) - recovery.wait_ms) / scale
        span = max(recovery.recovery_ms / scale, 1e-9)
        bytes_left = recovery.timeline["bytes_left"].astype(np.float64)
        left.fill_between(at, bytes_left, color=colours.SERVICES[0], alpha=0.3, linewidth=0)
        left.plot(at, bytes_left, color=colours.SERVICES[0], linewidth=1.6)
        left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
        _titled(left, "bytes still to move")
        for column, label, colour in LINES:
            groups.step(
                at, recovery.timeline[column].astype(int), where="post", color=colour, label=label, linewidth=1.6
            )
        groups.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        _titled(groups, "placement groups")
        for column, label, colour in SHARES:
            clients.step(
                at, 100 * recovery.timeline[column].astype(np.float64), where="post", color=colour, label=label
            )
        clients.set_ylim(0, 104)
        clients.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
        _titled(clients, "left to clients")
        clients.set_xlabel(f"{unit} since data began to move{_waited(recovery)}", color=colours.FAINT)
        clients.set_xlim(-BEFORE * span if recovery.wait_ms else 0.0, span * 1.01)
        for axes in (left, groups, clients):
            axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
            quiet(axes, "y")
        for axes in (groups, clients):
            axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower right", bbox_to_anchor=(1.0, 1.0))
        return to_svg(figure)


def _waited(recovery: Recovery) -> str:
    return f" (before that, {took(recovery.wait_ms)} for the lost OSDs to come back)" if recovery.wait_ms else ""


def _titled(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9.5, loc="left", color=colours.INK)
