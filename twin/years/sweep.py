"""The sweep over spans of many groups: when as many at once as it takes, and how many groups on each day."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from twin.failures.renewal import Ints

DAY_MS = 86_400_000
BINS_MAX = 4_000


class Crossings(msgspec.Struct, frozen=True, eq=False):
    """Spans of time in which a group had at least so many spans at once, by group, then start; int64 arrays."""

    group: Ints
    start_ms: Ints
    end_ms: Ints


def crossings(
    group: Ints, start_ms: Ints, end_ms: Ints, duration_ms: int, levels: Sequence[int], lost_ms: Ints
) -> tuple[Crossings, ...]:
    """Find for each level when a group had at least that many spans at once, up to when it was lost.

    ``group``, ``start_ms``, ``end_ms``: int64 arrays, one entry a span of one shard. A span that ends when another
    begins does not overlap it. ``lost_ms``: int64, by group number. Cost: one sort of 2 n whole numbers.
    """
    base = int(group.min()) if len(group) else 0
    step = np.int64(duration_ms + 1)
    keys = np.empty(2 * len(group), dtype=np.int64)
    lift = (group - base) * step
    keys[0::2] = (lift + np.minimum(start_ms, duration_ms)) << 1 | 1
    keys[1::2] = (lift + end_ms) << 1
    keys.sort()
    opens = (keys & 1).astype(np.bool_)
    count = np.cumsum(np.where(opens, 1, -1).astype(np.int32), dtype=np.int32)
    keys >>= 1
    return tuple(_crossing(keys, opens, count, level, step, base, lost_ms) for level in levels)


def _crossing(
    keys: Ints,
    opens: npt.NDArray[np.bool_],
    count: npt.NDArray[np.int32],
    level: int,
    step: np.int64,
    base: int,
    lost_ms: Ints,
) -> Crossings:
    starts = keys[opens & (count == level)]
    ends = keys[~opens & (count == level - 1)]
    group, start_ms = np.divmod(starts, step)
    end_ms = ends - group * step
    group += base
    end_ms = np.minimum(end_ms, lost_ms[group])
    real = start_ms < end_ms
    return Crossings(group[real], start_ms[real], end_ms[real])


class Series:
    """How many groups are degraded, and inactive, on average in each of up to ``BINS_MAX`` bins of whole days."""

    def __init__(self, duration_ms: int) -> None:
        days = -(-duration_ms // DAY_MS)
        self.bin_ms = DAY_MS * -(-days // BINS_MAX)
        self._duration_ms = duration_ms
        self._edges = np.append(np.arange(0, duration_ms, self.bin_ms), duration_ms).astype(np.float64)
        self._away = np.zeros(len(self._edges))
        self._unserved = np.zeros(len(self._edges))

    def add_degraded(self, spans: Crossings) -> None:
        """Add spans in which groups had shards away, those in which they did not serve as well."""
        self._away += self._until(spans.start_ms) - self._until(spans.end_ms)

    def add_inactive(self, spans: Crossings) -> None:
        """Add spans in which groups did not serve."""
        self._unserved += self._until(spans.start_ms) - self._until(spans.end_ms)

    def degraded(self) -> npt.NDArray[np.float64]:
        """Groups degraded but serving, on average in each bin."""
        return np.asarray(np.maximum(np.diff(self._away - self._unserved) / np.diff(self._edges), 0.0))

    def inactive(self) -> npt.NDArray[np.float64]:
        """Groups that did not serve, on average in each bin."""
        return np.asarray(np.maximum(np.diff(self._unserved) / np.diff(self._edges), 0.0))

    def _until(self, moments_ms: Ints) -> npt.NDArray[np.float64]:
        """For each edge the sum of the time since each of the moments before it."""
        bins = np.minimum(moments_ms // self.bin_ms, len(self._edges) - 2)
        number = np.bincount(bins, minlength=len(self._edges) - 1)
        inside = np.bincount(bins, weights=(moments_ms - bins * self.bin_ms).astype(np.float64), minlength=len(number))
        before = np.concatenate([[0], np.cumsum(number)])
        # the time since each moment up to an edge: whole bins and the rest of the moment's own
        own = number * np.diff(self._edges) - inside
        return np.concatenate([[0.0], np.cumsum(own + before[:-1] * np.diff(self._edges))])
