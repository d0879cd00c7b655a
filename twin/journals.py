"""Journal files as people name them on the command line: read whole, with their problems in words."""

from pathlib import Path

import msgspec

from core.errors import InputError
from core.journal import Line, decode_effect, decode_event, decode_opening, read_lines


def read_journal(path: Path) -> list[Line]:
    """Read every line of a journal file; a last line that was cut off is left out.

    Raises: InputError if the file cannot be read, is empty, or holds a line that is not of a journal.
    """
    try:
        with path.open("rb") as file:
            lines = _decode(path, file.readlines())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(
            [f"{path}: cannot be read ({reason.lower()}); needed: a journal, as --journal writes it"]
        ) from None
    if not lines:
        raise InputError([f"{path}: is empty; needed: a journal, as --journal writes it"])
    return lines


def _decode(path: Path, raw: list[bytes]) -> list[Line]:
    lines: list[Line] = []
    try:
        for line in read_lines(raw):
            _check(line)
            lines.append(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = f"{path}: line {len(lines) + 1}: is not a line of a journal ({error})"
        raise InputError([f"{what}; needed: [at_ms, node, incarnation, kind, body]"]) from None
    return lines


def _check(line: Line) -> None:
    """Decode the body once, so that nothing later can meet a broken one.

    Raises: msgspec.DecodeError
    """
    match line.kind:
        case "open":
            decode_opening(line.body)
        case "event":
            decode_event(line.body)
        case "effect":
            decode_effect(line.body)
        case "snapshot":
            pass
