"""Numbers on the command lines of both worlds, checked."""

import argparse
from collections.abc import Callable


def whole(low: int, high: int) -> Callable[[str], int]:
    """Make a type for argparse: a whole number from ``low`` to ``high``."""

    def parse(text: str) -> int:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 19 and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text[:40]!r}: allowed: a whole number from {low} to {high}")
        return int(text)

    return parse
