"""Sessions of the ensemble: pings are implicit, only an expiry is ever scheduled.

Model: detect = T - age + F + U(0, tick), on a tick boundary of the leader; a new leader restarts every session.
Source: facts/zookeeper.md section 2 (measured against 100 kills).
"""

from collections.abc import Callable
from typing import Protocol

from core.ids import SessionId
from twin.kernel import Handle, Kernel
from twin.streams import Stream
from twin.world.quirks import Quirks
from twin.world.zookeeper_times import ZooKeeperTimes


class Owner(Protocol):
    """The client that uses a session. ``linked``: its pings reach the leader."""

    keep_alive_ms: int

    @property
    def linked(self) -> bool: ...

    @property
    def last_request_ms(self) -> int: ...

    @property
    def on_leader(self) -> bool: ...

    def session_over(self, session: SessionId) -> None:
        """The session is gone (the client may not know yet)."""
        ...

    def session_moved(self, session: SessionId) -> None:
        """Another connection took the session up."""
        ...


class Session:
    """One session; ``expiry`` is pending while nothing is heard of its owner."""

    __slots__ = ("expiry", "id", "owner")

    def __init__(self, session: SessionId, owner: Owner) -> None:
        self.id = session
        self.owner = owner
        self.expiry: Handle | None = None


class Sessions:
    """All live sessions. ``serving``: a leader can commit now; ``on_end`` deletes what a session owned."""

    def __init__(
        self,
        kernel: Kernel,
        stream: Stream,
        times: ZooKeeperTimes,
        timeout_ms: int,
        serving: Callable[[], bool],
        on_end: Callable[[SessionId], None],
    ) -> None:
        self.timeout_ms = timeout_ms
        self.quirks = Quirks()
        self._kernel = kernel
        self._stream = stream
        self._times = times
        self._serving = serving
        self._on_end = on_end
        self._live: dict[SessionId, Session] = {}
        self._last = 0
        self._phase_ms = stream.integers(0, times.tick_ms)

    def open(self, owner: Owner) -> SessionId:
        """Make a session."""
        self._last += 1
        session = SessionId(self._last)
        self._live[session] = Session(session, owner)
        return session

    def live(self, session: SessionId) -> bool:
        """Whether the session is not over."""
        return session in self._live

    def owner(self, session: SessionId) -> Owner | None:
        """Return who uses a session, None if it is over."""
        found = self._live.get(session)
        return found.owner if found else None

    def take_up(self, session: SessionId, owner: Owner) -> None:
        """Let ``owner`` use the session from now on; another's connection loses it."""
        found = self._live[session]
        if found.owner is not owner:
            previous, found.owner = found.owner, owner
            previous.session_moved(session)
        self.heard(session)

    def heard(self, session: SessionId) -> None:
        """Pings arrive again."""
        found = self._live.get(session)
        if found is not None and found.expiry is not None:
            found.expiry.cancel()
            found.expiry = None

    def silent(self, session: SessionId, *, fresh: bool = False) -> None:
        """Pings stopped just now; ``fresh``: count from now instead of from a ping some time ago."""
        found = self._live.get(session)
        if found is None or found.expiry is not None or not self._serving():
            return
        touched_ms = self._kernel.now if fresh else self._kernel.now - self._age_ms(found.owner)
        if not fresh and not found.owner.on_leader:
            touched_ms += self._stream.integers(0, max(1, self._times.tick_ms // 2))
        self._schedule(found, touched_ms)

    def restart(self) -> None:
        """A new leader (or the old one, after a stall) gives every session its full time."""
        self._phase_ms = (self._kernel.now + self._stream.integers(0, self._times.tick_ms)) % self._times.tick_ms
        for session in list(self._live.values()):
            if session.expiry is not None:
                session.expiry.cancel()
                session.expiry = None
            if not session.owner.linked:
                self._schedule(session, self._kernel.now)

    def end(self, session: SessionId) -> None:
        """End a session by a commit: its ephemerals go, its owner will learn of it when connected."""
        found = self._live.pop(session, None)
        if found is None:
            return
        if found.expiry is not None:
            found.expiry.cancel()
        self._on_end(session)
        found.owner.session_over(session)

    def _age_ms(self, owner: Owner) -> int:
        """How long ago the server heard of the owner last: uniform in its ping period, or since its last request."""
        if owner.keep_alive_ms:
            period_ms = owner.keep_alive_ms
        else:
            jitter_ms = self._times.ping_jitter_ms.draw(self._stream)
            period_ms = max(self.timeout_ms // 3 - jitter_ms, jitter_ms)
        return min(self._stream.integers(0, period_ms), self._kernel.now - owner.last_request_ms)

    def _schedule(self, session: Session, touched_ms: int) -> None:
        tick_ms = self._times.tick_ms
        due_ms = touched_ms + self.timeout_ms - self._phase_ms
        at_ms = self._phase_ms + (due_ms // tick_ms + 1) * tick_ms + self._times.expiry_lag_ms
        session.expiry = self._kernel.at(at_ms, self._expire, session)

    def _expire(self, session: Session) -> None:
        late = self.quirks.take("ephemeral_late") if self.quirks.armed else None
        if late is not None:
            session.expiry = self._kernel.after(late.ms, self._expire, session)
            return
        session.expiry = None
        if self._serving():
            self.end(session.id)
