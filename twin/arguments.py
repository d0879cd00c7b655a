"""What the commands share: checked numbers on the command line, folders for reports, and progress for a person."""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

from core.errors import InputError


def real(above: float, high: float) -> Callable[[str], float]:
    """Make a type for argparse: a number above ``above``, up to ``high``."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not above < value <= high:
            raise argparse.ArgumentTypeError(f"{text[:40]!r}: allowed: a number above {above:g}, up to {high:g}")
        return value

    return parse


def span(low: int, high: int) -> Callable[[str], tuple[int, int]]:
    """Make a type for argparse: two whole numbers as in ``6..10``, or one, from ``low`` to ``high``."""

    def parse(text: str) -> tuple[int, int]:
        first, _, last = text.partition("..")
        ends = [part for part in (first, last or first) if part.isascii() and part.isdigit() and len(part) <= 19]
        if len(ends) != 2 or not low <= int(ends[0]) <= int(ends[1]) <= high or text.endswith(".."):
            said = f"{text[:40]!r}: allowed: A..B with A <= B, or one number, from {low} to {high}"
            raise argparse.ArgumentTypeError(said)
        return int(ends[0]), int(ends[1])

    return parse


def made(folder: Path, option: str = "--report") -> Path:
    """Make a folder unless it is there, and hand it back, so that a long run does not end without a place to write.

    Raises: InputError if that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError([f"{option} {folder}: cannot be made ({error.strerror}); needed: a folder"]) from None
    return folder


def progress(what: str) -> Callable[[int, int], None]:
    """Report "DONE of ALL ``what``" on stderr to a person at a terminal, and to nobody else."""

    def show(done: int, of: int) -> None:
        if sys.stderr.isatty():
            end = "\r\x1b[K" if done >= of else ""
            sys.stderr.write(f"\r\x1b[K{done} of {of} {what}{end}")
            sys.stderr.flush()

    return show
