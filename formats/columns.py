"""Tables and lists for a person at a terminal: aligned, and wrapped inside what room there is, not at its edge."""

import re
import shutil
import textwrap
from collections.abc import Sequence

from formats.paint import Paint

Row = Sequence[str]

GAP = "  "
INDENT = 4
CELL_MIN = 18
"""A column of sentences is wrapped down to this many signs; below that what it says goes on lines of its own."""
WORD_MAX = 44
"""A longer word may be broken: an identity (36 signs) or an address never is."""
ROOM_MIN = 40
_PAINTED = re.compile(r"((?:\x1b\[[0-9;]*m)*)(.*?)((?:\x1b\[[0-9;]*m)*)", re.DOTALL)


def room_here() -> int:
    """Columns of the terminal that is written to; 0 if it is none: then nothing is wrapped, for whoever searches."""
    known = shutil.get_terminal_size((0, 0)).columns  # what COLUMNS says comes first
    return max(known, ROOM_MIN) if known else 0


def columns(head: Row, rows: Sequence[Row], paint: Paint, room: int = 0, ditto: str = "") -> list[str]:
    """Align cells under their heads; nothing at all without rows. Colours take no room.

    ``room``: columns there are, 0: as many as it takes. Where they do not suffice sentences are wrapped in their
    columns; where that is too narrow, the last columns go below each row instead. ``ditto``: what a cell says that
    repeats the one above; that never goes below.
    """
    if not rows:
        return []
    table = [[paint.dim(cell) for cell in head], *([paint.cell(cell) for cell in row] for row in rows)]
    kept, widths = _fitting(table, paint, room)
    lines: list[str] = []
    for number, row in enumerate(table):
        lines += _beside(row[:kept], widths, paint)
        rest = [cell for cell in row[kept:] if paint.width(cell)]
        if len(rest) == 1 and number and _parts(rest[0])[1] == ditto:
            beside = lines[-1] + GAP + rest.pop()
            lines[-1] = beside if paint.width(beside) <= room else lines[-1]
        if rest and number:
            lines += [line for cell in rest for line in wrapped(cell, room, INDENT, INDENT)]
    return lines


def wrapped(text: str, room: int, indent: int = 0, hanging: int = 0) -> list[str]:
    """One text, all of one colour, on as many lines as it takes: the first after ``indent``, the others ``hanging``."""
    before, plain, after = _parts(text)
    if not room or indent + len(plain) <= room:
        return [" " * indent + text]
    lead = " " * indent, " " * hanging
    lines = textwrap.wrap(
        plain, max(room, CELL_MIN), initial_indent=lead[0], subsequent_indent=lead[1], break_on_hyphens=False
    )
    return [lead[number > 0] + before + line[len(lead[number > 0]) :] + after for number, line in enumerate(lines)]


def in_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Where a name stands among others for a person, who counts n2 before n10."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts)


def _fitting(table: Sequence[Row], paint: Paint, room: int) -> tuple[int, list[int]]:
    """How many columns stand side by side, and how wide each is."""
    natural = [max(map(paint.width, column)) for column in zip(*table, strict=True)]
    least = [
        min(width, max(CELL_MIN, *(min(_word(cell), WORD_MAX) for cell in column)))
        for width, column in zip(natural, zip(*table, strict=True), strict=True)
    ]
    for kept in range(len(natural), 0, -1):
        gaps = len(GAP) * (kept - 1)
        if not room or sum(least[:kept]) + gaps <= room or kept == 1:
            return kept, _shrunk(natural[:kept], least[:kept], room - gaps if room else 0)
    raise AssertionError("one column always stands")


def _shrunk(natural: list[int], least: list[int], room: int) -> list[int]:
    """Take from the widest what is too much."""
    widths = list(natural)
    while room and sum(widths) > room:
        able = [index for index, width in enumerate(widths) if width > least[index]]
        if not able:
            break
        widest = max(able, key=lambda index: (widths[index], -index))
        widths[widest] -= 1
    return widths


def _beside(row: Row, widths: Sequence[int], paint: Paint) -> list[str]:
    pairs = list(zip(row, widths, strict=True))
    cells = [wrapped(cell, width) if paint.width(cell) > width else [cell] for cell, width in pairs]
    lines = []
    for number in range(max(map(len, cells))):
        parts = [cell[number] if number < len(cell) else "" for cell in cells]
        padded = [part + " " * (width - paint.width(part)) for part, width in zip(parts, widths, strict=True)]
        lines.append(GAP.join(padded).rstrip())
    return lines


def _word(cell: str) -> int:
    return max(map(len, _parts(cell)[1].split()), default=0)


def _parts(text: str) -> tuple[str, str, str]:
    """What colours a text, the text, and what ends the colour."""
    found = _PAINTED.fullmatch(text)
    assert found is not None  # any text is of that form
    return found[1], found[2], found[3]
