"""Which faults of a failing campaign were necessary, as probabilities over seeds.

The world is forked at each fault, and in the fork the fault does not strike. Since every component draws from a stream
of its own (``twin.streams``) and symbolic targets are resolved only when a fault strikes, a run of the tape without the
fault is that fork: up to the fault's time it is the same run, line by line of its journal, and from there on the only
difference is the fault and what follows from it. So no state has to be copied.
"""

import math
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from core.errors import InputError
from twin.swarm.attempt import attempt
from twin.swarm.found import Found
from twin.swarm.shrink import SEEDS, Attempt
from twin.swarm.tape import Tape
from twin.swarm.words import fault_words

Progress = Callable[[int, int], None]
"""Told after every run: the runs so far, and how many there will be."""

SURE = 1.959963984540054
"""Standard deviations of the normal distribution that hold 95 % of it."""


class Necessity(msgspec.Struct, frozen=True, kw_only=True):
    """How much one fault of the tape (number ``index``) matters.

    ``failed`` runs fail without it, of as many as with all faults. ``drop``: how much rarer the failure is without it,
    in [-1, 1]; it lies between ``drop_min`` and ``drop_max`` with a confidence of 95 %. ``needed``: on the tape's own
    seed it does not fail without it.
    """

    index: int
    words: str
    needed: bool
    failed: int
    drop: float
    drop_min: float
    drop_max: float

    @property
    def necessary(self) -> bool:
        """Whether the failure is surely rarer without this fault."""
        return self.drop_min > 0


class Blame(msgspec.Struct, frozen=True, kw_only=True):
    """What each fault of a tape contributes to its failure, the most necessary first.

    With all faults ``failed`` of ``seeds`` runs fail as the tape does: with this ``verdict``, and ``broken``.
    """

    verdict: str
    broken: str
    seeds: int
    failed: int
    faults: tuple[Necessity, ...]


def blame(tape: Tape, attempt: Attempt = attempt, seeds: int = 20, progress: Progress | None = None) -> Blame:
    """Run the tape with all its faults, and without each, on ``seeds`` seeds of the world, its own first.

    Costs ``seeds`` x (faults + 1) runs.

    Raises: InputError if the tape is none, or does not fail on its own seed.
    """
    count = _Count(attempt, seeds, seeds * (len(tape.fault) + 1), progress or (lambda _runs, _of: None))
    failed = sum(count.failures(tape))
    found = [_necessity(tape, index, count, failed) for index in range(len(tape.fault))]
    ranked = tuple(sorted(found, key=lambda one: (one.failed, not one.needed, one.index)))
    assert count.like is not None
    return Blame(verdict=count.like.verdict, broken=count.like.broken, seeds=seeds, failed=failed, faults=ranked)


def _necessity(tape: Tape, index: int, count: "_Count", failed: int) -> Necessity:
    fork = replace(tape, fault=(*tape.fault[:index], *tape.fault[index + 1 :]))
    fails = count.failures(fork)
    without = sum(fails)
    low, high = difference(failed, without, count.seeds)
    return Necessity(
        index=index,
        words=fault_words(tape.fault[index]),
        needed=not fails[0],
        failed=without,
        drop=(failed - without) / count.seeds,
        drop_min=low,
        drop_max=high,
    )


class _Count:
    """Finds the seeds on which a tape fails like the first one that was asked about."""

    def __init__(self, attempt: Attempt, seeds: int, runs_max: int, progress: Progress) -> None:
        self.seeds = seeds
        self.like: Found | None = None
        self._attempt = attempt
        self._runs = 0
        self._runs_max = runs_max
        self._progress = progress

    def failures(self, tape: Tape) -> list[bool]:
        """Whether the tape fails, for each seed."""
        return [self._fails(replace(tape, seed=(tape.seed + number) % SEEDS)) for number in range(self.seeds)]

    def _fails(self, tape: Tape) -> bool:
        found = self._attempt(tape)
        if self.like is None:
            if found.verdict == "pass":
                raise InputError([f'tape of seed {tape.seed}: verdict "pass"; needed: a tape that fails'])
            self.like = found
        self._runs += 1
        self._progress(self._runs, self._runs_max)
        return (found.verdict, found.broken) == (self.like.verdict, self.like.broken)


def wilson(successes: int, runs: int) -> tuple[float, float]:
    """Return the 95 % interval of a ratio that gave so many successes in so many runs.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    ratio, square = successes / runs, SURE * SURE
    middle = (ratio + square / (2 * runs)) / (1 + square / runs)
    reach = SURE * math.sqrt(ratio * (1 - ratio) / runs + square / (4 * runs * runs)) / (1 + square / runs)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def difference(first: int, second: int, runs: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two ratios, each with so many successes in ``runs`` runs.

    Source: Newcombe, Interval estimation for the difference between independent proportions, method 10,
    Statistics in Medicine 17 (1998).
    """
    (low, high), (other_low, other_high) = wilson(first, runs), wilson(second, runs)
    one, two = first / runs, second / runs
    down = math.sqrt((one - low) ** 2 + (other_high - two) ** 2)
    up = math.sqrt((high - one) ** 2 + (two - other_low) ** 2)
    return one - two - down, one - two + up


def to_lines(blame: Blame) -> list[str]:
    """Say for each fault, the most necessary first, how often the failure comes without it."""
    return [_line(blame, one) for one in blame.faults]


def _line(blame: Blame, one: Necessity) -> str:
    counts = f"it failed in {one.failed} of {blame.seeds} runs, with it in {blame.failed} of {blame.seeds}"
    return f"without the {one.words} {counts}{_doubt(one)}"


def _doubt(one: Necessity) -> str:
    """What is to be said about figures that may be chance."""
    if one.necessary:
        return ""
    if one.needed:
        return "; that may be chance, but on the seed of the tape it does not fail without it"
    return "; that may be chance" if one.drop > 0 else "; it does not matter"
