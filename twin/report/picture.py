"""The timeline picture: a row for each node, its power and membership as bands, holdings as bars, faults as marks."""

import io
from collections.abc import Iterable, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from twin.report import colours
from twin.report.frame import frame, legend, style, to_svg
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
        style("moxie")
        figure = _figure(story)
        return to_svg(figure)


def draw_png(story: Story, dots_per_inch: int = 110) -> bytes:
    """Draw the picture as PNG."""
    with mpl.rc_context():
        style("moxie")
        figure = _figure(story)
        FigureCanvasAgg(figure)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return out.getvalue()


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
    """Begin and length of the bands of each node."""
    times: dict[str, list[tuple[int, int]]] = {}
    for band in bands:
        times.setdefault(band.node, []).append((band.from_ms, band.to_ms))
    return {node: _merged(spans, end_ms) for node, spans in times.items()}


def _merged(times: Iterable[tuple[int, int]], end_ms: int) -> list[tuple[float, float]]:
    """Begin and length of times in order; neighbours closer than a column of a screen are joined, none is narrower."""
    column = max(1, end_ms // PARTS)
    joined: list[list[int]] = []
    for from_ms, to_ms in times:
        if joined and from_ms - joined[-1][1] < column:
            joined[-1][1] = max(joined[-1][1], to_ms)
        else:
            joined.append([from_ms, max(to_ms, from_ms + column)])
    return [(float(first), float(last - first)) for first, last in joined]


def _holds(axes: Axes, story: Story, at: dict[str, int], row_inches: float) -> None:
    """Each singleton of a node has its lane in the row: hatched while claimed, full while serving."""
    services = services_of(story)
    for node, y in at.items():
        held = [hold for hold in story.holds if hold.node == node]
        lanes = [service for service in services if any(hold.service == service for hold in held)]
        height = 0.58 / max(2 if row_inches > 0.4 else 1, len(lanes))
        for lane, service in enumerate(lanes):
            colour = colours.service(services.index(service))
            place = (y + 0.38 - (lane + 1) * height, height * 0.86)
            mine = [hold for hold in held if hold.service == service]
            _lane(axes, story, mine, place, colour)
            points = min(8.5, height * row_inches * 72 * 0.72)
            if points >= 4.5:
                _labels(axes, story, mine, place[0] + place[1] / 2, points)


def _lane(axes: Axes, story: Story, holds: Sequence[Hold], place: tuple[float, float], colour: str) -> None:
    serving = _merged([(hold.from_ms, hold.to_ms) for hold in holds if hold.serving], story.end_ms)
    claimed = _merged([(hold.from_ms, hold.to_ms) for hold in holds if not hold.serving], story.end_ms)
    axes.broken_barh(serving, place, facecolor=colour, linewidth=0, zorder=4)
    axes.broken_barh(claimed, place, facecolor="white", edgecolor=colour, hatch="//////", linewidth=0.6, zorder=3)


def _labels(axes: Axes, story: Story, holds: Sequence[Hold], middle: float, points: float) -> None:
    """Name service and epoch on the bars that are long enough for it."""
    for hold in holds:
        label = f"{hold.service} e{hold.epoch}"
        room = (hold.to_ms - hold.from_ms) / story.end_ms * (WIDTH_INCHES - 1.2) * 72
        if hold.serving and room > len(label) * points * 0.68:
            left = hold.from_ms + story.end_ms * 0.004
            axes.text(left, middle, label, color="white", fontsize=points, va="center_baseline", zorder=5)


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
    hits = [(mark, [at[node] for node in mark.nodes if node in at] or list(at.values())) for mark in story.marks]
    _fault_lines(axes, story, hits)
    if len(hits) <= FAULTS_NUMBERED_MAX:
        for number, (mark, rows) in enumerate(hits, start=1):
            axes.plot([mark.from_ms] * 2, [max(rows, default=top) + 0.46, top], color=colours.FAULT, linewidth=0.5)
            _number(axes, mark, number, top, story)


def _fault_lines(axes: Axes, story: Story, hits: Sequence[tuple[Mark, list[int]]]) -> None:
    begins = [(mark.from_ms, row) for mark, rows in hits for row in rows]
    low, high = [row - 0.46 for _, row in begins], [row + 0.46 for _, row in begins]
    axes.vlines([at_ms for at_ms, _ in begins], low, high, color=colours.FAULT, linewidth=1.6, zorder=6)
    lasting: dict[int, list[tuple[int, int]]] = {}
    for mark, rows in hits:
        for row in rows:
            lasting.setdefault(row, []).append((mark.from_ms, mark.to_ms))
    for row, times in lasting.items():
        spans = _merged(times, story.end_ms)
        axes.broken_barh(spans, (row + 0.41, 0.06), facecolor=colours.FAULT, linewidth=0, zorder=6)


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
