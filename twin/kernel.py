"""The event loop of the twin: integer milliseconds, plain callbacks on a simpy environment.

There are no generator processes: a callback costs half of a process (docs, performance). Events of the same
millisecond run in the order in which they were scheduled.
"""

import sys
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import cast

import simpy
from simpy.events import NORMAL

_COMPACT_MIN = 8_192
"""Cancelled entries are removed from the queue only above this many: below, leaving them costs less."""


class Handle(simpy.Event):
    """One scheduled call; ``cancel`` is idempotent and harmless after the call."""

    __slots__ = ("args", "at_ms", "fn", "kernel")

    def __init__(self, kernel: "Kernel", at_ms: int, fn: Callable[..., object], args: tuple[object, ...]) -> None:
        # The base initialiser is left out on purpose: everything simpy's step() reads is set on the class below.
        self.kernel = kernel
        self.at_ms = at_ms
        self.fn: Callable[..., object] | None = fn
        self.args = args

    @property
    def pending(self) -> bool:
        """Whether the call is still to come."""
        return self.fn is not None

    def cancel(self) -> None:
        """Make sure the call does not happen."""
        if self.fn is not None:
            self.fn = None
            self.args = ()
            self.kernel._note_cancelled()


def _fire(event: simpy.Event) -> None:
    assert isinstance(event, Handle)
    fn = event.fn
    kernel = event.kernel
    if fn is None:
        kernel._cancelled -= 1
        return
    kernel.now = event.at_ms
    kernel.events += 1
    event.fn = None
    fn(*event.args)


_FIRE: list[Callable[[simpy.Event], None]] = [_fire]
Handle._ok = True
Handle._value = None
Handle.callbacks = _FIRE


class Kernel:
    """Time and order of one simulated rack. ``now`` is read-only for everybody else; ``events`` counts calls made.

    More calls than ``events_max`` are taken for an endless loop.
    """

    def __init__(self) -> None:
        self.now = 0
        self.events = 0
        self.events_max = sys.maxsize
        self._env = simpy.Environment()
        self._numbers = self._env._eid
        self._queue = cast("list[tuple[int, int, int, Handle]]", self._env._queue)
        self._cancelled = 0

    def at(self, t_ms: int, fn: Callable[..., object], *args: object) -> Handle:
        """Call ``fn(*args)`` at ``t_ms``, or in this millisecond if that has passed."""
        now = self.now
        handle = Handle(self, t_ms if t_ms > now else now, fn, args)
        heappush(self._queue, (handle.at_ms, NORMAL, next(self._numbers), handle))  # what env.schedule() does
        return handle

    def after(self, ms: int, fn: Callable[..., object], *args: object) -> Handle:
        """Call ``fn(*args)`` in ``ms`` milliseconds."""
        now = self.now
        handle = Handle(self, now + ms if ms > 0 else now, fn, args)
        heappush(self._queue, (handle.at_ms, NORMAL, next(self._numbers), handle))
        return handle

    def run(self, until_ms: int) -> None:
        """Make every call due up to and including ``until_ms``; afterwards ``now`` is ``until_ms``.

        Raises: RuntimeError after more calls than ``events_max``.
        """
        env, queue = self._env, self._queue
        while queue and queue[0][0] <= until_ms:
            # What env.step() and _fire() do, for our own events: they cannot fail, and nobody waits for them.
            at_ms, _, _, handle = heappop(queue)
            fn = handle.fn
            if fn is None:
                self._cancelled -= 1
                continue
            self.now = at_ms
            self.events += 1
            if self.events > self.events_max:
                raise RuntimeError(f"{self.events_max} calls up to {at_ms} ms: an endless loop")
            handle.fn = None
            fn(*handle.args)
        if self.now < until_ms:
            self.now = until_ms
        env._now = max(env._now, until_ms)

    def _note_cancelled(self) -> None:
        self._cancelled += 1
        queue = self._queue
        if self._cancelled > _COMPACT_MIN and self._cancelled * 2 > len(queue):
            queue[:] = [entry for entry in queue if entry[3].fn is not None]
            heapify(queue)
            self._cancelled = 0
