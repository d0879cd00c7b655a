"""What the pictures share: their style, and the axes and legend of the timeline."""

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from twin.report import colours
from twin.story import BANDS, Story

_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms"))


def style(salt: str) -> None:
    """Set what pictures share; text stays text in SVG, ids there come from ``salt``, another one for each in a page."""
    mpl.rc("font", family=["DejaVu Sans", "sans-serif"], size=9.0)
    mpl.rc("svg", fonttype="none", hashsalt=salt)
    mpl.rc("axes", linewidth=0.8)


def to_svg(figure: Figure) -> str:
    """The figure as an SVG element; the same figure gives the same bytes."""
    FigureCanvasSVG(figure)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def frame(axes: Axes, story: Story, rows: Sequence[str], row_inches: float) -> None:
    """Set limits, ticks and names of the rows (top to bottom)."""
    axes.set_xlim(0, max(1, story.end_ms))
    axes.set_ylim(-0.5, max(1, len(rows)) - 0.5)
    points = min(9.5, row_inches * 72 * 0.62)
    axes.set_yticks(range(len(rows)), list(reversed(rows)), fontsize=points, color=colours.INK)
    unit_ms, unit = next(((ms, name) for ms, name in _UNITS if story.end_ms >= 8 * ms), _UNITS[-1])
    axes.xaxis.set_major_locator(_Steps(unit_ms))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / unit_ms:g} {unit}"))
    axes.tick_params(axis="x", colors=colours.FAINT, length=3)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=colours.LINE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colours.LINE)


class _Steps(MaxNLocator):
    """Ticks at round numbers of the unit, not of milliseconds."""

    def __init__(self, unit_ms: int) -> None:
        super().__init__(nbins=12, steps=[1, 1.5, 2, 3, 5, 10])
        self._unit_ms = unit_ms

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """Positions of the ticks between two times in milliseconds."""
        return [tick * self._unit_ms for tick in super().tick_values(vmin / self._unit_ms, vmax / self._unit_ms)]


def legend(figure: Figure, story: Story, services: Sequence[str], height: float) -> None:
    """What the colours mean, only those that occur."""
    seen = {band.kind: True for band in story.bands}
    entries = [
        Patch(facecolor=colours.band(kind), edgecolor="#c3cad4", label=words)
        for kind, words in BANDS.items()
        if kind in seen
    ]
    for number, service in enumerate(services):
        entries.append(Patch(facecolor=colours.service(number), label=f"{service} serves here"))
    if any(not hold.serving for hold in story.holds):
        claimed = Patch(facecolor="white", edgecolor=colours.FAINT, hatch="//////", label="claimed: fencing, starting")
        entries.append(claimed)
    if story.marks:
        entries.append(Patch(facecolor=colours.FAULT, label="fault"))
    figure.legend(
        handles=entries,
        loc="lower center",
        ncols=min(5, len(entries)) or 1,
        frameon=False,
        fontsize=8,
        bbox_to_anchor=(0.5, 0.04 / height),
        labelcolor=colours.INK,
    )
