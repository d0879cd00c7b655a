"""One client's connection: its session, the server it talks to, and its mirrors, through breaks and reconnects.

Being cut off is never an event. A client that reaches a serving server again resumes its session or learns its end.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from core.events import AnyEvent, RecordsChanged, SessionEnded, SessionOpened
from core.ids import NO_NODE, NO_SESSION, NodeId, SessionId
from core.ports import Emit
from core.records import Change
from twin.kernel import Handle, Kernel
from twin.streams import Stream
from twin.world.quirks import Quirks
from twin.world.zookeeper_feed import Feed
from twin.world.zookeeper_requests import Requests
from twin.world.zookeeper_sessions import Sessions
from twin.world.zookeeper_times import ZooKeeperTimes
from twin.world.zookeeper_tree import within


class Servers(Protocol):
    """What a connection needs of the ensemble."""

    @property
    def kernel(self) -> Kernel: ...

    @property
    def times(self) -> ZooKeeperTimes: ...

    @property
    def sessions(self) -> Sessions: ...

    @property
    def leader(self) -> NodeId: ...

    def quorum(self) -> bool:
        """Whether a leader can commit now."""
        ...

    def usable(self, node: NodeId, server: NodeId) -> bool:
        """Whether a client there reaches that server, and it serves what the quorum commits."""
        ...

    def choose(self, node: NodeId, avoid: NodeId = NO_NODE) -> NodeId:
        """A usable server, another than ``avoid`` if there is one; NO_NODE if there is none."""
        ...

    def hangs_ms(self, node: NodeId, server: NodeId, busy: bool) -> int:
        """How long a client takes to notice that its server is no use any more."""
        ...

    def feed(self, server: NodeId) -> Feed: ...

    def zxid(self) -> int: ...

    def listing(self, root: str, depth: str) -> tuple[Change, ...]: ...


class Link:
    """The connection of one node's agents. ``linked``: pings reach the leader and requests are served."""

    def __init__(self, node: NodeId, servers: Servers, stream: Stream) -> None:
        self.node = node
        self.session = NO_SESSION
        self.saved_session = NO_SESSION
        self.linked = False
        self.server = NO_NODE
        self.mirrors: dict[str, str] = {}
        self.floor = 0
        self.keep_alive_ms = 0
        self.last_request_ms = 0
        self.emit: Emit = _nobody
        self.listeners: list[Callable[[], None]] = []
        self.quirks = Quirks()
        self.requests = Requests(servers.kernel, stream, servers.quorum, self.quirks, self._lose)
        self._servers = servers
        self._kernel = servers.kernel
        self._stream = stream
        self.closing = False
        """Set while the client closes its own session."""
        self._running = self._frozen = self._wanted = False
        self._resuming = NO_SESSION
        self._timer: Handle | None = None
        self._unread: dict[str, None] = {}
        self._reading: Handle | None = None
        self._held: deque[RecordsChanged] = deque()
        self._held_until_ms = 0
        self._avoid = NO_NODE

    @property
    def on_leader(self) -> bool:
        """Whether its server is the leader."""
        return self.server == self._servers.leader

    @property
    def running(self) -> bool:
        """Whether an agent process exists."""
        return self._running

    def start(self) -> None:
        """Begin a new agent process."""
        self._running = True

    def die(self) -> None:
        """End the agent process; its session lives on until it expires."""
        self._running = self._frozen = self._wanted = False
        self.requests.abandon()
        self._unlink()
        self._disconnect()
        self._forget()

    def freeze(self) -> None:
        """Stop pinging; what is under way goes on."""
        if self._running and not self._frozen:
            self._frozen = True
            self._unlink()
            self._cancel()

    def thaw(self) -> None:
        """Ping again; what happened to the session is learnt a little later."""
        if self._frozen:
            self._frozen = False
            self._later(self._servers.times.thaw_ms.draw(self._stream), self._awake)

    def open(self, resume: SessionId) -> None:
        """Connect and keep connecting, with the session ``resume`` if it still lives."""
        self._unlink()
        self._disconnect()
        self._forget()
        self._wanted = True
        self.session = self._resuming = resume
        if self._servers.choose(self.node):
            self._later(self._servers.times.connect_ms.draw(self._stream), self._connect)

    def refresh(self) -> None:
        """Work out what a change of servers or paths means for this connection. O(1)."""
        if not self._wanted or self._frozen:
            return
        usable = self.server != NO_NODE and self._servers.usable(self.node, self.server)
        if usable and not self.linked:
            self._cancel()
            if self._servers.sessions.live(self.session):
                self._join()
                self.requests.resume()
            else:
                self._break_off()
        elif not usable and self.linked:
            self._hang()
        elif self.server == NO_NODE:
            self._seek()

    def drop(self, move: bool = False) -> None:
        """Break the connection: what is under way is lost. ``move``: go on with another server, if there is one."""
        if self.linked:
            self._avoid = self.server if move else NO_NODE
            self._unlink()
            self.requests.broke()
            self._suspend()

    def mirror(self, path: str, depth: str) -> None:
        """Keep one more path mirrored."""
        self.unmirror(path)
        self.mirrors[path] = depth
        self._unread[path] = None
        self._read_later()

    def unmirror(self, path: str) -> None:
        """Mirror a path no more."""
        depth = self.mirrors.get(path)
        if depth is not None:
            if self.linked:
                self._servers.feed(self.server).unwatch(self, path, depth)
            del self.mirrors[path]
            self._unread.pop(path, None)

    def deliver(self, event: RecordsChanged) -> None:
        """Pass a watch event on (``zookeeper_feed.Receiver``)."""
        if self.quirks.armed or self._held:
            self._hold(event)
        else:
            self.emit(event)

    def session_over(self, session: SessionId) -> None:
        """The session ended (``zookeeper_sessions.Owner``): a connected client is told, others when they come back."""
        if session == self.session and self.closing:
            self.closing = self._wanted = False
            self._unlink()
            self._disconnect()
            self._forget()
        elif session == self.session and self.linked:
            self._unlink()
            self._break_off()

    def session_moved(self, session: SessionId) -> None:
        """Another connection took the session up (``zookeeper_sessions.Owner``)."""
        if session == self.session:
            self._unlink()
            self._disconnect()
            self.requests.drop()

    def changed(self) -> None:
        """Tell whoever watches the health of this connection."""
        for listener in self.listeners:
            listener()

    # -- connected or not ----------------------------------------------------------------------------------------------

    def _join(self) -> None:
        """Requests and pings go through (again): all mirrors are read anew."""
        self.linked = True
        self.floor = 0
        self._servers.feed(self.server).attach(self)
        self._servers.sessions.heard(self.session)
        self._unread = dict.fromkeys(self.mirrors)
        self._read_later()
        self.changed()

    def _unlink(self) -> None:
        """Nothing goes through; a leader that is still there begins to count."""
        if self.linked:
            self.linked = False
            self._held.clear()
            self._servers.feed(self.server).detach(self)
            self._servers.sessions.silent(self.session)
            self.changed()

    def _hang(self) -> None:
        delay_ms = self._servers.hangs_ms(self.node, self.server, len(self.requests) > 0)
        self._unlink()
        self.requests.broke()
        self._later(delay_ms, self._suspend)

    def _lose(self) -> None:
        """The connection breaks in this moment: nothing that is on its way arrives."""
        self._unlink()
        self._suspend()

    def _break_off(self) -> None:
        """The server closed the connection because the session is over: the client learns it at its next one."""
        self._disconnect()
        self.requests.drop()
        self._later(self._servers.times.suspended_ms.draw(self._stream), self._connect)

    def _suspend(self) -> None:
        """The client notices: everything under way is lost, it looks for another server."""
        self._disconnect()
        self.requests.drop()
        self._seek()

    def _disconnect(self) -> None:
        self._cancel()
        self.server = NO_NODE

    def _seek(self) -> None:
        if self._timer is None and self._wanted and not self._frozen and self._servers.choose(self.node):
            self._later(self._servers.times.reconnect_ms.draw(self._stream), self._connect)

    def _awake(self) -> None:
        self._timer = None
        if self.server != NO_NODE and not self._servers.usable(self.node, self.server):
            self._suspend()
        else:
            self.refresh()

    def _connect(self) -> None:
        self._timer = None
        server = self._servers.choose(self.node, self._avoid)
        if not self._wanted or server == NO_NODE:
            return
        if self.quirks.armed and self.session and self.quirks.take("session_refused"):
            self._later(self._servers.times.reconnect_ms.draw(self._stream), self._connect)
            return
        sessions, now = self._servers.sessions, self._kernel.now
        if self.session and not sessions.live(self.session):
            if self.session != self._resuming:
                self._learn_end(self.session)
                return
            self.session = NO_SESSION
        resumed = bool(self.session)
        if resumed:
            sessions.take_up(self.session, self)
        else:
            self.session = sessions.open(self)
        self._resuming, self._avoid = NO_SESSION, NO_NODE
        self.saved_session = self.session
        self.server = server
        self._join()
        self.emit(SessionOpened(at_ms=now, session=self.session, resumed=resumed))
        self.requests.resume()

    def _learn_end(self, ended: SessionId) -> None:
        self._wanted = False
        self._forget()
        self.requests.drop()
        self.changed()
        self.emit(SessionEnded(at_ms=self._kernel.now, session=ended))

    def _forget(self) -> None:
        self.session = self._resuming = NO_SESSION
        self.mirrors = {}
        self._unread = {}

    # -- mirrors -------------------------------------------------------------------------------------------------------

    def _read_later(self) -> None:
        if self.linked and self._reading is None and self._unread:
            self._reading = self._kernel.after(max(1, self._servers.times.read_ms.draw(self._stream)), self._read)

    def _read(self) -> None:
        """Read all new mirrors at once; what is below them is shared with every other reader."""
        self._reading = None
        if not self.linked or not self._unread:
            return
        unread, self._unread = self._unread, {}
        feed = self._servers.feed(self.server)
        feed.catch_up(self, self._servers.zxid())
        roots = tuple(root for root in unread if root in self.mirrors)  # catching up may have ended some
        for root in roots:
            feed.watch(self, root, self.mirrors[root])
        listings = [self._servers.listing(root, self.mirrors[root]) for root in roots]
        changes = listings[0] if len(listings) == 1 else tuple(change for part in listings for change in part)
        self.deliver(RecordsChanged(at_ms=self._kernel.now, changes=changes, resync=True, roots=roots))

    # -- rare but legal ------------------------------------------------------------------------------------------------

    def _hold(self, event: RecordsChanged) -> None:
        """Tell an event late, behind those that are late already; or tell everything once more."""
        quirks, now = self.quirks, self._kernel.now
        late, lag = quirks.take("watch_late"), quirks.look("follower_lag")
        if not event.resync and quirks.take("watch_repeated"):
            self._unread = dict.fromkeys(self.mirrors)
            self._read_later()
        late_ms = max(late.ms if late is not None else 0, lag.ms if lag is not None else 0)
        if not late_ms and not self._held:
            self.emit(event)
            return
        self._held_until_ms = max(self._held_until_ms, now + late_ms)
        self._held.append(event)
        self._kernel.at(self._held_until_ms, self._tell_held, event)

    def _tell_held(self, event: RecordsChanged) -> None:
        """Tell the oldest held event, without what is mirrored no more; a break has made it void."""
        if not self._held or self._held[0] is not event:
            return
        self._held.popleft()
        roots = tuple(root for root in event.roots if root in self.mirrors)
        mine = [c for c in event.changes if any(within(c.path, root, depth) for root, depth in self.mirrors.items())]
        if roots or mine:
            at_ms = self._kernel.now
            self.emit(RecordsChanged(at_ms=at_ms, changes=tuple(mine), resync=event.resync, roots=roots))

    def _later(self, ms: int, fn: Callable[[], None]) -> None:
        self._cancel()
        self._timer = self._kernel.after(ms, fn)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _nobody(event: AnyEvent) -> None:
    """Nobody listens before the first effect."""
