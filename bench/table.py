"""The rows that a benchmark gives, and how they are printed."""

from collections.abc import Iterable

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: ``ok`` is None where there is no target."""

    what: str
    measured: str
    target: str = ""
    ok: bool | None = None


def show(title: str, rows: Iterable[Row]) -> str:
    """Render a table for a terminal."""
    listed = list(rows)
    wide = max((len(row.what) for row in listed), default=0)
    middle = max((len(row.measured) for row in listed), default=0)
    words = {True: "met", False: "MISSED", None: ""}
    lines = [title, "-" * len(title)]
    for row in listed:
        lines.append(f"{row.what:<{wide}}  {row.measured:>{middle}}  {row.target:<24}  {words[row.ok]}".rstrip())
    return "\n".join(lines) + "\n"
