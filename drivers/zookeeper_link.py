"""One agent's connection to ZooKeeper: its session, its servers and its mirrors, through breaks and reconnects.

Being cut off is never an event. A client that reaches a serving server again resumes its session or learns its end.
"""

import logging
import threading
from collections.abc import Callable
from functools import partial

from core.events import AnyEvent, RecordsChanged, SessionEnded, SessionOpened
from core.ids import NO_SESSION, NodeId, SessionId
from core.ports import Emit
from core.records import ENSEMBLE, Change, EnsembleRecord
from drivers import zookeeper_jute as jute
from drivers import zookeeper_server as server
from drivers.access import endpoint
from drivers.clock import now_ms
from drivers.config import Config
from drivers.loop import Loop
from drivers.zookeeper import Client, Listener
from drivers.zookeeper_codec import DENIED, OK
from drivers.zookeeper_mirrors import Mirrors, Seen
from drivers.zookeeper_opening import Opening
from drivers.zookeeper_records import Records
from drivers.zookeeper_requests import Requests
from drivers.zookeeper_session import Credential, Kept
from drivers.zookeeper_tree import ROOT, servers_in_order, window

TICKS = 16
"""So many times in a session's time the connection is looked after."""
TURN_MS = 2_000
"""While no server answers, others are tried from time to time."""
HUNG_MS = 10_000
"""A request that waits longer than this (and three session timeouts) although others are answered: begin anew."""
DEAD_MS = 250
Follow = Callable[[tuple[Change, ...], tuple[str, ...]], None]
"""Who takes changes and roots (``core.events.RecordsChanged``) beside the machine, in the loop."""
_LOG = logging.getLogger(__name__)


class Link:
    """The connection of one agent; all of it belongs to the loop. ``emit`` is set by its owner before ``open``."""

    def __init__(self, config: Config, loop: Loop, follow: Follow | None = None) -> None:
        tables = config.tables
        self.kept = Kept(tables.run_dir, tables.state_dir)
        self.requests = Requests(loop)
        self.records = Records(config.node, config.machines, tables.tls is not None)
        self.mirrors = Mirrors(_Source(self, loop), self.records.change, self._tell, self._drop)
        self.emit: Emit = _nobody
        self.ready = False
        self.client: Client | None = None
        self._config = config
        self._follow = follow
        self._loop = loop
        self._timeout_ms = config.timing.session_timeout_ms
        self._voters = self.kept.voters()
        self._credential: Credential | None = None
        self._known = self._prepared = NO_SESSION
        self._zxid = self._silent = self._turn = 0
        self._turned_ms = now_ms()
        self._mute = ""
        self._tick()

    def open(self, resume: SessionId) -> None:
        """Connect, taking up ``resume`` if its credential is known; what was asked in another session is over."""
        self.end()
        kept = self.kept.credential()
        self._credential = kept if kept is not None and kept.session == resume else None
        self._known = self._credential.session if self._credential is not None else NO_SESSION
        self.requests.session = self._known
        self._connect()

    def end(self) -> None:
        """Have no session any more."""
        self.leave()
        self.mirrors.clear()
        self.requests.over()
        self._credential = None
        self._known = NO_SESSION

    def leave(self) -> threading.Thread | None:
        """Give the connection up, not the session; the thread ends when all of it is gone."""
        client, self.client = self.client, None
        if client is None:
            return None
        self.ready = False
        self._zxid = max(self._zxid, client.zxid)
        return client.leave()

    @property
    def voters(self) -> tuple[NodeId, ...]:
        """The last voters that this node knew of; none if it never did."""
        return self._voters

    def endpoints(self) -> tuple[str, ...]:
        """The servers to try now, in order: ``ADDRESS:PORT``."""
        machines = self._config.machines
        known = tuple(node for node in self._voters if node in machines)
        if not known and server.configured(self._config):
            known = (self._config.node,)
        order = window(servers_in_order(self._config.node, machines, known), len(known), self._turn)
        port = self._config.tables.zookeeper.client_port
        found = [endpoint(machines[node].address, port) for node in order]
        return tuple(sorted(found, key=lambda one: one == self._mute))  # who fell silent comes last

    # -- the session ---------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._turn, self._turned_ms = 0, now_ms()
        listener = Listener(
            connected=self._connected,
            broken=self._broken,
            over=self._over,
            dead=self._dead,
            event=self.mirrors.on_event,
        )
        tls, resume = self._config.tables.tls, self._credential
        self.client = Client(self._loop, listener, self.endpoints(), self._timeout_ms, tls, resume, self._zxid)
        self.client.start()

    def _reconnect(self) -> None:
        """Begin with a new client in the same session: this one is no good."""
        self.leave()
        self.mirrors.disconnected()
        self.requests.broken()
        self._connect()

    def _dead(self) -> None:
        self._broken()
        client = self.client
        self._loop.after(DEAD_MS, lambda: self._reconnect() if self.client is client else None)

    def _connected(self, credential: Credential) -> None:
        client = self.client
        assert client is not None  # a client that was left tells nothing
        self._credential = credential
        if credential.session != self._known:
            self.requests.over()
        if credential.session != self.kept.session:
            _keep(lambda: self.kept.keep(credential))
        if credential.session == self._prepared:
            self._begin(client, credential.session)
        else:
            begin = partial(self._begin, client, credential.session)
            Opening(self._config, client, credential, begin, self._take_ensemble)

    def _begin(self, client: Client, session: SessionId) -> None:
        """The session can be used."""
        if self.client is not client:
            return
        if self._mute:
            self._mute = ""
            client.set_endpoints(self.endpoints())
        resumed = session == self._known
        self._known = self._prepared = session
        self.ready = True
        self.emit(SessionOpened(at_ms=now_ms(), session=session, resumed=resumed))
        self.requests.connected(client, session)
        self.mirrors.connected()

    def _broken(self) -> None:
        self.ready = False
        self._turn, self._turned_ms = 0, now_ms()
        self.requests.broken()
        self.mirrors.disconnected()

    def _over(self) -> None:
        """A server said that the session is over."""
        credential, known = self._credential, self._known
        self.end()
        if credential is not None and credential.session == known:
            self.emit(SessionEnded(at_ms=now_ms(), session=credential.session))
        else:
            self._connect()  # it ended before the machine heard of it, which waits for one

    def _drop(self) -> None:
        if self.client is not None:
            self.client.drop()

    # -- what is told --------------------------------------------------------------------------------------------------

    def _tell(self, changes: tuple[Change, ...], roots: tuple[str, ...]) -> None:
        for change in changes:
            if change.path == ENSEMBLE:
                self._take_ensemble(change)
        if self._follow is not None:
            self._follow(changes, roots)  # before the machine hears of them: its orders name nodes
        self.emit(RecordsChanged(at_ms=now_ms(), changes=changes, resync=bool(roots), roots=roots))

    def _take_ensemble(self, change: Change) -> None:
        """Use the voters of the current configuration from the next reconnect on."""
        record = change.data
        if isinstance(record, EnsembleRecord) and record.voters != self._voters:
            self._voters = record.voters
            _keep(lambda: self.kept.keep_voters(record.voters))
            if len(record.voters) > 1:
                _keep(lambda: server.has_grown(self._config))
            if self.client is not None:
                self.client.set_endpoints(self.endpoints())

    # -- looking after it ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Keep the session young, leave a server that has fallen silent, try other servers."""
        self._loop.after(self._timeout_ms // TICKS, self._tick)
        client, now = self.client, now_ms()
        if client is None:
            return
        self._silent = self._silent + 1 if client.silent_ms() > self._timeout_ms // 2 else 0
        if client.waiting_ms() > max(3 * self._timeout_ms, HUNG_MS):
            self._reconnect()
        elif self._silent > 1:  # twice: a process that was stopped must first read what has come
            self._silent = 0
            self._mute = client.server
            client.set_endpoints(self.endpoints())
            client.drop()
        elif self.ready and now - client.asked_ms >= self._timeout_ms // 4:
            client.get(ROOT, _ignored)
        elif not self.ready and now - self._turned_ms >= TURN_MS:
            self._turn, self._turned_ms = self._turn + 1, now
            client.set_endpoints(self.endpoints())


class _Source:
    """The current connection as mirrors see it (``zookeeper_mirrors.Source``)."""

    def __init__(self, link: Link, loop: Loop) -> None:
        self._link = link
        self._loop = loop

    def get(self, path: str, then: Callable[[Seen | None], None]) -> None:
        def take(error: int, seen: Seen | None) -> None:
            then(Seen(zxid=0, data=b"") if error == DENIED else seen)

        self._client().get(path, take)

    def children(self, path: str, then: Callable[[tuple[str, ...] | None], None]) -> None:
        self._client().children(path, lambda _, names: then(names))

    def watch(self, path: str, recursive: bool, then: Callable[[bool], None]) -> None:
        self._client().ask(jute.watch(path, recursive), lambda error, _: then(error == OK))

    def unwatch(self, path: str) -> None:
        self._client().ask(jute.unwatch(path), _ignored)

    def soon(self, act: Callable[[], None]) -> None:
        self._loop.post(act)

    def _client(self) -> Client:
        client = self._link.client
        assert client is not None  # mirrors ask only while connected
        return client


def _keep(write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        _LOG.error("what the next agent needs cannot be kept: %s", error)


def _ignored(_error: int, _answer: object) -> None:
    """It only had to be asked."""


def _nobody(_: AnyEvent) -> None:
    """Nobody listens before the first effect."""
