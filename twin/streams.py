"""Named random streams: one per consumer, so that a new draw in one place changes nothing anywhere else.

Each stream is a Philox counter keyed by the seed and its name. Draws come from buffered raw words and are turned into
numbers by integer arithmetic or plain ``math``, so they do not depend on numpy's versions of the distributions.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

import numpy as np

T = TypeVar("T")
_FIRST_BLOCK = 64
_BLOCK_MAX = 4_096
_TO_UNIT = 2.0**-53
_START = np.zeros(4, dtype=np.uint64)
_WORDS_EACH = 4
"""Words that Philox makes of one value of its counter."""


class Stream:
    """One consumer's random numbers. The same seed and name give the same numbers in every process.

    Streams of one run may share ``bits``, a generator that each sets to its own key and counter before it draws a
    block: making a generator costs more than most streams of a short run draw.
    """

    __slots__ = ("_bits", "_block", "_buffer", "_drawn", "_key")

    def __init__(self, seed: int, name: str, bits: np.random.Philox | None = None) -> None:
        self._key = blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
        self._bits = bits or np.random.Philox(key=0)
        self._block = _FIRST_BLOCK
        self._drawn = 0
        self._buffer: list[int] = []

    def word(self) -> int:
        """Draw 64 uniform bits."""
        if not self._buffer:
            self._refill()
        return self._buffer.pop()

    def _refill(self) -> None:
        counter = _START.copy()
        counter[0] = self._drawn // _WORDS_EACH
        self._bits.state = {
            "bit_generator": "Philox",
            "state": {"counter": counter, "key": np.frombuffer(self._key, dtype="<u8")},
            "buffer": _START,
            "buffer_pos": _WORDS_EACH,
            "has_uint32": 0,
            "uinteger": 0,
        }
        self._buffer = self._bits.random_raw(self._block).tolist()
        self._buffer.reverse()
        self._drawn += self._block
        self._block = min(self._block * 4, _BLOCK_MAX)

    def uniform(self) -> float:
        """Draw from [0, 1)."""
        if not self._buffer:
            self._refill()
        return (self._buffer.pop() >> 11) * _TO_UNIT

    def integers(self, lo: int, hi: int) -> int:
        """Draw from ``lo`` to ``hi - 1``; ``lo`` if the range is empty."""
        return lo + (self.word() * (hi - lo) >> 64) if hi > lo else lo

    def chance(self, ratio: float) -> bool:
        """Draw True with probability ``ratio``."""
        return self.uniform() < ratio

    def exponential(self, mean: float) -> float:
        """Draw from the exponential distribution of that mean."""
        return -mean * math.log1p(-self.uniform())

    def normal(self, mean: float = 0.0, deviation: float = 1.0) -> float:
        """Draw from the normal distribution (Box and Muller, 1958); two words a draw."""
        radius = math.sqrt(-2.0 * math.log1p(-self.uniform()))
        return mean + deviation * radius * math.cos(2.0 * math.pi * self.uniform())

    def lognormal(self, median: float, sigma: float) -> float:
        """Draw from the lognormal distribution of that median; ``sigma`` is the deviation of the logarithm."""
        return median * math.exp(self.normal(0.0, sigma))

    def weibull(self, scale: float, shape: float) -> float:
        """Draw from the Weibull distribution."""
        return float(scale * (-math.log1p(-self.uniform())) ** (1.0 / shape))

    def choice(self, items: Sequence[T]) -> T:
        """Draw one of the items. Raises: IndexError if there is none."""
        return items[self.integers(0, len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in a random order (Fisher and Yates)."""
        order = list(items)
        for index in range(len(order) - 1, 0, -1):
            other = self.integers(0, index + 1)
            order[index], order[other] = order[other], order[index]
        return order


class Streams:
    """All streams of one run, made when first asked for."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._bits = np.random.Philox(key=0)
        self._streams: dict[str, Stream] = {}

    def get(self, name: str) -> Stream:
        """Return the stream of that name; every caller with that name shares it."""
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = Stream(self.seed, name, self._bits)
        return stream
