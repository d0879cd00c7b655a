"""Rare situations that a good campaign must reach: each is found in the truth of a run, or not."""

from collections.abc import Callable

import msgspec

from twin.scenario import Scenario
from twin.truth import Truth


class Sometimes(msgspec.Struct, frozen=True, kw_only=True):
    """``find`` says whether the situation occurred in a run."""

    name: str
    text: str
    find: Callable[[Truth, Scenario], bool]


SOMETIMES: tuple[Sometimes, ...] = ()


def reached_in(truth: Truth, scenario: Scenario) -> tuple[str, ...]:
    """The names of the situations that occurred in a run, in the order of ``SOMETIMES``."""
    return tuple(one.name for one in SOMETIMES if one.find(truth, scenario))
