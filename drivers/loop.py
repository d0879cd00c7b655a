"""The supervisor's loop: one thread that owns all state, timers on the node's clock, and a few threads for what blocks.

Smaller than asyncio (which would double the supervisor's memory), and with a clock that is shared by every process.
"""

import heapq
import os
import queue
import selectors
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from drivers.clock import now_ms

T = TypeVar("T")
Act = Callable[[], None]

IDLE_MS_MAX = 60_000
"""The longest sleep; nothing depends on it."""


class Timer:
    """One act at one time; ``cancel`` makes it none."""

    __slots__ = ("act", "at_ms")

    def __init__(self, at_ms: int, act: Act) -> None:
        self.at_ms = at_ms
        self.act: Act | None = act

    def cancel(self) -> None:
        """Do nothing at that time; a second call, or one too late, does nothing either."""
        self.act = None


class Loop:
    """Runs acts one after the other in the thread that calls ``run``; only ``post`` may be called from another one.

    An exception that an act lets through ends ``run``: it is a bug of ours, and services are safer dead than unwatched.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._heap: list[tuple[int, int, Timer]] = []
        self._count = 0
        self._posted: deque[Act] = deque()
        self._stopping = False
        self._lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ, self._woken)

    def now(self) -> int:
        """The node's clock, in milliseconds."""
        return now_ms()

    def after(self, ms: int, act: Act) -> Timer:
        """Do something ``ms`` from now."""
        return self.at(now_ms() + ms, act)

    def at(self, at_ms: int, act: Act) -> Timer:
        """Do something at a time of the node's clock; at once, but not within this call, if it is past."""
        timer = Timer(at_ms, act)
        self._count += 1
        heapq.heappush(self._heap, (at_ms, self._count, timer))
        return timer

    def post(self, act: Act) -> None:
        """Do something soon; may be called from any thread, never blocks."""
        self._posted.append(act)
        with self._lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def watch(self, fd: int, act: Act, write: bool = False) -> None:
        """Call ``act`` whenever ``fd`` can be read (or, with ``write``, written as well), until ``unwatch``."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0)
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, act)
        else:
            self._selector.register(fd, events, act)

    def unwatch(self, fd: int) -> None:
        """Forget ``fd``, before it is closed; one that is not watched is fine."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def stop(self) -> None:
        """Let ``run`` return after the act under way."""
        self._stopping = True

    def run(self) -> None:
        """Do what comes until ``stop``."""
        self._stopping = False
        while not self._stopping:
            self.turn(IDLE_MS_MAX)

    def turn(self, ms_max: int) -> None:
        """Wait for something to do, at most ``ms_max``, and do what is due: deadlines before everything else."""
        if self._posted or self._stopping:
            ms_max = 0
        while self._heap and self._heap[0][2].act is None:
            heapq.heappop(self._heap)
        if self._heap:
            ms_max = min(ms_max, max(self._heap[0][0] - now_ms(), 0))
        ready = self._selector.select(ms_max / 1_000)
        self._run_timers()
        for key, _ in ready:
            if key.fd in self._selector.get_map() and not self._stopping:
                act: Act = key.data
                act()
        for _ in range(len(self._posted)):
            if not self._stopping:
                self._posted.popleft()()

    def close(self) -> None:
        """Give the descriptors back; what is posted from now on is never done."""
        self._selector.close()
        with self._lock:
            os.close(self._wake)
            self._wake = -1

    def _run_timers(self) -> None:
        now = now_ms()
        while self._heap and self._heap[0][0] <= now and not self._stopping:
            _, _, timer = heapq.heappop(self._heap)
            act, timer.act = timer.act, None
            if act is not None:
                act()

    def _woken(self) -> None:
        os.eventfd_read(self._wake)


class Crew:
    """Up to ``most`` threads for work that blocks; what it returns comes back to the loop.

    Threads are made when needed and never end: a child that a thread started would be killed with it (PDEATHSIG).
    They are daemons, so that one that hangs in the storage does not keep the process from ending. Work beyond
    ``most`` waits in line, up to ``waiting_max``.
    """

    def __init__(self, loop: Loop, name: str, most: int, waiting_max: int = 256) -> None:
        self._loop = loop
        self._name = name
        self._most = most
        self._threads = 0
        self._busy = 0
        self._queue: queue.Queue[Act] = queue.Queue(waiting_max)

    def do(self, work: Callable[[], T], then: Callable[[T], None]) -> bool:
        """Do ``work`` in a thread, then ``then`` with its result in the loop; False if the line is full.

        Call from the loop only. ``work`` translates the failures it expects; anything else ends the loop.
        """

        def run() -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - raised again, where it ends everything: in the loop
                self._loop.post(lambda error=error: self._raise(error))  # type: ignore[misc]  # bound now, not later
                return
            self._loop.post(lambda: self._finish(result, then))

        try:
            self._queue.put_nowait(run)
        except queue.Full:
            return False
        self._busy += 1
        if self._busy > self._threads < self._most:
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        return True

    @property
    def busy(self) -> int:
        """How many pieces of work are under way or wait."""
        return self._busy

    def _finish(self, result: T, then: Callable[[T], None]) -> None:
        self._busy -= 1
        then(result)

    @staticmethod
    def _raise(error: BaseException) -> None:
        raise error

    def _work(self) -> None:
        while True:
            self._queue.get()()
