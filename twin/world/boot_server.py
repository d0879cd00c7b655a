"""One boot server: few machines at a time in DHCP and TFTP, and one uplink that all share who are sent an image."""

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Protocol

import msgspec

from core.ids import NodeId
from twin.kernel import Handle, Kernel


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """What a boot server and its uplink can do. Rates in bytes a ms.

    ``streams_max``: so many images are sent at once, who comes later stands in line (0: all are sent at once, which may
    leave too little for each). With less than ``least_bytes_per_ms`` each for ``patience_ms`` the latest break off.
    """

    server_bytes_per_ms: int
    client_bytes_per_ms: int
    streams_max: int = 0
    least_bytes_per_ms: int = 0
    patience_ms: int = 0


class Loading(Protocol):
    """A machine that is sent an image or stands in line for it.

    ``finish``: the count of ``BootServer.sent`` at which it has all of it.
    """

    sharing: bool
    finish: int


Finished = Callable[[Loading], None]


class BootServer:
    """The machines in DHCP and TFTP (``early``) and those that share the bandwidth (``sharers``) of one node.

    Processor sharing in integers: ``sent`` counts what every sharer has got since the beginning; an image is complete
    when ``sent`` has grown by its size. One pending event a server, O(log n) a change.
    """

    __slots__ = (
        "_broken_off", "_heap", "_hungry", "_kernel", "_line", "_pace", "_seen_ms", "_seq", "_timer", "early", "node",
        "sent", "sharers", "up",
    )  # fmt: skip

    def __init__(self, node: NodeId, kernel: Kernel, pace: Pace, broken_off: Finished) -> None:
        """``broken_off`` is told of each machine that was sent too little for too long."""
        self.node = node
        self.up = False
        self.early = 0
        self.sharers = 0
        self.sent = 0
        self._kernel, self._pace, self._broken_off = kernel, pace, broken_off
        self._heap: list[tuple[int, int, Loading, Finished]] = []
        self._seq = 0
        self._seen_ms = 0
        self._timer: Handle | None = None
        self._hungry: Handle | None = None
        self._line: deque[tuple[Loading, int, Finished]] = deque()

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def join(self, boot: Loading, image_bytes: int, finished: Finished) -> None:
        """Begin to send an image, or put the machine in line."""
        self._line.append((boot, image_bytes, finished))
        self._advance()
        self._plan()

    def leave(self, boot: Loading) -> None:
        """Stop sending to a machine that went away, or take it out of the line."""
        if boot.sharing:
            self._advance()
            boot.sharing = False
            self.sharers -= 1
            self._plan()
        else:
            self._line = deque(entry for entry in self._line if entry[0] is not boot)

    def stop(self) -> list[Loading]:
        """Go down; return the machines whose images were cut off, in the order in which they would have finished."""
        self.up = False
        self._advance()
        lost = [entry[2] for entry in sorted(self._heap, key=_order) if entry[2].sharing]
        for boot in lost:
            boot.sharing = False
        lost += [entry[0] for entry in self._line]
        self.sharers = 0
        self._heap.clear()
        self._line.clear()
        self._plan()
        return lost

    def _share(self) -> int:
        """Bytes a ms that each sharer gets."""
        return max(1, min(self._pace.server_bytes_per_ms // self.sharers, self._pace.client_bytes_per_ms))

    def _advance(self) -> None:
        now = self._kernel.now
        if self.sharers:
            self.sent += (now - self._seen_ms) * self._share()
        self._seen_ms = now

    def _plan(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._heap and not self._heap[0][2].sharing:
            heappop(self._heap)
        while self._line and (not self._pace.streams_max or self.sharers < self._pace.streams_max):
            boot, image_bytes, finished = self._line.popleft()
            boot.sharing, boot.finish = True, self.sent + image_bytes
            self.sharers += 1
            self._seq += 1
            heappush(self._heap, (boot.finish, self._seq, boot, finished))
        if self._heap:
            left = max(0, self._heap[0][0] - self.sent)
            self._timer = self._kernel.after(-(-left // self._share()), self._finish)
        self._look_hungry()

    def _finish(self) -> None:
        self._timer = None
        self._advance()
        finished = []
        while self._heap and (self._heap[0][0] <= self.sent or not self._heap[0][2].sharing):
            _, _, boot, tell = heappop(self._heap)
            if boot.sharing:
                boot.sharing = False
                self.sharers -= 1
                finished.append((boot, tell))
        self._plan()
        for boot, tell in finished:
            tell(boot)

    def _look_hungry(self) -> None:
        """Begin or end the time after which the latest break off because there is too little for so many."""
        hungry = self.sharers > 0 and self._share() < self._pace.least_bytes_per_ms
        if not hungry and self._hungry is not None:
            self._hungry.cancel()
            self._hungry = None
        elif hungry and self._hungry is None:
            self._hungry = self._kernel.after(self._pace.patience_ms, self._break_off)

    def _break_off(self) -> None:
        """Lose as many of the latest as are too many; what they were sent was in vain."""
        self._hungry = None
        self._advance()
        fed = max(1, self._pace.server_bytes_per_ms // self._pace.least_bytes_per_ms)
        by_age = sorted((entry for entry in self._heap if entry[2].sharing), key=lambda entry: entry[1])
        for entry in by_age[fed:]:
            entry[2].sharing = False
            self.sharers -= 1
        self._heap = by_age[:fed]
        heapify(self._heap)
        self._plan()
        for entry in by_age[fed:]:
            self._broken_off(entry[2])


def _order(entry: tuple[int, int, Loading, Finished]) -> tuple[int, int]:
    return entry[:2]
