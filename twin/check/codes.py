"""Numbers instead of values, so that what is equal compares quickly; and the name of what a world is made to do."""

from collections.abc import Hashable
from typing import Any

from core.effects import AnyEffect
from core.events import AnyEvent

Action = tuple[Any, ...]
"""One thing that may happen: its name first, then what it happens to (``twin.check.actions``)."""


class Interner:
    """Gives equal values the same small number."""

    def __init__(self) -> None:
        self.numbers: dict[Hashable, int] = {}
        self.values: list[Any] = []

    def number(self, value: Hashable) -> int:
        """Return the value's number, a new one if it was never seen."""
        found = self.numbers.get(value)
        if found is None:
            found = self.numbers[value] = len(self.values)
            self.values.append(value)
        return found


CODES = Interner()
"""Numbers of effects and events under way."""


def effect_of(code: int) -> AnyEffect:
    found: AnyEffect = CODES.values[code]
    return found


def event_of(code: int) -> AnyEvent:
    found: AnyEvent = CODES.values[code]
    return found
