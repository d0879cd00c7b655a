"""One node's ZooKeeper client, as its agent sees it: ``core.ports.CoordinationPort`` and the coordination beats."""

from collections.abc import Callable
from typing import Literal, Protocol

from core import effects as fx
from core.events import Done, OpFailed, OpSucceeded, ReadBack, Result
from core.ids import NodeId, OpId, SessionId
from core.ports import CoordinationEffect, Emit
from core.records import Change
from twin.calibration import Sampled
from twin.streams import Stream
from twin.world.quirks import QuirkName
from twin.world.zookeeper_link import Link, Servers
from twin.world.zookeeper_requests import Request

Outcome = Literal["ok", "refused", "unanswered"]
Answer = Result | OpFailed
Reply = Callable[[], None]
SLOW_MS = 50
"""A beat is not taken for granted any more when slow disks add this much to a commit."""
LATE: tuple[QuirkName, ...] = ("answer_late", "follower_lag")
"""Nor while any of these is armed: it may meet a beat."""


class Ensemble(Servers, Protocol):
    """What a client asks of the ensemble beyond its connection."""

    def sync_delay_ms(self) -> int:
        """How much slow disks add to a commit now."""
        ...

    def round_trip_ms(self, node: NodeId, server: NodeId) -> int:
        """The delay from a client to its server and back."""
        ...

    def read(self, path: str) -> Change: ...

    def commit(self, op: OpId, session: SessionId, writes: tuple[fx.Write, ...]) -> Answer: ...

    def holds(self, checks: tuple[fx.Check, ...]) -> bool: ...

    def reconfigure(self, effect: fx.Reconfigure, asker: NodeId) -> Answer: ...

    def start_server(self, node: NodeId, members: tuple[NodeId, ...], done: Callable[[], None]) -> None: ...

    def stop_server(self, node: NodeId) -> None: ...

    def listen(self, node: NodeId, nodes: tuple[NodeId, ...], emit: Emit) -> None: ...

    def deaf(self, node: NodeId) -> None: ...


class ZooKeeperClient:
    """The client on one node; it lives as long as the node, through all its agents.

    Events carry the kernel's time; the host restamps them with its node's clock.
    """

    def __init__(self, node: NodeId, ensemble: Ensemble, stream: Stream) -> None:
        self.node = node
        self.link = Link(node, ensemble, stream)
        self._ensemble = ensemble
        self._kernel = ensemble.kernel
        self._life = 0

    @property
    def saved_session(self) -> SessionId:
        """The last session of this node, kept on its disk: it outlives the agent."""
        return self.link.saved_session

    @saved_session.setter
    def saved_session(self, session: SessionId) -> None:
        self.link.saved_session = session

    @property
    def keep_alive_ms(self) -> int:
        """If not 0, the agent asks something at least that often: a failure then finds a younger session."""
        return self.link.keep_alive_ms

    @keep_alive_ms.setter
    def keep_alive_ms(self, ms: int) -> None:
        self.link.keep_alive_ms = ms

    @property
    def connected(self) -> bool:
        """Whether requests go through now."""
        return self.link.linked

    def start(self) -> None:
        """Begin a new agent process; it opens its session itself."""
        self.link.start()

    def agent_died(self) -> None:
        """End the agent process (or its whole node): the session lives on until it expires."""
        if self.link.running:
            self._life += 1
            self._ensemble.deaf(self.node)
            self.link.die()

    def freeze(self) -> None:
        """Stop the agent process: no pings, no requests; what arrives is the host's to keep."""
        self.link.freeze()

    def thaw(self) -> None:
        """Let the agent process go on."""
        self.link.thaw()

    def on_change(self, fn: Callable[[], None]) -> None:
        """Call ``fn`` whenever ``beat_healthy`` may have changed."""
        self.link.listeners.append(fn)

    def submit(self, effect: CoordinationEffect, emit: Emit) -> None:
        """Do what the machine asks."""
        link, ensemble, times = self.link, self._ensemble, self._ensemble.times
        link.emit = emit
        match effect:
            case fx.OpenSession():
                link.open(effect.resume)
            case fx.Commit():
                self._ask(effect, effect.session, lambda: self._commit(effect), times.write_ms, emit)
                if link.quirks.armed:
                    self._pause()
            case fx.Read():
                self._ask(effect, effect.session, lambda: self._read(effect), times.read_ms, emit, ambiguous=False)
            case fx.CloseSession():
                own = effect.session == link.session
                latency = times.stop_close_ms if own else times.other_close_ms
                quirks = ensemble.sessions.quirks
                late = quirks.take("ephemeral_late") if quirks.armed else None
                extra_ms = late.ms if late is not None else 0
                close = self._close
                self._ask(
                    effect,
                    link.session,
                    lambda: close(effect.session),
                    latency,
                    emit,
                    ambiguous=False,
                    extra_ms=extra_ms,
                )
            case fx.Reconfigure():
                change = self._reconfigure
                self._ask(effect, link.session, lambda: change(effect), times.reconfig_ms, emit, ambiguous=False)
            case fx.Mirror():
                link.mirror(effect.path, effect.depth)
            case fx.Unmirror():
                link.unmirror(effect.path)
            case fx.StartServer():
                life = self._life
                ensemble.start_server(self.node, effect.members, lambda: self._done(effect.op, emit, life))
            case fx.StopServer():
                ensemble.stop_server(self.node)
                self._done(effect.op, emit, self._life)
            case fx.ListenTo():
                ensemble.listen(self.node, effect.nodes, emit)

    def check(
        self, session: SessionId, checks: tuple[fx.Check, ...], answer: Callable[[Outcome], None], ms_max: int
    ) -> None:
        """Commit nothing but checks, in ``session``; ``answer`` is called once, unless the agent dies first."""
        if session != self.link.session or not session:
            answer("refused")
            return

        def run() -> Reply:
            ok = self._ensemble.sessions.live(session) and self._ensemble.holds(checks)
            return lambda: answer("ok" if ok else "refused")

        self._submit(run, lambda: answer("unanswered"), self._ensemble.times.write_ms, ms_max, ambiguous=False)

    def beat_healthy(self, session: SessionId, checks: tuple[fx.Check, ...]) -> bool:
        """Whether ``check`` would come back ok soon. Changes nothing."""
        return (
            self.link.linked
            and self.link.session == session
            and self._ensemble.quorum()
            and self._ensemble.sync_delay_ms() + self._ensemble.round_trip_ms(self.node, self.link.server) < SLOW_MS
            and not (self.link.quirks.armed and any(self.link.quirks.look(name) for name in LATE))
            and self._ensemble.holds(checks)
        )

    # -- requests ------------------------------------------------------------------------------------------------------

    def _ask(
        self,
        effect: fx.Commit | fx.Read | fx.CloseSession | fx.Reconfigure,
        session: SessionId,
        act: Callable[[], Answer],
        latency: Sampled,
        emit: Emit,
        *,
        ambiguous: bool = True,
        extra_ms: int = 0,
    ) -> None:
        op = effect.op
        if not session or session != self.link.session:
            emit(OpFailed(at_ms=self._kernel.now, op=op, reason="session", retryable=False))
            return

        def run() -> Reply:
            if self._ensemble.sessions.live(session):
                answer = act()
            else:
                answer = OpFailed(at_ms=0, op=op, reason="session", retryable=False)
            return lambda: self._tell(op, answer, emit)

        def lost() -> None:
            emit(OpFailed(at_ms=self._kernel.now, op=op, reason="unanswered"))

        self._submit(run, lost, latency, effect.ms_max, ambiguous, extra_ms)

    def _submit(
        self,
        run: Callable[[], Reply],
        lost: Callable[[], None],
        latency: Sampled,
        ms_max: int,
        ambiguous: bool,
        extra_ms: int = 0,
    ) -> None:
        now, link = self._kernel.now, self.link
        link.last_request_ms = now
        extra_ms += self._ensemble.sync_delay_ms() + self._ensemble.round_trip_ms(self.node, link.server)
        request = Request(
            run=run, lost=lost, latency_ms=latency, deadline_ms=now + ms_max, extra_ms=extra_ms, ambiguous=ambiguous
        )
        link.requests.submit(request, link.linked)

    def _pause(self) -> None:
        """Let the agent stand still just after a commit has left it, if that is due."""
        quirk = self.link.quirks.take("commit_pause")
        if quirk is not None and quirk.act is not None:
            self._kernel.after(0, quirk.act)

    def _tell(self, op: OpId, answer: Answer, emit: Emit) -> None:
        now = self._kernel.now
        if isinstance(answer, OpFailed):
            emit(OpFailed(at_ms=now, op=op, reason=answer.reason, retryable=answer.retryable,
                          detail=answer.detail, index=answer.index))  # fmt: skip
        else:
            emit(OpSucceeded(at_ms=now, op=op, result=answer))

    def _done(self, op: OpId, emit: Emit, life: int) -> None:
        if life == self._life:
            emit(OpSucceeded(at_ms=self._kernel.now, op=op, result=Done()))

    def _commit(self, effect: fx.Commit) -> Answer:
        return self._ensemble.commit(effect.op, effect.session, effect.writes)

    def _read(self, effect: fx.Read) -> Answer:
        return ReadBack(changes=tuple(self._ensemble.read(path) for path in effect.paths))

    def _reconfigure(self, effect: fx.Reconfigure) -> Answer:
        return self._ensemble.reconfigure(effect, self.node)

    def _close(self, session: SessionId) -> Answer:
        if session == self.link.session:
            self.link.closing = True
        self._ensemble.sessions.end(session)
        return Done()
