"""How long failovers took in a whole swarm: counted by service and cause, in memory that does not grow with it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import log10

import msgspec

from twin.swarm.found import Move

EXACT_MS = 60_000
"""Up to here times are counted to the millisecond, above to ``COARSE_MS``, rounded up: whoever waits for a minute does
not count them, and the memory is bounded."""
COARSE_MS = 100

LEAST, RARE = 2, 100
"""A cause of fewer failovers than ``LEAST``, or than one in ``RARE`` of all, is a rarity."""

BINS_A_DECADE = 20
BINS = 6 * BINS_A_DECADE
"""Bins of a picture: from 1 ms to 1,000 s, evenly spaced in the logarithm; what is longer is in the last."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Nearest-rank quantiles of the failovers of one service for one cause, in milliseconds; "*" stands for all.

    ``bins``: the bins of a picture (``bin_of``) that are not empty, each with how many fell into it.
    """

    service: str
    cause: str
    count: int
    p50: int
    p90: int
    p99: int
    max: int
    bins: tuple[tuple[int, int], ...]


class Times:
    """Counts of failover times, to be asked for any service and cause."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Counter[int]] = {}

    def add(self, move: Move) -> None:
        """Count one failover."""
        self._counts.setdefault((move.service, move.cause), Counter())[coarse(move.total_ms)] += 1

    def of(self, service: str = "*", cause: str = "*") -> Counter[int]:
        """How often each time occurred; "*" for every service, every cause."""
        whole: Counter[int] = Counter()
        for (one, why), counts in self._counts.items():
            if service in ("*", one) and cause in ("*", why):
                whole.update(counts)
        return whole

    def spreads(self, across: Iterable[str] = ()) -> tuple[Spread, ...]:
        """All together first, then each service, each followed by its causes; of both the most frequent first.

        ``across``: causes that are wanted of all services together as well.
        """
        found = _spreads([("*", "*", self.of()), *(("*", cause, self.of(cause=cause)) for cause in across)])
        services = [(service, "*", self.of(service)) for service in sorted({service for service, _ in self._counts})]
        for whole in sorted(_spreads(services), key=lambda spread: -spread.count):
            service = whole.service
            found.append(whole)
            causes = [(one, cause, counts) for (one, cause), counts in self._counts.items() if one == service]
            found += sorted(_spreads(causes), key=lambda spread: (-spread.count, spread.cause))
        return tuple(found)


def shown(spreads: Sequence[Spread], causes: int) -> tuple[Spread, ...]:
    """Choose what a person is shown: each service, and its most frequent causes if they are no rarity among all."""
    found: list[Spread] = []
    least = max([LEAST, *(spread.count // RARE for spread in spreads)])
    for service in dict.fromkeys(spread.service for spread in spreads):
        whole, *each = [spread for spread in spreads if spread.service == service]
        found += [whole, *[spread for spread in each if spread.count >= least][:causes]]
    return tuple(found)


def coarse(ms: int) -> int:
    """The time as it is counted."""
    return ms if ms <= EXACT_MS else -(-ms // COARSE_MS) * COARSE_MS


def quantiles_of(counts: Mapping[int, int], percents: Sequence[int]) -> list[int]:
    """For each percent, in ascending order, the smallest time that so many do not exceed (nearest rank); 0 if none."""
    whole, passed = sum(counts.values()), 0
    left = [max(1, -(-percent * whole // 100)) for percent in percents]
    found: list[int] = []
    for ms in sorted(counts):
        passed += counts[ms]
        while left and passed >= left[0]:
            found.append(ms)
            del left[0]
        if not left:
            break
    return found + [0] * len(left)


def bin_of(ms: int) -> int:
    """The bin of a picture that a time falls into."""
    return min(BINS - 1, int(log10(max(1, ms)) * BINS_A_DECADE))


def bin_edge(index: float) -> float:
    """The time in milliseconds at which a bin begins."""
    return float(10 ** (index / BINS_A_DECADE))


def _spreads(items: Iterable[tuple[str, str, Counter[int]]]) -> list[Spread]:
    return [_spread(service, cause, counts) for service, cause, counts in items if counts]


def _spread(service: str, cause: str, counts: Counter[int]) -> Spread:
    bins: Counter[int] = Counter()
    for ms, count in counts.items():
        bins[bin_of(ms)] += count
    p50, p90, p99, longest = quantiles_of(counts, (50, 90, 99, 100))
    return Spread(
        service=service,
        cause=cause,
        count=counts.total(),
        p50=p50,
        p90=p90,
        p99=p99,
        max=longest,
        bins=tuple(sorted(bins.items())),
    )
