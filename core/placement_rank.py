"""The head of a long ranking, kept sorted and refilled only when it is used up."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from heapq import nsmallest

Entry = tuple[int, str]
"""Cost, then id: the order of every ranking."""

KEEP = 4
"""Entries of a first filling: enough for the candidates, few enough that most changes lie beyond them."""
COMPLETE = 1 << 200
"""A limit above every cost: the list holds the whole ranking."""


class TopList:
    """The cheapest entries of a ranking: every entry that costs less than ``limit`` is in ``items``, sorted.

    Adding and discarding are O(1) for entries beyond the limit. An empty list with limit 0 knows nothing yet.
    """

    __slots__ = ("items", "keep", "limit")

    def __init__(self) -> None:
        self.items: list[Entry] = []
        self.limit = 0
        self.keep = KEEP

    def add(self, entry: Entry) -> int | None:
        """Insert an entry and return its index, None if it is beyond the limit."""
        if entry[0] >= self.limit:
            return None
        at = bisect_left(self.items, entry)
        self.items.insert(at, entry)
        if len(self.items) > 2 * self.keep:
            self._cut(self.items)
        return at if at < len(self.items) else None

    def discard(self, entry: Entry) -> int | None:
        """Remove an entry and return the index it had, None if it was beyond the limit."""
        if entry[0] >= self.limit:
            return None
        at = bisect_left(self.items, entry)
        if at == len(self.items) or self.items[at] != entry:
            return None
        del self.items[at]
        return at

    def after(self, entry: Entry | None, source: Callable[[], Iterable[Entry]]) -> Entry | None:
        """Return the first entry behind ``entry`` (the very first for None), None at the end of the ranking.

        ``source`` yields the whole ranking in any order; it is asked only when the list is used up.
        """
        at = 0 if entry is None else bisect_right(self.items, entry)
        if at < len(self.items):
            return self.items[at]
        if self.limit == COMPLETE:
            return None
        if not self.items:
            self.keep = KEEP // 4
        while at >= len(self.items) and self.limit != COMPLETE:
            self.keep *= 4
            self._cut(nsmallest(self.keep + 1, source()))
            at = 0 if entry is None else bisect_right(self.items, entry)
        return self.items[at] if at < len(self.items) else None

    def _cut(self, ordered: list[Entry]) -> None:
        """Keep the first entries; those that tie with the first one dropped go too, as they would with it."""
        if len(ordered) <= self.keep:
            self.items, self.limit = ordered, COMPLETE
            return
        self.limit = ordered[self.keep][0]
        self.items = ordered[: bisect_left(ordered, (self.limit, ""), 0, self.keep)]
