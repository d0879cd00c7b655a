"""The figures that a plan assumes: each with its unit, its range and where it comes from, and each open to change."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

from formats.load import read_toml
from formats.problems import Problems, one_of

Value = int | float | str
CHANGES_MAX = 1_000


class Assumption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One figure: its ``value``, what is allowed (``min`` to ``max``, ``words`` or a ``pattern``), and its source."""

    value: Value
    what: str
    source: str
    unit: str = ""
    min: float | None = None
    max: float | None = None
    words: tuple[str, ...] = ()
    pattern: str = ""

    @property
    def allowed(self) -> str:
        """Say in words what is allowed."""
        if self.words:
            return one_of(self.words)
        if self.pattern:
            return f"a text of the form {self.pattern}"
        kind = "a whole number" if isinstance(self.value, int) else "a number"
        return f"{kind} from {self.min:,.12g} to {self.max:,.12g}"


class Assumptions(msgspec.Struct, frozen=True, kw_only=True):
    """All figures by name. ``changed``: those that were set, with the option or file that did it."""

    figures: dict[str, Assumption]
    changed: dict[str, str] = {}

    def number(self, key: str) -> float:
        """The figure called ``key`` as a float. Raises: KeyError, TypeError for one that is a word."""
        value = self.figures[key].value
        if isinstance(value, str):
            raise TypeError(key)
        return float(value)

    def whole(self, key: str) -> int:
        """The figure called ``key``, which is a whole number. Raises: KeyError, TypeError."""
        value = self.figures[key].value
        if not isinstance(value, int):
            raise TypeError(key)
        return value

    def word(self, key: str) -> str:
        """The figure called ``key``, which is a word. Raises: KeyError, TypeError."""
        value = self.figures[key].value
        if not isinstance(value, str):
            raise TypeError(key)
        return value

    def source(self, key: str) -> str:
        """Say where a figure comes from, for a step that rests on it: ``survive = "node" (a choice: ...)``."""
        figure = self.figures[key]
        return f"{key} = {figure.value} ({self.changed.get(key, figure.source)})"

    def changed_with(self, changes: Mapping[str, object], by: str) -> "Assumptions":
        """Change figures; ``by`` names the option or file. Raises: InputError with every key or value not allowed."""
        problems = Problems(by)
        figures, changed = dict(self.figures), dict(self.changed)
        for key, value in changes.items():
            figure = figures.get(key)
            if figure is None:
                problems.add(key, value, f"no such figure; allowed: {one_of(figures)}", figures)
                continue
            fitted = _fitted(value, figure)
            if fitted is None:
                problems.add(key, value, f"allowed: {figure.allowed}")
                continue
            figures[key], changed[key] = msgspec.structs.replace(figure, value=fitted), by
        problems.check()
        return Assumptions(figures=figures, changed=changed)


@cache
def default_assumptions() -> Assumptions:
    """The figures as they are shipped."""
    tables = tomllib.loads(files("twin.capacity").joinpath("assumptions.toml").read_text("utf-8"))
    return Assumptions(figures=msgspec.convert(tables, dict[str, Assumption]))


def load_assumptions(pairs: Sequence[str] = (), file: Path | None = None) -> Assumptions:
    """The shipped figures, changed by a file's (``key = value`` lines of TOML) and then by ``key=value`` pairs.

    Raises: InputError for a pair or a line that names no figure, or a value that is not allowed.
    """
    figures = default_assumptions()
    if file is not None:
        figures = figures.changed_with(read_toml(file, "a file of assumptions"), str(file))
    problems = Problems("--set")
    changes: dict[str, object] = {}
    for pair in pairs[:CHANGES_MAX]:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            problems.say(f"{pair[:60]!r}: allowed: key=value, such as survive=rack")
        else:
            changes[key.strip()] = _parsed(text.strip())
    problems.check()
    return figures.changed_with(changes, "--set")


def _parsed(text: str) -> Value:
    """A number if it looks like one (1_000, 2e12), else the text."""
    plain = text.replace("_", "")
    if re.fullmatch(r"[+-]?\d{1,30}", plain):
        return int(plain)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", plain):
        number = float(plain)
        return int(number) if number.is_integer() and abs(number) < 1 << 62 and "." not in plain else number
    return text


def _fitted(value: object, figure: Assumption) -> Value | None:
    """The value in the figure's own type, or None if it is not allowed."""
    if isinstance(figure.value, str):
        fits = isinstance(value, str) and (
            value in figure.words if figure.words else re.fullmatch(figure.pattern, value)
        )
        return value if isinstance(value, str) and fits else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(figure.value, int) and not isinstance(value, int):
        return None
    low, high = figure.min, figure.max
    if not (low is not None and high is not None and low <= value <= high):  # also refuses what is no number
        return None
    return value if isinstance(figure.value, int) else float(value)
