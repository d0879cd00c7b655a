"""``core.ports.CoordinationPort`` on a real ensemble, in a thread of its own.

Everything happens in that thread; ``submit`` and ``check`` may be called from any. What concerns the node's own server
and its ears is passed on to ``NodeServices``.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from core import effects as fx
from core.events import Committed, Done, OpFailed, OpSucceeded, ReadBack, Result
from core.ids import OpId, SessionId
from core.ports import CoordinationEffect, Emit
from core.records import Change
from drivers import zookeeper_jute as jute
from drivers.clock import now_ms
from drivers.config import Config
from drivers.loop import Loop
from drivers.zookeeper import Client
from drivers.zookeeper_codec import EXPIRED, Failure, failed_write, failure
from drivers.zookeeper_errands import Errands, NodeServices
from drivers.zookeeper_link import Follow, Link
from drivers.zookeeper_mirrors import Seen
from drivers.zookeeper_records import Problem
from drivers.zookeeper_requests import Request, Then
from drivers.zookeeper_session import Credential
from drivers.zookeeper_tree import ROOT, session_path

Outcome = Literal["ok", "refused", "unanswered"]
CLOSE_MS_MAX = 5_000


class ZooKeeper:
    """The coordination port of one node's agent.

    ``services``: how this node's server and its ears are reached. ``on_bug`` is called if the thread ends by an
    exception: the process is no good any more. ``follow``: takes what is read as well, in the same thread.
    """

    def __init__(
        self, config: Config, services: NodeServices, on_bug: Callable[[], None], follow: Follow | None = None
    ) -> None:
        self._on_bug = on_bug
        self._loop = Loop()
        self._link = Link(config, self._loop, follow)
        self._requests = self._link.requests
        self._errands = Errands(config, services, self._loop, lambda: self._link.ready, lambda: self._link.voters)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="zookeeper", daemon=True)
        self._thread.start()

    @property
    def saved_session(self) -> SessionId:
        """The last session of this node in this boot, for ``Started``; 0 if there is none."""
        return self._link.kept.session

    @property
    def loop(self) -> Loop:
        """The loop that everything here happens in: post to it from elsewhere."""
        return self._loop

    def close(self) -> None:
        """End the thread without ending the session, which a next agent may take up. Takes up to ``CLOSE_MS_MAX``."""
        self._loop.post(self._stop)
        self._thread.join(CLOSE_MS_MAX / 1_000)
        if not self._thread.is_alive() and not self._errands.busy:
            self._loop.close()

    def submit(self, effect: CoordinationEffect, emit: Emit) -> None:
        self._loop.post(lambda: self._submit(effect, emit))

    def check(
        self, session: SessionId, checks: tuple[fx.Check, ...], answer: Callable[[Outcome], None], ms_max: int
    ) -> None:
        """Commit nothing but checks, in ``session``; ``answer`` is called once, in the loop."""
        ops = [jute.check(check.path, check.version) for check in checks]

        def done(outcome: jute.Outcome) -> None:
            answer("ok" if failed_write(outcome.errors) is None else "refused")

        def failed(why: Failure) -> None:
            answer("refused" if why.reason == "session" else "unanswered")

        request = Request(session=session, send=_committing(ops), done=done, failed=failed)
        self._loop.post(lambda: self._requests.add(request, ms_max))

    def peek(self, path: str, take: Callable[[bytes], None], ms_max: int) -> None:
        """Read what lies at a path that holds no record; ``take`` is called in the loop if anything does."""

        def send(client: Client, then: Then) -> None:
            client.get(path, lambda error, seen: then(failure(error) if error else None, seen))

        def done(seen: Seen) -> None:
            if seen.data:
                take(seen.data)

        def ask() -> None:
            session = self._requests.session
            self._requests.add(Request(session=session, send=send, done=done, failed=_nobody_waits), ms_max)

        self._loop.post(ask)

    # -- effects -------------------------------------------------------------------------------------------------------

    def _submit(self, effect: CoordinationEffect, emit: Emit) -> None:
        self._link.emit = emit
        match effect:
            case fx.OpenSession():
                self._link.open(effect.resume)
            case fx.Commit():
                self._commit(effect, emit)
            case fx.Read():
                self._read(effect, emit)
            case fx.CloseSession():
                if effect.session and effect.session == self._requests.session:
                    self._close_own(effect, emit)
                else:
                    self._close_other(effect, emit)
            case fx.Mirror():
                self._link.mirrors.mirror(effect.path, effect.depth)
            case fx.Unmirror():
                self._link.mirrors.unmirror(effect.path)
            case fx.Reconfigure():
                self._reconfigure(effect, emit)
            case fx.StartServer():
                self._errands.start_server(effect, emit)
            case fx.StopServer():
                self._errands.stop_server(effect, emit)
            case fx.ListenTo():
                self._errands.services.listen(effect.nodes, emit)

    def _commit(self, effect: fx.Commit, emit: Emit) -> None:
        prepared = self._link.records.operations(effect.writes)
        if isinstance(prepared, Problem):
            ours = effect.session == self._requests.session
            emit(_failed(effect.op, prepared.failure if ours else failure(EXPIRED), prepared.index if ours else -1))
            return
        versions = prepared.versions

        def done(outcome: jute.Outcome) -> None:
            found = failed_write(outcome.errors)
            if found is None:
                emit(_succeeded(effect.op, Committed(zxid=outcome.zxid, versions=versions)))
                return
            index, why = found
            path = effect.writes[index].path if index >= 0 else "the transaction"
            why = Failure(reason=why.reason, detail=f"{path} {why.detail}", retryable=why.retryable)
            emit(_failed(effect.op, why, index))

        self._ask(effect, effect.session, _committing(prepared.ops), done, emit)

    def _read(self, effect: fx.Read, emit: Emit) -> None:
        found: dict[str, Seen] = {}
        paths = tuple(dict.fromkeys(effect.paths))

        def send(client: Client, then: Then) -> None:
            def take(path: str, error: int, seen: Seen | None) -> None:
                if seen is None:
                    then(failure(error), None)
                    return
                found[path] = seen
                if path == paths[-1] and len(found) == len(paths):
                    then(None, None)

            client.ask(jute.sync(paths[0]), _passing_failure(then))
            for path in paths:
                client.get(path, partial(take, path))

        def done(_: object) -> None:
            changes: list[Change] = []
            for path in effect.paths:
                seen = found[path]
                change = self._link.records.change(path, seen)
                if change is None and seen.data:
                    why = Failure(reason="failed", detail=f"{path} holds no record that is known here")
                    emit(_failed(effect.op, why))
                    return
                changes.append(change if change is not None else Change(path=path, zxid=seen.zxid))
            emit(_succeeded(effect.op, ReadBack(changes=tuple(changes))))

        if paths:
            self._ask(effect, effect.session, send, done, emit)
        else:
            emit(_succeeded(effect.op, ReadBack(changes=())))

    def _close_own(self, effect: fx.CloseSession, emit: Emit) -> None:
        def send(client: Client, then: Then) -> None:
            client.ask(jute.close(), lambda error, _: then(failure(error) if error else None, None))

        def done(_: object) -> None:
            self._link.kept.forget()
            self._link.end()
            emit(_succeeded(effect.op, Done()))

        self._ask(effect, effect.session, send, done, emit)

    def _close_other(self, effect: fx.CloseSession, emit: Emit) -> None:
        def send(client: Client, then: Then) -> None:
            def take(error: int, seen: Seen | None) -> None:
                credential = Credential.decode(seen.data) if seen is not None and seen.data else None
                if seen is None:
                    then(failure(error), None)
                elif credential is None:
                    then(None, None)  # a credential ends with its session
                else:
                    end = self._errands.end_session
                    end(credential, self._link.endpoints(), effect.ms_max, lambda why: then(why, None))

            client.ask(jute.sync(ROOT), _passing_failure(then))
            client.get(session_path(effect.session), take)

        self._ask(effect, self._requests.session, send, lambda _: emit(_succeeded(effect.op, Done())), emit)

    def _reconfigure(self, effect: fx.Reconfigure, emit: Emit) -> None:
        def send(_: Client, then: Then) -> None:
            self._errands.reconfigure(effect, self._link.endpoints(), lambda why: then(why, None))

        self._ask(effect, self._requests.session, send, lambda _: emit(_succeeded(effect.op, Done())), emit)

    def _ask(
        self,
        effect: fx.Commit | fx.Read | fx.CloseSession | fx.Reconfigure,
        session: SessionId,
        send: Callable[[Client, Then], None],
        done: Callable[[Any], None],
        emit: Emit,
    ) -> None:
        request = Request(session=session, send=send, done=done, failed=lambda why: emit(_failed(effect.op, why)))
        self._requests.add(request, effect.ms_max)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop.run()
        finally:
            if not self._stopped:
                self._on_bug()

    def _stop(self) -> None:
        self._stopped = True
        leaving = self._link.leave()
        if leaving is not None:
            leaving.join(CLOSE_MS_MAX / 2_000)
        self._loop.stop()


def _committing(ops: Sequence[jute.Request]) -> Callable[[Client, Then], None]:
    def send(client: Client, then: Then) -> None:
        client.commit(ops, lambda error, outcome: then(failure(error) if error else None, outcome))

    return send


def _passing_failure(then: Then) -> Callable[[int, object], None]:
    """Say at once that a step failed; if it did not, the next one says what came of it."""
    return lambda error, _: then(failure(error), None) if error else None


def _nobody_waits(_: Failure) -> None:
    """It is read again later."""


def _succeeded(op: OpId, result: Result) -> OpSucceeded:
    return OpSucceeded(at_ms=now_ms(), op=op, result=result)


def _failed(op: OpId, why: Failure, index: int = -1) -> OpFailed:
    return OpFailed(at_ms=now_ms(), op=op, reason=why.reason, retryable=why.retryable, detail=why.detail, index=index)
