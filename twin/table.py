"""Results as tables: named columns of equal length, which pandas and polars take as they are."""

from collections.abc import Mapping
from html import escape

import numpy as np
import numpy.typing as npt

NEGLIGIBLE = 1e-12
"""Numbers nearer to 0 than this are shown as smaller than this."""

Column = npt.NDArray[np.generic]


class Table(dict[str, Column]):
    """Columns by name, in order. ``pandas.DataFrame(table)`` and ``polars.DataFrame(table)`` work; a notebook shows it.

    ``units``: the unit of a column where it has one.
    """

    def __init__(self, columns: Mapping[str, object], units: Mapping[str, str] | None = None, title: str = "") -> None:
        """Make a table of columns, each a sequence or an array. Raises ValueError if the columns differ in length or a
        unit names no column."""
        arrays = {name: np.asarray(values) for name, values in columns.items()}
        if len({len(values) for values in arrays.values()}) > 1:
            raise ValueError(f"columns differ in length: { {name: len(values) for name, values in arrays.items()} }")
        self.units = dict(units or {})
        if unknown := sorted(set(self.units) - set(arrays)):
            raise ValueError(f"units for columns that do not exist: {unknown}")
        self.title = title
        super().__init__(arrays)

    @property
    def rows(self) -> list[dict[str, object]]:
        """The table row by row, with Python's own numbers."""
        columns = [values.tolist() for values in self.values()]
        return [dict(zip(self, row, strict=True)) for row in zip(*columns, strict=True)]

    def to_text(self) -> str:
        """Lay the table out for a terminal: numbers to the right, units under the names."""
        head = [[name, self.units.get(name, "")] for name in self]
        cells = [[_shown(value) for value in values.tolist()] for values in self.values()]
        wide = [max(map(len, (*names, *column))) for names, column in zip(head, cells, strict=True)]
        left = [values.dtype.kind in "US" for values in self.values()]
        lines = [[names[i] for names in head] for i in (0, 1) if i == 0 or self.units]
        lines += [list(row) for row in zip(*cells, strict=True)]
        laid = [
            "  ".join(
                cell.ljust(width) if flush else cell.rjust(width)
                for cell, width, flush in zip(line, wide, left, strict=True)
            )
            for line in lines
        ]
        return "\n".join([*([self.title] if self.title else []), *(line.rstrip() for line in laid)])

    def to_html(self) -> str:
        """Lay the table out as HTML."""
        head = "".join(
            f"<th>{escape(name)}{f'<br><small>{escape(self.units[name])}</small>' if name in self.units else ''}</th>"
            for name in self
        )
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_shown(value))}</td>" for value in row.values()) + "</tr>"
            for row in self.rows
        )
        caption = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return self.to_html()


def _shown(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value != value:  # NaN, which equals nothing: not known
        return "-"
    if value != 0 and abs(value) < NEGLIGIBLE:
        return f"<{NEGLIGIBLE:g}" if value > 0 else f">-{NEGLIGIBLE:g}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
