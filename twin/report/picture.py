"""The timeline picture: a row for each node, its power and membership as bands, holdings as bars, faults as marks."""

import io
from collections.abc import Iterable

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from twin.report import colours
from twin.report.frame import frame, legend
from twin.story import BANDS, Band, Hold, Mark, Story

WIDTH_INCHES = 13.0
PARTS = 3_000
"""Bands closer together than this part of the run are drawn as one: a screen has no more columns."""
ROWS_MAX = 120
"""Racks with more nodes show those that something happened to, and the first others."""
FAULTS_NUMBERED_MAX = 40


def draw_svg(story: Story) -> str:
    """Draw the picture as SVG; the same story gives the same bytes."""
    with mpl.rc_context():
        _style()
        figure = _figure(story)
        FigureCanvasSVG(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def draw_png(story: Story, dots_per_inch: int = 110) -> bytes:
    """Draw the picture as PNG."""
    with mpl.rc_context():
        _style()
        figure = _figure(story)
        FigureCanvasAgg(figure)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return out.getvalue()


def _style() -> None:
    """Set what the whole picture shares; text stays text in SVG, ids there come from a fixed salt."""
    mpl.rc("font", family=["DejaVu Sans", "sans-serif"], size=9.0)
    mpl.rc("svg", fonttype="none", hashsalt="moxie")
    mpl.rc("axes", linewidth=0.8)


def rows_of(story: Story) -> tuple[str, ...]:
    """The nodes that get a row: all, or in a large rack those with holdings and faults first."""
    if len(story.nodes) <= ROWS_MAX:
        return story.nodes
    busy = {hold.node: True for hold in story.holds}
    busy.update({node: True for mark in story.marks if len(mark.nodes) < ROWS_MAX for node in mark.nodes})
    picked = [node for node in story.nodes if node in busy] + [node for node in story.nodes if node not in busy]
    chosen = dict.fromkeys(picked[:ROWS_MAX], True)
    return tuple(node for node in story.nodes if node in chosen)


def services_of(story: Story) -> tuple[str, ...]:
    """The singletons of a story, in order of their first holding."""
    return tuple(dict.fromkeys(hold.service for hold in story.holds))


def _figure(story: Story) -> Figure:
    rows = rows_of(story)
    row_inches = 0.62 if len(rows) <= 8 else 0.42 if len(rows) <= 16 else 0.27 if len(rows) <= 48 else 0.16
    height = row_inches * max(1, len(rows)) + 1.4
    figure = Figure(figsize=(WIDTH_INCHES, height), facecolor="white")
    left, right = 0.9 / WIDTH_INCHES, 1 - 0.25 / WIDTH_INCHES
    axes = figure.add_axes((left, 0.95 / height, right - left, 1 - 1.4 / height))
    at = {node: len(rows) - 1 - number for number, node in enumerate(rows)}
    _rows(axes, at)
    _bands(axes, story, at)
    _holds(axes, story, at, row_inches)
    _faults(axes, story, at)
    frame(axes, story, rows, row_inches)
    legend(figure, story, services_of(story), height)
    return figure


def _rows(axes: Axes, at: dict[str, int]) -> None:
    for y in at.values():
        axes.axhline(y - 0.5, color=colours.LINE, linewidth=0.8, zorder=0)


def _bands(axes: Axes, story: Story, at: dict[str, int]) -> None:
    """Power fills the row; membership is the strip at its foot."""
    for kind in BANDS:
        power = kind in colours.POWER
        for node, spans in _spans([b for b in story.bands if b.kind == kind], story.end_ms).items():
            if node in at:
                low, high = (at[node] - 0.42, 0.84) if power else (at[node] - 0.42, 0.17)
                colour = colours.band(kind)
                axes.broken_barh(spans, (low, high), facecolor=colour, linewidth=0, zorder=1 if power else 2)


def _spans(bands: Iterable[Band], end_ms: int) -> dict[str, list[tuple[float, float]]]:
    """Begin and length of the bands of each node; neighbours closer than a column are joined."""
    column = max(1, end_ms // PARTS)
    joined: dict[str, list[list[int]]] = {}
    for band in bands:
        spans = joined.setdefault(band.node, [])
        if spans and band.from_ms - spans[-1][1] < column:
            spans[-1][1] = max(spans[-1][1], band.to_ms)
        else:
            spans.append([band.from_ms, max(band.to_ms, band.from_ms + column)])
    return {node: [(float(a), float(b - a)) for a, b in spans] for node, spans in joined.items()}


def _holds(axes: Axes, story: Story, at: dict[str, int], row_inches: float) -> None:
    """Each singleton of a node has its lane in the row: hatched while claimed, full while serving."""
    services = services_of(story)
    for node, y in at.items():
        held = [hold for hold in story.holds if hold.node == node]
        lanes = [service for service in services if any(hold.service == service for hold in held)]
        height = 0.58 / max(2 if row_inches > 0.4 else 1, len(lanes))
        for hold in held:
            lane = lanes.index(hold.service)
            low = y + 0.38 - (lane + 1) * height
            colour = colours.service(services.index(hold.service))
            _hold(axes, story, hold, (low, height * 0.86), colour, height * row_inches)


def _hold(axes: Axes, story: Story, hold: Hold, lane: tuple[float, float], colour: str, inches: float) -> None:
    length = max(hold.to_ms - hold.from_ms, story.end_ms // PARTS)
    if hold.serving:
        axes.broken_barh([(hold.from_ms, length)], lane, facecolor=colour, linewidth=0, zorder=4)
    else:
        axes.broken_barh(
            [(hold.from_ms, length)],
            lane,
            facecolor="white",
            edgecolor=colour,
            hatch="//////",
            linewidth=0.6,
            zorder=3,
        )
    label = f"{hold.service} e{hold.epoch}"
    points = min(8.5, inches * 72 * 0.72)
    room = length / story.end_ms * (WIDTH_INCHES - 1.2) * 72
    if hold.serving and points >= 4.5 and room > len(label) * points * 0.68:
        middle = lane[0] + lane[1] / 2
        axes.text(
            hold.from_ms + story.end_ms * 0.004,
            middle,
            label,
            color="white",
            fontsize=points,
            va="center_baseline",
            clip_on=True,
            zorder=5,
        )


def _faults(axes: Axes, story: Story, at: dict[str, int]) -> None:
    """A number above the rows, a line through the rows it hit, and a rule as long as it lasted."""
    top = len(at) - 0.5
    if 0 < story.heal_ms < story.end_ms:
        axes.axvline(story.heal_ms, color=colours.HEAL, linewidth=1.1, linestyle=(0, (4, 3)), zorder=6)
        axes.annotate(
            "all healed",
            (story.heal_ms, top),
            xytext=(0, 10),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8.5,
            color=colours.HEAL,
            annotation_clip=False,
        )
    numbered = len(story.marks) <= FAULTS_NUMBERED_MAX
    for number, mark in enumerate(story.marks, start=1):
        _fault(axes, story, mark, at, top)
        if numbered:
            _number(axes, mark, number, top, story)


def _fault(axes: Axes, story: Story, mark: Mark, at: dict[str, int], top: float) -> None:
    hit = [at[node] for node in mark.nodes if node in at] or list(at.values())
    length = max(mark.to_ms - mark.from_ms, story.end_ms // PARTS)
    for y in hit:
        axes.plot([mark.from_ms] * 2, [y - 0.46, y + 0.46], color=colours.FAULT, linewidth=1.6, zorder=6)
        axes.broken_barh([(mark.from_ms, length)], (y + 0.41, 0.06), facecolor=colours.FAULT, linewidth=0, zorder=6)
    axes.plot([mark.from_ms] * 2, [max(hit) + 0.46, top], color=colours.FAULT, linewidth=0.5, zorder=5)


def _number(axes: Axes, mark: Mark, number: int, top: float, story: Story) -> None:
    """Number the fault above the rows; faults at nearly the same time are put side by side."""
    before = [m for m in story.marks[: number - 1] if abs(m.from_ms - mark.from_ms) < story.end_ms * 0.016]
    axes.annotate(
        str(number),
        (mark.from_ms, top),
        xytext=(15 * len(before), 10),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=8,
        color="white",
        annotation_clip=False,
        bbox={"boxstyle": "circle,pad=0.25", "facecolor": colours.FAULT, "edgecolor": "none"},
        zorder=8,
    )
