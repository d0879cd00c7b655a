"""Colours for a person at a terminal, or none; and what may reach a terminal at all."""

import re
import unicodedata
from collections.abc import Callable
from typing import TypeAlias

_CODES = re.compile(r"\x1b\[[0-9;]*m")
_PARTS = re.compile(r"(\x1b\[[0-9;]*m)")


class Paint:
    """Colours, or none. What is shown came from elsewhere, so everything that steers a terminal is taken out first."""

    Colour: TypeAlias = Callable[[str], str]

    def __init__(self, colours: bool) -> None:
        self._colours = colours

    def strong(self, text: str) -> str:
        return self._code("1", text)

    def dim(self, text: str) -> str:
        return self._code("2", text)

    def good(self, text: str) -> str:
        return self._code("32", text)

    def bad(self, text: str) -> str:
        return self._code("31", text)

    def warn(self, text: str) -> str:
        return self._code("33", text)

    def node(self, text: str) -> str:
        return self._code("34", text)

    def fault(self, text: str) -> str:
        return self._code("1;31", text)

    def heal(self, text: str) -> str:
        return self._code("36", text)

    def plain(self, text: str) -> str:
        return harmless(text)

    def cell(self, text: str) -> str:
        """A text that may have been coloured already, without anything else that a terminal would obey."""
        if not self._colours:
            return harmless(text)
        return "".join(part if _CODES.fullmatch(part) else harmless(part) for part in _PARTS.split(text))

    def width(self, text: str) -> int:
        """Columns that a text takes; colours take none."""
        return len(_CODES.sub("", text))

    def _code(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{self.cell(text)}\x1b[0m" if self._colours and text else harmless(text)


def harmless(text: str) -> str:
    """Take out what a terminal would obey, line breaks too."""
    return "".join(c if not unicodedata.category(c).startswith("C") else "\N{REPLACEMENT CHARACTER}" for c in text)
