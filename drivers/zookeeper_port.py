"""``core.ports.CoordinationPort`` on a real ensemble: one session, its requests and its mirrors, in a thread of its own.

Everything happens in that thread; ``submit`` and ``check`` may be called from any. What concerns the node's own server
and its ears is passed on to ``NodeServices``.
"""

import threading
from collections.abc import Callable
from typing import Literal, Protocol

from core import effects as fx
from core.events import (
    AnyEvent,
    Committed,
    Done,
    OpFailed,
    OpSucceeded,
    ReadBack,
    RecordsChanged,
    Result,
    SessionEnded,
    SessionOpened,
)
from core.ids import NO_SESSION, NodeId, OpId, SessionId
from core.ports import CoordinationEffect, Emit
from core.records import ENSEMBLE, Change, EnsembleRecord
from drivers import zookeeper_jute as jute
from drivers import zookeeper_server as server
from drivers.access import endpoint
from drivers.clock import now_ms
from drivers.config import Config
from drivers.loop import Loop
from drivers.zookeeper import Client, Listener
from drivers.zookeeper_codec import EXISTS, Failure, failed_write, failure
from drivers.zookeeper_errands import Errands, NodeServices
from drivers.zookeeper_mirrors import Mirrors, Seen
from drivers.zookeeper_requests import Request, Requests
from drivers.zookeeper_session import Credential, Kept
from drivers.zookeeper_tree import ROOT, containers, grants, servers_in_order, session_path, window
from drivers.zookeeper_writes import Records

Outcome = Literal["ok", "refused", "unanswered"]
TURN_MS = 2_000
"""While no server answers, others are tried from time to time."""
HUNG_MS = 10_000
"""A request that waits longer than this (and three session timeouts) although others are answered: begin anew."""


class Beats(Protocol):
    """Who asks coordination beats."""

    def submit(self, effect: fx.StartBeat | fx.StopBeat, emit: Emit) -> None: ...


class ZooKeeper:
    """The coordination port of one node's agent.

    ``services``: how this node's server and its ears are reached. ``on_bug`` is called if the thread ends by an
    exception: the process is no good any more.
    """

    def __init__(self, config: Config, services: NodeServices, on_bug: Callable[[], None]) -> None:
        self._config = config
        self._loop = Loop()
        self._kept = Kept(config.tables.run_dir, config.tables.state_dir)
        self._records = Records(config.machines)
        self._requests = Requests(self._loop)
        self._mirrors = Mirrors(self, self._records.change, self._tell, self._broken_mirror)
        self._errands = Errands(config, services, self._loop, lambda: self._ready)
        self._timeout_ms = config.timing.session_timeout_ms
        self._client: Client | None = None
        self._session = NO_SESSION
        self._prepared = False
        self._ready = False
        self._closing = False
        self._resumed = False
        self._zxid = 0
        self._voters = self._kept.voters()
        self._alone_ms = 0
        self._emit: Emit = _nobody
        self._on_bug = on_bug
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="zookeeper", daemon=True)
        self._thread.start()

    @property
    def saved_session(self) -> SessionId:
        """The last session of this node in this boot, for ``Started``; 0 if there is none."""
        return self._kept.session

    @property
    def loop(self) -> Loop:
        """The loop that everything here happens in: post to it from elsewhere."""
        return self._loop

    def close(self) -> None:
        """End the thread without ending the session, which a next agent may take up. Blocks up to a few seconds."""
        self._loop.post(self._stop)
        self._thread.join(5)

    def submit(self, effect: CoordinationEffect, emit: Emit) -> None:
        self._loop.post(lambda: self._submit(effect, emit))

    def check(
        self, session: SessionId, checks: tuple[fx.Check, ...], answer: Callable[[Outcome], None], ms_max: int
    ) -> None:
        """Commit nothing but checks, in ``session``; ``answer`` is called once, in the loop."""
        ops = [jute.check(check.path, check.version) for check in checks]

        def send(client: Client, then: Callable[[Failure | None, object], None]) -> None:
            client.commit(ops, lambda error, found: then(failure(error) if error else _verdict(found), found))

        def failed(why: Failure) -> None:
            answer("refused" if why.reason in ("session", "conflict", "refused") else "unanswered")

        request = Request(session=session, send=send, done=lambda _: answer("ok"), failed=failed)
        self._loop.post(lambda: self._requests.add(request, ms_max))

    # -- effects -------------------------------------------------------------------------------------------------------

    def _submit(self, effect: CoordinationEffect, emit: Emit) -> None:
        self._emit = emit
        match effect:
            case fx.OpenSession():
                self._open(effect.resume)
            case fx.Commit():
                self._commit(effect, emit)
            case fx.Read():
                self._read(effect, emit)
            case fx.CloseSession():
                self._close(effect, emit)
            case fx.Mirror():
                self._mirrors.mirror(effect.path, effect.depth)
            case fx.Unmirror():
                self._mirrors.unmirror(effect.path)
            case fx.Reconfigure():
                self._reconfigure(effect, emit)
            case fx.StartServer():
                self._errands.start_server(effect, emit)
            case fx.StopServer():
                self._errands.stop_server(effect, emit)
            case fx.ListenTo():
                self._errands.services.listen(effect.nodes, emit)

    def _commit(self, effect: fx.Commit, emit: Emit) -> None:
        try:
            ops, versions = self._records.operations(effect.writes, self._config.node, self._config.tables.tls is not None)
        except Refused as refused:
            ...
