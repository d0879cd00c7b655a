"""Who loads when, and how fast: one bandwidth for all, few images at once, and a line for the others.

Times are milliseconds of the caller's clock, sizes bytes.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from core.ids import NodeId

BURST_MS = 100
"""So much of the bandwidth may be used up at once after a pause."""


class Bandwidth:
    """Shares ``mbit_max`` among all who send: whoever reserved first sends first. Equal pieces make equal shares."""

    def __init__(self, mbit_max: int) -> None:
        self._bytes_per_ms = mbit_max * 1_000_000 / 8 / 1_000
        self._free_ms = 0.0

    def reserve(self, size: int, now_ms: float) -> float:
        """How many ms to wait before sending ``size`` bytes."""
        begin = max(self._free_ms, now_ms - BURST_MS)
        self._free_ms = begin + size / self._bytes_per_ms
        return max(0.0, begin - now_ms)


class Streams:
    """Lets so many transfers run at once; others stand in a bounded line for a bounded time, then are sent away."""

    def __init__(self, streams_max: int, waiting_max: int = 256) -> None:
        self._free = streams_max
        self._waiting_max = waiting_max
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._waiting)

    async def enter(self, patience_ms: int) -> bool:
        """Wait for a place; False if there was none in time. Whoever got one gives it back with ``leave``."""
        if self._free > 0 and not self._waiting:
            self._free -= 1
            return True
        if len(self._waiting) >= self._waiting_max:
            return False
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(patience_ms / 1_000):
                await asyncio.shield(turn)
        except (TimeoutError, asyncio.CancelledError) as error:
            if not turn.done():
                self._waiting.remove(turn)
                turn.cancel()
            else:
                self.leave()  # the turn came in the very moment
            if isinstance(error, asyncio.CancelledError):
                raise
            return False
        return True

    def leave(self) -> None:
        """Give a place back: to the first in line."""
        self._free += 1
        while self._free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._free -= 1
                turn.set_result(None)


class Pace(msgspec.Struct, frozen=True):
    """Both limits of one server, and its clock."""

    bandwidth: Bandwidth
    streams: Streams
    clock_ms: Callable[[], float]

    async def pause(self, size: int) -> None:
        """Wait until ``size`` bytes may be sent."""
        wait_ms = self.bandwidth.reserve(size, self.clock_ms())
        if wait_ms > 0:
            await asyncio.sleep(wait_ms / 1_000)


class Line:
    """Machines that want to boot: ``places`` of them load their kernel at once, the others in the order they came.

    A place is given back when kernel and initrd are through, or after ``idle_ms`` without a byte; whoever does not come
    again within ``gone_ms`` loses the place in line.
    """

    def __init__(self, places: int, idle_ms: int = 90_000, gone_ms: int = 45_000) -> None:
        self._places = places
        self._idle_ms = idle_ms
        self._gone_ms = gone_ms
        self._inside: dict[NodeId, int] = {}
        self._waiting: dict[NodeId, int] = {}

    @property
    def inside(self) -> tuple[NodeId, ...]:
        """Who loads now."""
        return tuple(self._inside)

    @property
    def waiting(self) -> tuple[NodeId, ...]:
        """Who stands in line, first the first."""
        return tuple(self._waiting)

    def ask(self, who: NodeId, now_ms: int) -> int:
        """How many seconds to wait before asking again; 0: it is this machine's turn."""
        self._forget(now_ms)
        if who in self._inside:
            self._inside[who] = now_ms
            return 0
        self._waiting[who] = now_ms  # who waits already keeps the place
        before = list(self._waiting).index(who)
        free = self._places - len(self._inside)
        if before < free:
            del self._waiting[who]
            self._inside[who] = now_ms
            return 0
        return min(2 + (before - max(free, 0)) // self._places, 10)

    def moved(self, who: NodeId, now_ms: int) -> None:
        """A machine that has a place loads."""
        if who in self._inside:
            self._inside[who] = now_ms

    def leave(self, who: NodeId) -> None:
        """Give a machine's place to the next."""
        self._inside.pop(who, None)
        self._waiting.pop(who, None)

    def _forget(self, now_ms: int) -> None:
        for who, at_ms in list(self._inside.items()):
            if now_ms - at_ms > self._idle_ms:
                del self._inside[who]
        for who, at_ms in list(self._waiting.items()):
            if now_ms - at_ms > self._gone_ms:
                del self._waiting[who]
