"""How many may stand at a server's door: in all and from each address, and how often an address may knock."""

from collections import deque

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one server takes. Times in milliseconds.

    A machine needs one connection to read the authority's certificate and one to ask: about a second in all, also
    where each of forty machines does it at the same time.
    """

    connections_max: int = 128
    each_max: int = 4
    knocks_max: int = 30
    knocks_ms: int = 10_000
    addresses_max: int = 1_024
    whole_ms: int = 15_000
    """From the first packet to the last, TLS and all: whoever sends a byte now and then is thrown out."""
    handshake_ms: int = 8_000
    told_max: int = 20
    told_ms: int = 10_000
    """So many refusals are told to the rack in so long; the others are only counted."""


class Crowd:
    """Counts who is there and who was. Times are milliseconds of the caller's clock."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._here: dict[str, int] = {}
        self._knocks: dict[str, deque[int]] = {}

    @property
    def size(self) -> int:
        """How many connections there are."""
        return sum(self._here.values())

    def enter(self, address: str, now_ms: int) -> bool:
        """Whether one more connection may come from an address now; if so it counts until ``leave``."""
        knocks = self._knocks.pop(address, None) or deque(maxlen=self._limits.knocks_max)
        self._knocks[address] = knocks  # at the end: the longest unheard of is the first to be forgotten
        while len(self._knocks) > self._limits.addresses_max:
            del self._knocks[next(iter(self._knocks))]
        often = len(knocks) == self._limits.knocks_max and now_ms - knocks[0] < self._limits.knocks_ms
        if often or self.size >= self._limits.connections_max:
            return False
        if self._here.get(address, 0) >= self._limits.each_max:
            return False
        knocks.append(now_ms)
        self._here[address] = self._here.get(address, 0) + 1
        return True

    def leave(self, address: str) -> None:
        """Take note that a connection that was let in is over."""
        left = self._here.pop(address, 0) - 1
        if left > 0:
            self._here[address] = left


class Voice:
    """Says at most so many things in so long, and how many it kept to itself."""

    def __init__(self, most: int, ms: int) -> None:
        self._said: deque[int] = deque(maxlen=most)
        self._ms = ms
        self.kept = 0

    def may(self, now_ms: int) -> bool:
        """Whether to say one more thing now."""
        if len(self._said) == self._said.maxlen and now_ms - self._said[0] < self._ms:
            self.kept += 1
            return False
        self._said.append(now_ms)
        return True
