"""What one client has asked and not been answered: in order, each with a deadline, and with outcomes that stay unknown.

A request takes effect at the servers before it is answered. If the connection breaks in between, it happened and the
client does not know; a request that timed out while it waited may still be sent by the next connection.
"""

from collections.abc import Callable
from enum import IntEnum

import msgspec

from twin.calibration import Sampled
from twin.kernel import Handle, Kernel
from twin.streams import Stream
from twin.world.quirks import Quirks


class Stage(IntEnum):
    """How far a request got."""

    WAITING = 0
    SENT = 1
    HAPPENED = 2


class Request(msgspec.Struct, eq=False, kw_only=True):
    """One request. ``run`` takes effect at the servers and returns how to answer; ``lost`` answers "unknown".

    ``ambiguous``: a break may come just after it took effect. ``on_time`` is False once it was answered.
    """

    run: Callable[[], Callable[[], None]]
    lost: Callable[[], None]
    latency_ms: Sampled
    deadline_ms: int
    extra_ms: int = 0
    ambiguous: bool = True
    on_time: bool = True
    stage: Stage = Stage.WAITING
    reply: Callable[[], None] | None = None
    step: Handle | None = None
    deadline: Handle | None = None


class Requests:
    """The requests of one client, first in, first out.

    ``serving``: a leader can commit now; ``lose`` breaks the connection, which ends in ``drop``.
    """

    def __init__(
        self,
        kernel: Kernel,
        stream: Stream,
        serving: Callable[[], bool],
        quirks: Quirks,
        lose: Callable[[], None],
    ) -> None:
        self._kernel = kernel
        self._stream = stream
        self._serving = serving
        self._quirks = quirks
        self._lose = lose
        self._pending: dict[Request, None] = {}
        self._last_effect_ms = 0
        self._last_answer_ms = 0

    def __len__(self) -> int:
        return len(self._pending)

    def submit(self, request: Request, linked: bool) -> None:
        """Take a request; it is sent now if ``linked``, else it waits."""
        self._pending[request] = None
        if linked:
            self._send(request)
        else:
            self._watch_deadline(request)

    def broke(self) -> None:
        """Nothing goes through any more; what was under way happened just before, or not at all."""
        happened = True
        for request in list(self._pending):
            if request.step is not None:
                request.step.cancel()
                request.step = None
            if request.stage is Stage.SENT:
                happened = happened and request.ambiguous and self._stream.chance(0.5)
                request.stage = Stage.WAITING
                if happened:
                    request.stage = Stage.HAPPENED
                    request.reply = request.run()
            self._watch_deadline(request)

    def resume(self) -> None:
        """Go on over the same connection or a new one."""
        for request in list(self._pending):
            if request.stage is Stage.WAITING:
                self._send(request)
            elif request.stage is Stage.HAPPENED and request.step is None:
                request.step = self._kernel.after(1, self._answer, request)

    def drop(self) -> None:
        """The connection is gone: every answer is unknown."""
        pending, self._pending = self._pending, {}
        for request in pending:
            self._close(request)
            if request.on_time:
                request.on_time = False
                request.lost()

    def abandon(self) -> None:
        """The asker died: what was sent may still happen, nobody is answered."""
        for request in self._pending:
            request.on_time = False
            if request.deadline is not None:
                request.deadline.cancel()
        self._pending = {}

    def _send(self, request: Request) -> None:
        total_ms = request.latency_ms.draw(self._stream) + request.extra_ms
        there_ms = max(1, total_ms - 1)
        at_ms = max(self._kernel.now + there_ms, self._last_effect_ms)
        self._last_effect_ms = at_ms
        request.stage = Stage.SENT
        request.step = self._kernel.at(at_ms, self._happen, request)
        if at_ms + 1 >= request.deadline_ms:
            self._watch_deadline(request)

    def _happen(self, request: Request) -> None:
        request.step = None
        if not self._serving():
            request.stage = Stage.WAITING
            return
        if self._quirks.armed and self._breaks(request):
            return
        request.stage = Stage.HAPPENED
        request.reply = request.run()
        if request in self._pending:
            at_ms = max(self._kernel.now + 1, self._last_answer_ms)
            if self._quirks.armed:
                at_ms = self._later(request, at_ms)
            self._last_answer_ms = at_ms
            if at_ms >= request.deadline_ms:
                self._watch_deadline(request)
            request.step = self._kernel.at(at_ms, self._answer, request)

    def _breaks(self, request: Request) -> bool:
        """Whether the connection breaks just now, because of a commit: before it took effect, or after."""
        if not request.ambiguous or request not in self._pending:
            return False
        if not self._quirks.take("commit_lost"):
            if not self._quirks.take("commit_answer_lost"):
                return False
            request.run()
        self._lose()  # what was sent behind it never arrives
        return True

    def _later(self, request: Request, at_ms: int) -> int:
        """When a server that is slow to answer does so: in time, unless it lags behind as a whole."""
        now = self._kernel.now
        late, lag = self._quirks.take("answer_late"), self._quirks.look("follower_lag")
        if late is not None:
            at_ms = max(at_ms, min(now + late.ms, request.deadline_ms - 1))
        return max(at_ms, now + lag.ms) if lag is not None else at_ms

    def _answer(self, request: Request) -> None:
        request.step = None
        if self._pending.pop(request, request) is None and request.on_time:
            self._close(request)
            request.on_time = False
            assert request.reply is not None
            request.reply()

    def _watch_deadline(self, request: Request) -> None:
        if request.deadline is None and request.on_time:
            request.deadline = self._kernel.at(request.deadline_ms, self._late, request)

    def _late(self, request: Request) -> None:
        request.deadline = None
        if not request.on_time:
            return
        request.on_time = False
        if request.stage is not Stage.WAITING or not request.ambiguous or self._stream.chance(0.5):
            self._pending.pop(request, None)
        request.lost()

    def _close(self, request: Request) -> None:
        for handle in (request.step, request.deadline):
            if handle is not None:
                handle.cancel()
        request.step = request.deadline = None
