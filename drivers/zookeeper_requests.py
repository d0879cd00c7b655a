"""What one agent has asked of ZooKeeper and not been answered: each in its session, each with a limit, each once.

While no server answers, requests wait; one that was never sent is answered at its limit as if it had been, because its
asker must settle both alike. One that was sent when the connection broke may have happened.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from core.ids import NO_SESSION, SessionId
from drivers.loop import Loop, Timer
from drivers.zookeeper import Client
from drivers.zookeeper_codec import EXPIRED, LOST, Failure, failure

Then = Callable[[Failure | None, Any], None]
_LATE = Failure(reason="unanswered", detail="no answer within the limit")


class Request(msgspec.Struct, eq=False, kw_only=True):
    """One request. ``send`` asks and passes on what came of it; then one of ``done`` and ``failed`` is called, once."""

    session: SessionId
    send: Callable[[Client, Then], None]
    done: Callable[[Any], None]
    failed: Callable[[Failure], None]
    sent: bool = False
    timer: Timer | None = None


class Requests:
    """All requests of one agent, in order. ``session``: the one they must be in."""

    def __init__(self, loop: Loop) -> None:
        self.session = NO_SESSION
        self._loop = loop
        self._client: Client | None = None
        self._pending: dict[Request, None] = {}

    def add(self, request: Request, ms_max: int) -> None:
        """Send a request, now or once there is a connection; it fails at once in another session."""
        if not request.session or request.session != self.session:
            request.failed(failure(EXPIRED))
            return
        self._pending[request] = None
        request.timer = self._loop.after(ms_max, lambda: self._finish(request, _LATE, None))
        if self._client is not None:
            self._send(request, self._client)

    def connected(self, client: Client, session: SessionId) -> None:
        """Send what waits; what waits for another session fails."""
        self.session = session
        self._client = client
        for request in list(self._pending):
            if request.session != session:
                self._finish(request, failure(EXPIRED), None)
            elif not request.sent:
                self._send(request, client)

    def broken(self) -> None:
        """Answer what was sent: nobody knows what came of it."""
        self._client = None
        for request in [request for request in self._pending if request.sent]:
            self._finish(request, failure(LOST), None)

    def over(self) -> None:
        """The session is over: nothing that waits can be sent any more."""
        self.broken()
        self.session = NO_SESSION
        for request in list(self._pending):
            self._finish(request, failure(EXPIRED), None)

    def _send(self, request: Request, client: Client) -> None:
        request.sent = True
        request.send(client, lambda why, value: self._finish(request, why, value))

    def _finish(self, request: Request, why: Failure | None, value: Any) -> None:
        if self._pending.pop(request, request) is request:
            return  # answered already
        if request.timer is not None:
            request.timer.cancel()
        if why is None:
            request.done(value)
        else:
            request.failed(why)
