"""Numbers instead of values, so that what is equal compares quickly."""


class Interner:
    """Gives equal values the same small number."""

    def __init__(self) -> None:
        self.numbers: dict[object, int] = {}
        self.values: list[object] = []

    def number(self, value: object) -> int:
        found = self.numbers.get(value)
        if found is None:
            found = self.numbers[value] = len(self.values)
            self.values.append(value)
        return found


CODES = Interner()
"""Numbers of effects and events under way."""
KEYS = Interner()
"""Numbers of states of parts of a world."""
