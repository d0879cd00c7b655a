"""A waterfall: an amount that falls step by step, each with what it takes away, why, and on whose word."""

from collections.abc import Iterable

import msgspec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a waterfall: the amount before and after it, in ``unit``, and what it takes away.

    ``why``: in words; ``source``: an assumption, a file's field, or how it was computed; ``change``: the keys that
    `--set` changes it by.
    """

    name: str
    unit: str
    before: float
    taken: float
    after: float
    why: str
    source: str
    change: tuple[str, ...] = ()


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What is left after a step, before it is put in its place of a waterfall."""

    name: str
    amount: float
    why: str
    source: str
    change: tuple[str, ...] = ()


def cascade(unit: str, start: float, lefts: Iterable[Left], rising: bool = False) -> tuple[Step, ...]:
    """Chain amounts to a waterfall of whole numbers. None rises above the one before (unless ``rising``) or below 0."""
    steps, before = [], float(int(start))
    for left in lefts:
        after = float(int(max(0.0, left.amount)))
        after = after if rising else min(before, after)
        step = Step(
            name=left.name,
            unit=unit,
            before=before,
            taken=before - after,
            after=after,
            why=left.why,
            source=left.source,
            change=left.change,
        )
        steps.append(step)
        before = after
    return tuple(steps)
