"""What is wrong with a file: one sentence for each problem, all of them together."""

import datetime as dt
import difflib
from collections.abc import Iterable, Mapping

from core.errors import InputError

_PROBLEMS_MAX = 50


class Problems:
    """Collects what is wrong with one file; ``file`` opens every sentence."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[str] = []

    def add(self, key: str, value: object, allowed: str, names: Iterable[str] = ()) -> None:
        """Note one problem: full key path, the value found, what is allowed, and the nearest of ``names``."""
        self.found.append(f"{self.file}: {key} = {show(value)}: {allowed}{nearest(value, names)}")

    def say(self, sentence: str) -> None:
        """Note a problem that is not about one value."""
        self.found.append(f"{self.file}: {sentence}")

    def take(self, error: InputError) -> None:
        """Note the problems of another file, which carry their own file name."""
        self.found.extend(error.problems)

    def check(self) -> None:
        """Raise: InputError with everything noted so far, if anything was."""
        if not self.found:
            return
        shown = self.found[:_PROBLEMS_MAX]
        if len(self.found) > len(shown):
            shown.append(f"{self.file}: {len(self.found) - len(shown)} more problems")
        raise InputError(shown)


def show(value: object) -> str:
    """Show a value as it would be written in TOML, shortened to one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) < 1 << 63 else f"a number of {value.bit_length()} bits"
        case float():
            return repr(value)
        case str():
            text = value if len(value) <= 60 else value[:57] + "..."
            return '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
        case dict():
            return "a table"
        case list() | tuple():
            return f"an array of {len(value)}"
        case dt.datetime() | dt.date() | dt.time():
            return f"the date or time {value.isoformat()}"
        case _:
            return f"a {type(value).__name__}"


def nearest(value: object, names: Iterable[str]) -> str:
    """Say which of ``names`` is nearest to ``value``, and nothing if none is near."""
    known = sorted(names)
    if not isinstance(value, str) or not known:
        return ""
    near = difflib.get_close_matches(value[:80], known, n=1, cutoff=0.5)
    if not near:
        folded = {name.lower(): name for name in known}
        near = [folded[name] for name in difflib.get_close_matches(value[:80].lower(), sorted(folded), n=1, cutoff=0.5)]
    return f'; did you mean "{near[0]}"?' if near else ""


def one_of(names: Iterable[str], most: int = 80) -> str:
    """List names for a person; the first ``most`` of them if there are many."""
    known = sorted(names)
    if not known:
        return "there are none"
    more = "" if len(known) <= most else f" and {len(known) - most} more"
    return ", ".join(known[:most]) + more


def join(key: str, name: str) -> str:
    """Extend a key path by one name, quoted where TOML needs it."""
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    shown = name if bare and len(name) <= 60 else show(name)
    return f"{key}.{shown}" if key else shown


def text_table(value: object) -> Mapping[str, object]:
    """The value as a table, empty if it is none (whose problem is noted elsewhere)."""
    return value if isinstance(value, dict) else {}
