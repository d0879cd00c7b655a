"""Writing TOML: plain tables of plain values, as the files of ``rack init`` have them."""

import json
from collections.abc import Mapping
from pathlib import Path

from formats.problems import join

Table = Mapping[str, object]


def toml_text(table: Table, key: str = "") -> str:
    """Write a table: its own values first, then the tables in it, then arrays of tables; ``None`` is left out.

    Raises: TypeError for a value that TOML has no form for.
    """
    values = {name: value for name, value in table.items() if not isinstance(value, Mapping) and not _tables(value)}
    lines = [f"{join('', name)} = {_value(value)}\n" for name, value in values.items() if value is not None]
    for name, value in table.items():
        path = join(key, name)
        if isinstance(value, Mapping):
            lines.append(f"\n[{path}]\n{toml_text(value, path)}")
        for one in _tables(value):
            lines.append(f"\n[[{path}]]\n{toml_text(one, path)}")
    return "".join(lines)


def _tables(value: object) -> list[Table]:
    """The value as an array of tables; empty if it is none."""
    if not isinstance(value, list | tuple):
        return []
    found = [one for one in value if isinstance(one, Mapping)]
    return found if len(found) == len(value) else []


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str() | Path():
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return "[" + ", ".join(map(_value, value)) + "]"
        case _:
            raise TypeError(f"TOML has no form for a {type(value).__name__}")
