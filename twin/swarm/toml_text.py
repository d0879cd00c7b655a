"""TOML as text, the way a person would write it: underscores in large numbers, tables within tables as dotted keys."""

import json
import re
from collections.abc import Mapping

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_UNDERSCORES_FROM = 1_000


def lines_of(table: Mapping[str, object], path: str = "") -> list[str]:
    """Write one line for each value of a table, in its order.

    Raises: ValueError for a value that TOML does not know.
    """
    lines = []
    for key, value in table.items():
        if isinstance(value, dict) and value:
            lines += lines_of(value, f"{path}{_key(key)}.")
        else:
            lines.append(f"{path}{_key(key)} = {text_of(value)}")
    return lines


def text_of(value: object) -> str:
    """Write one value on one line. Raises: ValueError if TOML does not know it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:_d}" if abs(value) >= _UNDERSCORES_FROM else str(value)
        case float():
            return repr(value)
        case str():
            return _text(value)
        case list() | tuple():
            return f"[{', '.join(map(text_of, value))}]"
        case dict():
            inner = ", ".join(f"{_key(key)} = {text_of(one)}" for key, one in value.items())
            return f"{{ {inner} }}" if value else "{}"
        case _:
            raise ValueError(f"TOML has no form for {value!r}")


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _text(value: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for DEL, which TOML wants escaped too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
