"""The order of one register, judged while its operations come in: memory is bounded, however long the run."""

import itertools
from bisect import bisect_left

import msgspec

from trial.marks import ClientOp

NEVER_MS = 1 << 62
WINDOW_MS = 600_000
"""What is kept of a register by default: far more than any client waits, so nothing is missed (see ``Register``)."""
UNREAD_MAX = 4_096
"""Unknown writes that may be remembered because nobody has read their values yet: each may still take effect."""
UNEXPLAINED_MAX = 256
"""Values that may be remembered because they were read although no write of them has come in."""


class Zone(msgspec.Struct, frozen=True, order=True):
    """When a value must have been the register's: from the first answer that shows it to the last question for it."""

    low_ms: int
    high_ms: int
    value: int


class Times:
    """What is known of one value: when its write was asked for, and its zone.

    ``low_ms`` is ``NEVER_MS`` as long as no answer has shown it, ``asked_ms`` as long as its write has not come in.
    """

    __slots__ = ("asked_ms", "high_ms", "low_ms")

    def __init__(self, asked_ms: int, low_ms: int, high_ms: int) -> None:
        self.asked_ms = asked_ms
        self.low_ms = low_ms
        self.high_ms = high_ms


class Register:
    """Whether what clients wrote and read fits one order of a single register, every value written once.

    Fed every operation once, in order of their answers; a value that others have overwritten for ``window_ms`` is
    forgotten. What it keeps is bounded by the operations of two windows, ``UNREAD_MAX`` unknown writes that nobody has
    read (each may take effect at any later time) and ``UNEXPLAINED_MAX`` values that nobody is known to have written.

    It never raises a false alarm. It finds every violation, however far apart its operations are, as long as no
    operation lasts longer than ``window_ms`` (clients give up long before) and at most ``UNREAD_MAX`` unknown writes
    stay unread. It may miss a violation that a longer operation takes part in; once there were more unread writes, it
    no longer judges reads of values that it does not know.

    Source: Gibbons and Korach, Testing Shared Memories, SIAM J. Comput. 26(4), 1997, 4.4. Why forgetting is right: a
    value whose zone has ended before the window, and which must come before one shown before the window, must not be
    read by any question in the window; and no zone that begins in the window can overlap its.
    """

    __slots__ = ("_blind", "_forgets_at_ms", "_from_ms", "_problem", "_unexplained", "_values", "_window_ms")

    def __init__(self, window_ms: int = WINDOW_MS) -> None:
        self._window_ms = window_ms
        self._values = {0: Times(-1, -1, -1)}
        self._unexplained: dict[int, Times] = {}
        self._from_ms = -1
        self._forgets_at_ms = window_ms
        self._blind = False
        self._problem = ""

    def feed(self, op: ClientOp) -> None:
        """Take the next operation in order of the answers."""
        if op.kind == "read":
            if op.outcome == "ok":
                self._read(op.value, op.invoked_ms, op.answered_ms)
        elif op.outcome != "failed":
            self._write(op.value, op.invoked_ms, op.answered_ms if op.outcome == "ok" else NEVER_MS)
        if op.answered_ms >= self._forgets_at_ms:
            self._forgets_at_ms = op.answered_ms + self._window_ms
            self._forget(op.answered_ms - self._window_ms)

    def problem(self) -> str:
        """Say which two values cannot be put in one order, or which one nobody wrote, or ""."""
        return self._problem or self._unwritten() or _conflict(self._values)

    def kept(self) -> int:
        """How many values are remembered."""
        return len(self._values) + len(self._unexplained)

    def _read(self, value: int, asked_ms: int, answered_ms: int) -> None:
        times = self._values.get(value)
        if times is None:
            times = self._unexplained.get(value)
            if times is None:
                judged = asked_ms >= self._from_ms and not self._blind
                if judged and len(self._unexplained) < UNEXPLAINED_MAX:
                    self._unexplained[value] = Times(NEVER_MS, answered_ms, asked_ms)
                return
        if asked_ms > times.high_ms:
            times.high_ms = asked_ms
        if answered_ms < times.low_ms:
            times.low_ms = answered_ms

    def _write(self, value: int, asked_ms: int, shown_ms: int) -> None:
        times = Times(asked_ms, shown_ms, asked_ms)
        read = self._unexplained.get(value)
        if read is not None:
            times.low_ms, times.high_ms = min(shown_ms, read.low_ms), max(asked_ms, read.high_ms)
            read.asked_ms = asked_ms
            if read.low_ms >= asked_ms:
                del self._unexplained[value]
        self._values[value] = times

    def _unwritten(self) -> str:
        for value, times in self._unexplained.items():
            read = f"read {value} at {times.low_ms} ms"
            if times.asked_ms < NEVER_MS:
                return f"{read}, before it was written at {times.asked_ms} ms"
            if self._from_ms < 0:
                return f"{read}, which nobody wrote"
            return f"{read}, which nobody wrote, or which had long been overwritten"
        return ""

    def _forget(self, from_ms: int) -> None:
        """Judge what is known so far, then keep only what may still matter."""
        self._problem = self._problem or _conflict(self._values)
        past = [times for times in self._values.values() if times.low_ms < from_ms]
        if past:
            newest = max(past, key=_high)
            gone = [value for value, times in self._values.items() if _superseded(times, newest, from_ms)]
            for value in gone:
                del self._values[value]
            if gone:
                self._from_ms = from_ms
        unread = [value for value, times in self._values.items() if times.low_ms == NEVER_MS]
        for value in unread[: max(0, len(unread) - UNREAD_MAX)]:
            del self._values[value]
            self._blind = True


def _high(times: Times) -> int:
    return times.high_ms


def _superseded(times: Times, newest: Times, from_ms: int) -> bool:
    """Whether all that is known of a value is from before ``from_ms``, and it must come before ``newest``."""
    past = times.low_ms < from_ms and times.high_ms < from_ms
    return past and times is not newest and times.low_ms < newest.high_ms


def _conflict(values: dict[int, Times]) -> str:
    """Find two values whose zones exclude each other, among those that an answer has shown."""
    forward = sorted(Zone(t.low_ms, t.high_ms, value) for value, t in values.items() if t.low_ms < t.high_ms)
    for one, two in itertools.pairwise(forward):
        if two.low_ms < one.high_ms:
            return f"{one.value} was current until {one.high_ms} ms although {two.value} was from {two.low_ms} ms on"
    lows = [zone.low_ms for zone in forward]
    for value, times in sorted(values.items()) if forward else ():
        if times.low_ms < times.high_ms:
            continue
        index = bisect_left(lows, times.high_ms) - 1
        if index >= 0 and times.low_ms < forward[index].high_ms:
            held = forward[index]
            return f"{value} was written and answered when {held.value} was current ({held.low_ms}-{held.high_ms} ms)"
    return ""
