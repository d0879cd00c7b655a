"""Counter-based draws that cost nothing to begin: a campaign has hundreds of streams, and most give one number."""

import math
from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct

from twin.streams import Stream

_words = Struct("<8Q").unpack
_word = Struct("<Q").unpack_from
_AT_0 = b"/" + bytes(8)


def firsts_below(seed: int, stream: str, names: Sequence[str], bound: float) -> list[str]:
    """Those of ``names`` for which ``Dice(seed, f"{stream}/{name}").uniform()`` begins below a bound.

    The same draws as those, without the streams: nearly all are needed for this question only.
    """
    begin = f"{seed}/{stream}/".encode()
    below = int(bound * (1 << 53)) << 11
    return [name for name in names if _word(blake2b(begin + name.encode() + _AT_0).digest())[0] < below]


class Dice(Stream):
    """A stream whose words are hashes of seed, name and position, where ``Stream`` has a generator to set up first."""

    __slots__ = ()

    def __init__(self, seed: int, name: str) -> None:
        self._key = f"{seed}/{name}/".encode()
        self._drawn = 0
        self._buffer: list[int] = []

    def _refill(self) -> None:
        self._buffer = list(_words(blake2b(self._key + self._drawn.to_bytes(8, "little")).digest()))
        self._buffer.reverse()
        self._drawn += 1

    def log_uniform(self, low: int, high: int) -> int:
        """Draw from ``low`` to ``high``, each power of ten as likely as the next; both at least 1."""
        return min(high, round(low * math.pow(high / low, self.uniform())))

    def weighted(self, weights: dict[str, float]) -> str:
        """Draw one of the names by their weights. Raises: IndexError if there is none."""
        names = list(weights)
        left = self.uniform() * sum(weights.values())
        for name in names:
            left -= weights[name]
            if left < 0:
                return name
        return names[-1]
