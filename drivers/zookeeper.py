"""Connections to ZooKeeper: the one file that knows kazoo, and what has to be done differently than kazoo does it.

``Client`` is an agent's long-lived connection, with answers and watch events in the order they arrived; ``Brief`` is a
short blocking one. Kazoo keeps the session and reconnects; requests bypass its thread pools. None of its types leaves.
"""

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from kazoo.client import KazooClient  # type: ignore[import-untyped]  # kazoo ships no types
from kazoo.exceptions import ConnectionDropped, KazooException  # type: ignore[import-untyped]  # as above
from kazoo.handlers.threading import SequentialThreadingHandler  # type: ignore[import-untyped]  # as above
from kazoo.protocol import connection as wire  # type: ignore[import-untyped]  # as above
from kazoo.protocol.states import KazooState, KeeperState  # type: ignore[import-untyped]  # as above
from kazoo.retry import KazooRetry  # type: ignore[import-untyped]  # as above

from core.ids import SessionId
from drivers import zookeeper_jute as jute
from drivers.access import endpoint
from drivers.clock import now_ms
from drivers.config import Tls
from drivers.loop import Loop
from drivers.zookeeper_codec import LOST, MISSING, OK
from drivers.zookeeper_mirrors import Seen
from drivers.zookeeper_server import context, listening
from drivers.zookeeper_session import Credential
from drivers.zookeeper_tree import HOSTS_MAX

Then = Callable[[int, Any], None]
"""Takes an error number (``zookeeper_codec.OK``) and the answer, in the loop."""
CONNECT_MS_MIN = 250
_LOG = logging.getLogger("drivers.zookeeper")
_LOG.setLevel(logging.ERROR)  # below that kazoo tells of every attempt to connect, four a second


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """Who hears of a connection, in the loop. ``over``: a server said so. ``dead``: kazoo gave up, which is a bug."""

    connected: Callable[[Credential], None]
    broken: Callable[[], None]
    over: Callable[[], None]
    dead: Callable[[], None]
    event: Callable[[int, str], None]


class Client:
    """One session's connection, through breaks and reconnects, until ``leave``. All methods belong to the loop."""

    def __init__(
        self,
        loop: Loop,
        listener: Listener,
        endpoints: Sequence[str],
        timeout_ms: int,
        tls: Tls | None,
        resume: Credential | None = None,
        zxid: int = 0,
    ) -> None:
        """``zxid``: servers that know less than this are not used."""
        self._loop = loop
        self._listener = listener
        self._outstanding: dict[_Reply, int] = {}
        self._left = False
        self._zxid = zxid
        self.heard_ms = self.asked_ms = now_ms()
        self._kazoo = KazooClient(
            ",".join(endpoints),
            timeout=timeout_ms / 1_000,
            client_id=(resume.session, resume.password) if resume is not None else None,
            handler=_Sockets(tls, max(CONNECT_MS_MIN, timeout_ms // 8)),
            randomize_hosts=False,
            connection_retry=KazooRetry(max_tries=-1, delay=0.05, backoff=1.5, max_delay=0.25),
            logger=_LOG,
        )
        self._kazoo._connection = _Wire(self._kazoo, self._kazoo._conn_retry.copy(), logger=_LOG)
        self._kazoo._connection.ours = self
        self._kazoo.add_listener(self._state)

    def start(self) -> None:
        """Connect, and keep connecting."""
        self._kazoo.last_zxid = self._zxid
        self._kazoo.start_async()

    def leave(self) -> threading.Thread:
        """Give the connection up without ending the session; call once. Nothing is posted after the thread's end."""
        self._left = True
        self._outstanding.clear()
        self._kazoo._stopped.set()
        self._interrupt()
        putting_away = threading.Thread(target=self._put_away, name="zookeeper-leave", daemon=True)
        putting_away.start()
        return putting_away

    def drop(self) -> None:
        """Break the connection, so that another server is tried."""
        if self._kazoo.connected:
            self._interrupt()

    def set_endpoints(self, endpoints: Sequence[str]) -> None:
        """Use these servers from the next reconnect on, in this order."""
        self._kazoo.set_hosts(",".join(endpoints))

    @property
    def server(self) -> str:
        """The server that it talks to, or tried last: ``ADDRESS:PORT``."""
        server: str = self._kazoo.handler.server
        return server

    @property
    def zxid(self) -> int:
        """The last transaction that was seen."""
        return max(self._zxid, int(self._kazoo.last_zxid))

    def silent_ms(self) -> int:
        """How long the oldest request has waited without anything being heard; 0 if none waits."""
        return now_ms() - max(self._oldest(), self.heard_ms) if self._outstanding else 0

    def waiting_ms(self) -> int:
        """How long the oldest request has waited."""
        return now_ms() - self._oldest() if self._outstanding else 0

    # -- requests ------------------------------------------------------------------------------------------------------

    def get(self, path: str, then: Then) -> None:
        """Read a path: ``Seen``, with ``data`` None if it does not exist."""

        def take(error: int, answer: "_Answer") -> None:
            if error == MISSING:
                then(OK, Seen(zxid=answer.zxid))
            else:
                then(error, None if error else jute.read_get(answer.body, answer.offset))

        self._ask(jute.get(path), take)

    def children(self, path: str, then: Then) -> None:
        """Read the names below a path: a tuple, empty if it does not exist."""

        def take(error: int, answer: "_Answer") -> None:
            if error == MISSING:
                then(OK, ())
            else:
                then(error, None if error else jute.read_children(answer.body, answer.offset))

        self._ask(jute.children(path), take)

    def commit(self, ops: Sequence[jute.Request], then: Then) -> None:
        """Carry out all operations or none: ``zookeeper_jute.Outcome``."""

        def take(error: int, answer: "_Answer") -> None:
            errors = () if error else jute.read_transaction(answer.body, answer.offset)
            then(error, None if error else jute.Outcome(answer.zxid, errors))

        self._ask(jute.transaction(ops), take)

    def ask(self, request: jute.Request, then: Then) -> None:
        """Ask something whose answer is only whether it worked."""
        self._ask(request, lambda error, _: then(error, None))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _ask(self, request: jute.Request, then: Callable[[int, "_Answer"], None]) -> None:
        reply = _Reply(self, then)
        self._outstanding[reply] = self.asked_ms = now_ms()
        self._kazoo._call(request, reply)

    def _oldest(self) -> int:
        return next(iter(self._outstanding.values()))

    def _interrupt(self) -> None:
        """Let kazoo's thread break the connection; harmless if it has none."""
        self._kazoo._queue.append((wire._CONNECTION_DROP, None))
        sock = self._kazoo._connection._write_sock
        if sock is not None:
            sock.send(b"\0")

    def _put_away(self) -> None:
        """End kazoo's threads, which may take as long as a connection attempt does."""
        try:
            self._kazoo._safe_close()
            self._kazoo.close()
        except KazooException:
            _LOG.exception("a connection could not be closed")

    def answered(self, reply: "_Reply", error: int, answer: "_Answer") -> None:
        """Take an answer, in kazoo's thread."""
        self._loop.post(lambda: self._take(reply, error, answer))

    def fired(self, kind: int, path: str) -> None:
        """Take a watch event, in kazoo's thread."""
        self._loop.post(lambda: None if self._left else self._listener.event(kind, path))

    def _take(self, reply: "_Reply", error: int, answer: "_Answer") -> None:
        if self._outstanding.pop(reply, None) is not None and not self._left:
            reply.then(error, answer)

    def _state(self, state: str) -> None:
        """Hear of the session, in kazoo's thread."""
        kazoo, listener = self._kazoo, self._listener
        if state == KazooState.CONNECTED:
            credential = Credential(SessionId(kazoo._session_id), bytes(kazoo._session_passwd))
            self._loop.post(lambda: None if self._left else listener.connected(credential))
            return
        tell = listener.broken
        if state == KazooState.LOST:
            tell = listener.over if kazoo._state == KeeperState.EXPIRED_SESSION else listener.dead
            kazoo._stopped.set()  # else kazoo opens a new session, which is the machine's to ask for
        self._loop.post(lambda: None if self._left else tell())


class Brief:
    """A short conversation that blocks, with a session of its own. A context manager: at its end the session ends."""

    def __init__(
        self, endpoints: Sequence[str], tls: Tls | None, timeout_ms: int, session: Credential | None = None
    ) -> None:
        """Connect, taking up ``session`` if it lives; ``timeout_ms`` is that of the session and of each request.

        Raises: TimeoutError if no server answers; OSError (also ssl.SSLError) if the TLS files are bad.
        """
        context(tls)  # kazoo would try with bad files again and again
        self._timeout_ms = timeout_ms
        self._loop = Loop()
        self.session: SessionId | None = None
        listener = Listener(connected=self._connected, broken=_nothing, over=_nothing, dead=_nothing, event=_nothing)
        if len(endpoints) > HOSTS_MAX:  # a session's time is divided among them: too short to try the dead
            endpoints = listening(endpoints, timeout_ms // 2)[:HOSTS_MAX] or endpoints[:HOSTS_MAX]
        self._client = Client(self._loop, listener, endpoints, timeout_ms, tls, session)
        self._client.start()
        if not self._wait(lambda: self.session is not None):
            self._leave()
            raise TimeoutError("no server answered")

    def __enter__(self) -> "Brief":
        return self

    def __exit__(self, *_: object) -> None:
        """End the session."""
        self.ask(jute.close())
        self._leave()

    def get(self, path: str) -> tuple[int, Seen | None]:
        """Read a path: an error number, or what is there."""
        return self._run(lambda then: self._client.get(path, then))

    def children(self, path: str) -> tuple[int, tuple[str, ...] | None]:
        """Read the names below a path."""
        return self._run(lambda then: self._client.children(path, then))

    def commit(self, ops: Sequence[jute.Request]) -> tuple[int, jute.Outcome | None]:
        """Carry out all operations or none."""
        return self._run(lambda then: self._client.commit(ops, then))

    def ask(self, request: jute.Request) -> int:
        """Ask something whose answer is only whether it worked."""
        error: int = self._run(lambda then: self._client.ask(request, then))[0]
        return error

    def _leave(self) -> None:
        thread = self._client.leave()
        thread.join(self._timeout_ms / 1_000)
        if not thread.is_alive():
            self._loop.close()

    def _connected(self, credential: Credential) -> None:
        self.session = credential.session

    def _run(self, start: Callable[[Then], None]) -> tuple[int, Any]:
        answers: list[tuple[int, Any]] = []
        start(lambda error, value: answers.append((error, value)))
        return answers[0] if self._wait(lambda: bool(answers)) else (LOST, None)

    def _wait(self, done: Callable[[], bool]) -> bool:
        end_ms = now_ms() + self._timeout_ms
        while not done():
            left_ms = end_ms - now_ms()
            if left_ms <= 0:
                return False
            self._loop.turn(left_ms)
        return True


# -- what kazoo lacks or does otherwise --------------------------------------------------------------------------------


class _Answer(msgspec.Struct, frozen=True):
    zxid: int
    body: bytes = b""
    offset: int = 0


class _Reply:
    """Stands where kazoo expects its own result object: passes answers on without kazoo's pool of threads."""

    __slots__ = ("client", "then")

    def __init__(self, client: Client, then: Callable[[int, _Answer], None]) -> None:
        self.client, self.then = client, then

    def set_exception(self, error: Exception) -> None:
        """Fail, as kazoo does with all that waits when the connection breaks: nobody knows what came of it."""
        self.client.answered(self, LOST, _Answer(0))


class _Wire(wire.ConnectionHandler):  # type: ignore[misc]  # kazoo ships no types
    """Reads transaction numbers, errors that kazoo has no name for, and the events of standing watches."""

    ours: Client

    def _connect(self, *address: object) -> object:
        self.client.last_zxid = self.ours.zxid  # kazoo forgets it with an expired session
        return super()._connect(*address)

    def _read_socket(self, read_timeout: float) -> object:
        header, body, offset = self._read_header(read_timeout)
        self.ours.heard_ms = now_ms()
        if header.xid == wire.PING_XID:
            self.ping_outstanding.clear()
            return None
        if header.xid == wire.WATCH_XID:
            self.ours.fired(*jute.read_event(body, offset))
            return None
        request, reply, xid = self.client._pending.popleft()
        if header.xid != xid:
            reply.set_exception(ConnectionDropped())
            raise ConnectionDropped(f"answer {header.xid} to request {xid}")
        if header.zxid > 0:
            self.client.last_zxid = header.zxid
        self.ours.answered(reply, header.err, _Answer(header.zxid, body, offset))
        return wire.CLOSE_RESPONSE if request.type == jute.CLOSE else None


class _Sockets(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo ships no types
    """Gives up on an address that does not answer long before the session's time is over; TLS as ``context`` says."""

    def __init__(self, tls: Tls | None, limit_ms: int) -> None:
        super().__init__()
        self._tls = tls
        self._limit = limit_ms / 1_000
        self.server = ""

    def create_connection(self, address: tuple[str, int], hostname: str, timeout: float, **_: object) -> socket.socket:
        """Connect. Raises: OSError."""
        self.server = endpoint(*address)
        made = socket.create_connection(address, min(timeout, self._limit))
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = context(self._tls)
            return made if tls is None else tls.wrap_socket(made, server_hostname=hostname)
        except OSError:
            made.close()
            raise

    def select(self, read: list[Any], *others: Any, **named: Any) -> Any:
        """As kazoo's, but what TLS has decrypted already is ready: nothing more may come to wake us for it."""
        if any(isinstance(sock, ssl.SSLSocket) and sock.pending() for sock in read):
            ready = super().select(read, [], [], 0)[0]
            return [s for s in read if s in ready or (isinstance(s, ssl.SSLSocket) and s.pending())], [], []
        return super().select(read, *others, **named)


def _nothing(*_: object) -> None:
    """Nobody needs to know."""
