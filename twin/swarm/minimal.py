"""The least part of a list that still fails: bisection first, then delta debugging."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
FEW = 8
"""So many items are tried one by one. Bisection keeps at most so many: what is left then is for delta debugging."""


def minimal(items: Sequence[T], fails: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """Return a part of ``items``, in their order, that fails; all of ``items`` are known to.

    It is 1-minimal if ``fails`` is a function: without any one of its items it does not fail. ``fails`` may be False
    for good from some call on (nothing can be asked any more): then the part is the best one so far.
    """
    return ddmin(scan(items, fails) if len(items) > FEW else tuple(items), fails)


def scan(items: Sequence[T], fails: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """Bisect for the shortest head that fails, keep its last item, and bisect what is before it, until nothing is.

    A few necessary items among n cost about log2(n) calls each. If more items do not always fail when fewer do, the
    result still fails, but need not be minimal. Source: Junker, QuickXplain, AAAI 2004, without its recursion.
    """
    head = tuple(items)
    kept: tuple[T, ...] = ()
    while head and len(kept) < FEW:
        if fails(kept):
            return kept
        low, high = 1, len(head)
        while low < high:
            middle = (low + high) // 2
            if fails((*head[:middle], *kept)):
                high = middle
            else:
                low = middle + 1
        kept = (head[high - 1], *kept)
        head = head[: high - 1]
    return (*head, *kept)


def ddmin(items: Sequence[T], fails: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """Leave out ever smaller pieces until no single item can be spared; a few items are tried one by one at once.

    Only complements are tried: a piece alone seldom fails, since causes are spread over the list.
    Source: Zeller and Hildebrandt, Simplifying and isolating failure-inducing input, IEEE TSE 28 (2002).
    """
    left = tuple(items)
    pieces = 2 if len(left) > FEW else len(left)
    while left:
        for number in reversed(range(pieces)):
            rest = without_piece(left, number, pieces)
            if fails(rest):
                left, pieces = rest, min(max(pieces - 1, 2), len(rest))
                break
        else:
            if pieces == len(left):
                return left
            pieces = min(2 * pieces, len(left))
    return left


def without_piece(items: Sequence[T], number: int, pieces: int) -> tuple[T, ...]:
    """Return the items without the piece of that number, of ``pieces`` nearly equal ones."""
    start, end = len(items) * number // pieces, len(items) * (number + 1) // pieces
    return (*items[:start], *items[end:])
