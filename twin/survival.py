"""Whether what was acknowledged to clients is in the volume, judged while a run goes on, over a window of writes."""

from trial.marks import ClientOp
from trial.register import WINDOW_MS

MISSING_MAX = 256
"""Acknowledged writes that may be remembered because the storage has not accepted them."""


class Survival:
    """The writes of one service against what the storage accepted in its volume.

    Fed what the storage accepts and what clients are answered, each in order of time. It keeps the writes and the
    accepted values of two windows, whatever was last in the volume, and up to ``MISSING_MAX`` missing writes.

    It never raises a false alarm. It finds every acknowledged write that the storage never accepted, and every one that
    was asked for after the volume's last write had been answered, except: of writes that took longer than ``window_ms``
    it judges nothing, and where the volume's last value comes from a write that was answered more than ``window_ms``
    before that value was accepted again, it does not know what was lost by it.
    """

    __slots__ = (
        "_accepted",
        "_answered_ms",
        "_forgets_at_ms",
        "_last",
        "_missing",
        "_overwritten",
        "_recent",
        "_window_ms",
        "lost",
    )

    def __init__(self, window_ms: int = WINDOW_MS) -> None:
        self._window_ms = window_ms
        self._forgets_at_ms = window_ms
        self._accepted: dict[int, int] = {}
        self._recent: dict[int, ClientOp] = {}
        self._missing: dict[int, ClientOp] = {}
        self._last = 0
        self._answered_ms = -1  # when the write of the last value was answered "ok"; -1: it was not (yet)
        self._overwritten: ClientOp | None = None
        self.lost = 0

    def accepted(self, value: int, at_ms: int) -> None:
        """The storage made a write of a new value durable."""
        self._accepted[value] = at_ms
        self._missing.pop(value, None)
        if value == self._last:
            return
        self._last, self._answered_ms, self.lost, self._overwritten = value, -1, 0, None
        known = self._recent.get(value)
        if known is not None and known.outcome == "ok":  # an old value came back
            self._answered_ms = known.answered_ms
            for op in self._recent.values():
                self._judge(op)

    def answered(self, op: ClientOp) -> None:
        """A client was answered, in order of the answers; reads and writes that surely failed say nothing here."""
        if op.kind != "write" or op.outcome == "failed":
            return
        if op.answered_ms >= self._forgets_at_ms:
            self._forget(op.answered_ms)
        self._recent[op.value] = op
        known = self._accepted.pop(op.value, None) is not None
        if op.outcome != "ok":
            return
        if not known and op.answered_ms - op.invoked_ms <= self._window_ms and len(self._missing) < MISSING_MAX:
            self._missing[op.value] = op
        if op.value == self._last:
            self._answered_ms = op.answered_ms
        else:
            self._judge(op)

    def problem(self) -> str:
        """Say which acknowledged write is not, or no longer, in the volume, or ""."""
        missing, lost = next(iter(self._missing.values()), None), self._overwritten
        if missing is not None and (lost is None or missing.answered_ms <= lost.answered_ms):
            return f"write {missing.value} was acknowledged at {missing.answered_ms} ms but never reached the storage"
        if lost is not None:
            return f"write {lost.value}, acknowledged at {lost.answered_ms} ms, was overwritten by {self._last}"
        return ""

    def kept(self) -> int:
        """How many records are remembered."""
        return len(self._accepted) + len(self._recent) + len(self._missing)

    def _judge(self, op: ClientOp) -> None:
        """Count an acknowledged write that was asked for after the volume's last one had been answered."""
        nothing_yet = self._last == 0
        if op.outcome == "ok" and (nothing_yet or 0 <= self._answered_ms < op.invoked_ms):
            self.lost += 1
            if not nothing_yet:
                self._overwritten = self._overwritten or op

    def _forget(self, now_ms: int) -> None:
        self._forgets_at_ms = now_ms + self._window_ms
        from_ms = now_ms - self._window_ms
        self._accepted = {value: at_ms for value, at_ms in self._accepted.items() if at_ms >= from_ms}
        self._recent = {value: op for value, op in self._recent.items() if op.answered_ms >= from_ms}
