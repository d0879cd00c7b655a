"""Calls that nobody can cancel: few threads, one call at a time per key, and an end for who waits at each one's limit.

Threads exist only while there is something to call.
"""

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable
from enum import Enum, auto

import msgspec

THREADS_MAX = 8
"""Calls at once. Measured: 200 calls to 40 BMCs take 0.8 s with 8 threads and no less with 40."""

SLOW_MS = 500
"""A call that takes longer makes room for another, so that those to well BMCs do not wait for the hung ones."""

SLOW_MAX = 16
"""Slow calls that may hold a thread beside ``THREADS_MAX``; the next ones wait."""

WAITING_MAX = 32
"""Calls that may wait for one key."""


class CallCounts(msgspec.Struct, frozen=True, kw_only=True):
    """``waiting``: not begun; ``running``: threads at work; ``slow``: those whose call takes long, maybe for ever."""

    waiting: int
    running: int
    slow: int

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return self.waiting + self.running > 0


class _State(Enum):
    WAITING = auto()
    RUNNING = auto()
    SLOW = auto()
    OVER = auto()


class _Call:
    """One call; ``limit_at_ms`` on the node's clock."""

    __slots__ = ("give_up", "limit_at_ms", "run", "state")

    def __init__(self, limit_at_ms: int, run: Callable[[], None], give_up: Callable[[], None]) -> None:
        self.limit_at_ms = limit_at_ms
        self.run = run
        self.give_up = give_up
        self.state = _State.WAITING


class _Line:
    """What waits for one key; ``busy`` while a thread has it, or it stands in the queue for one."""

    __slots__ = ("busy", "waiting")

    def __init__(self) -> None:
        self.busy = False
        self.waiting: deque[_Call] = deque()


class Calls:
    """Runs calls, in order per key. The number of keys is the caller's to bound."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._changed = threading.Condition()
        self._lines: dict[str, _Line] = {}
        self._ready: deque[_Line] = deque()
        self._looks: list[tuple[int, int, _Call]] = []
        self._count = itertools.count()
        self._threads = 0
        self._slow = 0
        self._watched = False

    def begin(self, key: str, limit_at_ms: int, run: Callable[[], None], give_up: Callable[[], None]) -> bool:
        """Call ``run`` in a thread as soon as may be, and ``give_up`` in another if it is not over by ``limit_at_ms``.

        ``run`` goes on after that, if it was begun, and must see for itself that nobody waits. Returns False, with
        neither called, if too many wait for this key.
        """
        with self._changed:
            line = self._lines.setdefault(key, _Line())
            if len(line.waiting) >= WAITING_MAX:
                return False
            call = _Call(limit_at_ms, run, give_up)
            line.waiting.append(call)
            self._look_at(call, limit_at_ms)
            if not line.busy:
                line.busy = True
                self._ready.append(line)
                self._hire()
        return True

    def counts(self) -> CallCounts:
        """Return how much waits and runs."""
        with self._changed:
            waiting = sum(call.state is _State.WAITING for line in self._lines.values() for call in line.waiting)
            return CallCounts(waiting=waiting, running=self._threads, slow=self._slow)

    def _hire(self) -> None:
        """Start a thread for each line that is ready, as far as more may run. The lock is held."""
        while self._ready and self._may_run(self._threads + 1):
            self._threads += 1
            line = self._ready.popleft()
            threading.Thread(target=self._serve, args=(line,), name="calls", daemon=True).start()

    def _may_run(self, threads: int) -> bool:
        return threads - self._slow <= THREADS_MAX and threads <= THREADS_MAX + SLOW_MAX

    def _serve(self, line: _Line) -> None:
        """Make one call of one line, then of others that are ready, in turn, until there are none."""
        served: _Line | None = line
        try:
            while served is not None:
                call = self._next_call(served)
                if call is not None:
                    try:
                        call.run()
                    finally:
                        self._is_over(call)
                served = self._next_line(served)
        finally:
            if served is not None:  # a call raised, which is a bug: this thread ends, the others' calls do not
                with self._changed:
                    self._threads -= 1
                    self._ready.append(served)
                    self._hire()

    def _next_call(self, line: _Line) -> _Call | None:
        """Take the next call that somebody waits for, if there is one."""
        with self._changed:
            while line.waiting:
                call = line.waiting.popleft()
                if call.state is _State.WAITING:
                    call.state = _State.RUNNING
                    self._look_at(call, self._now_ms() + SLOW_MS)
                    return call
            return None

    def _next_line(self, served: _Line) -> _Line | None:
        """Put a line back, behind the others, or free it; take the next one, or count this thread off."""
        with self._changed:
            served.busy = bool(served.waiting)
            if served.busy:
                self._ready.append(served)
            if self._ready and self._may_run(self._threads):
                return self._ready.popleft()
            self._threads -= 1
            self._hire()
            return None

    def _is_over(self, call: _Call) -> None:
        with self._changed:
            if call.state is _State.SLOW:
                self._slow -= 1
            call.state = _State.OVER
            self._changed.notify_all()  # its limit need not be watched any more

    def _look_at(self, call: _Call, at_ms: int) -> None:
        """Let the watching thread look at a call at this time. The lock is held."""
        heapq.heappush(self._looks, (at_ms, next(self._count), call))
        if not self._watched:
            self._watched = True
            threading.Thread(target=self._watch, name="calls-limits", daemon=True).start()
        self._changed.notify_all()

    def _watch(self) -> None:
        """End the waiting for each call at its limit; ends when nothing is under way."""
        while (call := self._next_late()) is not None:
            call.give_up()

    def _next_late(self) -> _Call | None:
        """Wait for the next call that passes its limit; None once there is nothing to watch."""
        with self._changed:
            while self._looks:
                at_ms, _, call = self._looks[0]
                left_ms = at_ms - self._now_ms()
                if call.state is not _State.OVER and left_ms > 0:
                    self._changed.wait(left_ms / 1_000)
                    continue
                heapq.heappop(self._looks)
                if call.state is _State.RUNNING:
                    call.state = _State.SLOW
                    self._slow += 1
                    self._hire()
                if call.state is not _State.OVER and at_ms == call.limit_at_ms:
                    call.state = _State.OVER if call.state is _State.WAITING else call.state
                    return call
            self._watched = False
            return None
