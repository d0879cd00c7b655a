"""The two kinds of error that are raised; an operating failure is a value (``core.events.OpFailed``)."""


class InvariantViolation(Exception):
    """A rule of the core is broken, so the core has a bug. On in production, never caught."""


class InputError(Exception):
    """Bad input, as one or more problems found in one file.

    ``problems`` holds one readable sentence each: file, key (full path), value, what is allowed.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
