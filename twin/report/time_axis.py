"""A span of time in the unit that a reader would choose for it."""

UNITS = ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes"), (1_000, "seconds"), (1, "milliseconds"))
LEAST = 3
"""A unit is used from so many of it on."""


def in_unit(span_ms: float) -> tuple[int, str]:
    """Choose the unit for a span: how many milliseconds it has, and its name."""
    return next(((ms, name) for ms, name in UNITS if span_ms >= LEAST * ms), UNITS[-1])
