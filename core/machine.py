"""One node's brain: private mutable state, frozen events in, frozen effects out; total and deterministic."""

import msgspec

from core import (
    blocks,
    boots,
    discovery,
    drain,
    election,
    ending,
    ensemble,
    everywhere,
    evidence,
    membership,
    mirror,
    recovery,
    singleton,
    steward,
    timers,
    upgrade,
)
from core import effects as fx
from core.assignments import Solvers
from core.brain import BLOCKS, COPIES, COUNTED, DRAIN, ELECTION, ENSEMBLE_PART, EVERYTHING, ROLLING, Brain
from core.errors import InvariantViolation
from core.events import (
    AnyEvent,
    BeatAnswered,
    BootSeen,
    JoinAdmitted,
    JoinRefused,
    OpFailed,
    OpSucceeded,
    PeerHeard,
    PeerSilent,
    RecordsChanged,
    RightExpired,
    ServiceExited,
    SessionEnded,
    SessionOpened,
    Started,
    StorageSeen,
    TimerFired,
)
from core.ids import NO_SESSION, OpId
from core.journal import Opening
from core.shown import show, singletons
from core.singleton_table import move
from core.state import Copy, CopyState, Ending, Phase, Singleton, SingletonState, State, Subject
from core.view import NodeView, ServiceView

_ALOOF = (Subject.WARD, Subject.DOMAIN, Subject.BLOCK, Subject.DISCOVERY, Subject.BOOT)
"""Work for other nodes: its answers change nothing about what this node runs."""

_IDLE, _NEW = SingletonState.IDLE, Phase.NEW

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(State)


class Machine:
    """The state machine of one agent process.

    ``step`` takes one event and returns the effects in the order they are to be carried out. An event that no host may
    send (an answer to an op that is not outstanding, time that runs backwards, anything before ``Started``) raises
    InvariantViolation and changes nothing. Machines of one process may share what they place with (``shared``).
    """

    __slots__ = ("_b",)

    def __init__(self, opening: Opening, shared: Solvers | None = None) -> None:
        state = State()
        for spec in opening.services:
            if spec.run == "singleton":
                state.singletons[spec.name] = Singleton(name=spec.name)
            else:
                state.copies[spec.name] = Copy(name=spec.name)
        self._b = _brain(opening, state, {} if shared is None else shared)

    @classmethod
    def restore(cls, opening: Opening, snapshot: bytes) -> "Machine":
        """Make the machine that ``snapshot`` was taken from.

        Raises: msgspec.DecodeError if it is not a snapshot.
        """
        machine = cls.__new__(cls)
        machine._b = _brain(opening, _decoder.decode(snapshot), {})
        mirror.rebuild(machine._b)
        return machine

    def snapshot(self) -> bytes:
        """The whole state as canonical JSON."""
        return _encoder.encode(self._b.state)

    def copy(self) -> "Machine":
        """An independent machine in the same state."""
        return Machine.restore(self._b.opening, self.snapshot())

    def view(self) -> NodeView:
        """What this machine shows of itself."""
        return show(self._b)

    def singletons(self) -> tuple[ServiceView, ...]:
        """The singletons of ``view()``, at a fraction of its cost: what the invariants are about."""
        return singletons(self._b)

    def step(self, event: AnyEvent) -> tuple[fx.AnyEffect, ...]:
        """Take one event; return what is to be done.

        Raises: InvariantViolation for an event that no host may send, and for a bug of ours.
        """
        b = self._b
        _check_legal(b, event)
        b.out = []
        b.arc_changed = False
        b.look = 0 if isinstance(event, RecordsChanged) else EVERYTHING
        b.state.now_at_ms = event.at_ms
        if isinstance(event, BeatAnswered):
            _beat(b, event)
        else:
            _enforce(b)
            if _take(b, event):
                _react(b)
        return tuple(b.out)


def _brain(opening: Opening, state: State, shared: Solvers) -> Brain:
    b = Brain(opening, state, shared)
    b.ring.load([spec.id for spec in opening.inventory], [])
    b.ring.add(opening.node.id, False)
    return b


def _check_legal(b: Brain, event: AnyEvent) -> None:
    state = b.state
    if event.at_ms < state.now_at_ms:
        raise InvariantViolation(f"time ran backwards: {event.at_ms} after {state.now_at_ms}")
    if (state.phase is _NEW) != isinstance(event, Started):
        raise InvariantViolation(f"{type(event).__name__} while the machine is {state.phase}")
    if isinstance(event, (OpSucceeded, OpFailed)) and event.op not in state.ops:
        raise InvariantViolation(f"op {event.op} is not outstanding")


def _enforce(b: Brain) -> None:
    for s in b.state.singletons.values():
        if s.state is not _IDLE:
            evidence.enforce(b, s)


def _beat(b: Brain, event: BeatAnswered) -> None:
    """Note the evidence first, then judge this service's right, then act on the answer.

    Other services are not judged here: answers that come together (a host may hold some back) are taken one by one.
    """
    s = b.state.singletons.get(event.service)
    if s is None or s.epoch != event.epoch or s.state is SingletonState.IDLE:
        return
    evidence.note_beat(s, event)
    evidence.enforce(b, s)
    if s.ending is Ending.NONE:
        evidence.on_beat(b, s, event)


def _take(b: Brain, event: AnyEvent) -> bool:
    """Take one event; True if the rest of the machine has to look around."""
    match event:
        case RecordsChanged():
            mirror.apply(b, event)
        case OpSucceeded() | OpFailed():
            return _answer(b, event)
        case TimerFired(timer=timer):
            return timers.fire(b, timer)
        case Started():
            _started(b, event)
        case SessionOpened():
            _session_opened(b, event)
        case SessionEnded(session=session):
            if session == b.state.session:
                _session_ended(b)
        case PeerSilent(node=node):
            steward.on_silent(b, node)
            return False
        case PeerHeard(node=node):
            steward.on_heard(b, node)
            return False
        case StorageSeen(ok=ok):
            b.state.storage_ok = ok
            membership.refresh(b)
        case ServiceExited():
            _exited(b, event)
        case RightExpired():
            _right_expired(b, event)
        case BootSeen() | JoinAdmitted() | JoinRefused():
            b.look = 0
            boots.take(b, event)
        case BeatAnswered():
            raise InvariantViolation("a beat is not taken here")
    return True


def _started(b: Brain, event: Started) -> None:
    state = b.state
    state.boot_id = event.boot_id
    state.saved_session = event.session
    state.hand_over = event.hand_over
    state.image = event.image
    for running in event.running:
        if running.epoch and running.service in state.singletons:
            s = state.singletons[running.service]
            s.epoch, s.instance, s.announced = running.epoch, running.instance, running.announced
            move(s, "found_running", b.now)
        elif running.service in state.copies:
            state.copies[running.service].state = CopyState.RUNNING
    if event.server and not state.hand_over:
        ensemble.start_server(b, ())
    membership.open_session(b, event.session)


def _session_opened(b: Brain, event: SessionOpened) -> None:
    state = b.state
    known = state.phase is Phase.JOINED
    new = membership.on_session(b, event)
    if known and state.phase is Phase.JOINED:
        return
    steward.start_over(b)
    for s in list(state.singletons.values()):
        if new:
            _drop(b, s)
        elif s.state is SingletonState.ADOPTING:
            singleton.go_on(b, s)
        elif s.op == 0 and s.state is not SingletonState.IDLE:
            b.timer_in(f"retry/{s.name}", b.timing.retry_ms)
    if state.hand_over:
        state.phase = Phase.LEAVING


def _session_ended(b: Brain) -> None:
    """The session is over: every right under it ends; what runs is stopped before the next write (rule 5)."""
    state = b.state
    b.note("session_lost")
    state.saved_session, state.session = state.session, NO_SESSION
    state.phase = Phase.CONNECTING
    state.synced.clear()
    steward.start_over(b)
    for s in list(state.singletons.values()):
        _drop(b, s)
    membership.open_session(b, NO_SESSION)


def _drop(b: Brain, s: Singleton) -> None:
    if s.state is SingletonState.ADOPTING:
        b.note("adoption_refused", s.name, epoch=s.epoch)
    ending.end(b, s, Ending.DROP, "the session is over")


def _exited(b: Brain, event: ServiceExited) -> None:
    copy = b.state.copies.get(event.service)
    if copy is not None:
        everywhere.on_exited(b, copy, event.detail)
        return
    s = b.state.singletons.get(event.service)
    if s is not None and s.epoch == event.epoch:
        singleton.on_exited(b, s, event.detail)


def _right_expired(b: Brain, event: RightExpired) -> None:
    s = b.state.singletons.get(event.service)
    if s is None or s.epoch != event.epoch:
        return
    s.announced = False
    if s.state is not SingletonState.SERVING:
        return
    if b.specs[s.name].volume:
        evidence.withdraw(b, s)
    else:
        ending.end(b, s, Ending.HAND_OVER, "its right expired")


def _answer(b: Brain, event: OpSucceeded | OpFailed) -> bool:
    pending = b.state.ops.pop(event.op)
    if isinstance(event, OpFailed) and event.reason == "session" and pending.session == b.state.session != NO_SESSION:
        _session_ended(b)
    elif pending.subject in _ALOOF:
        b.look = 0
    if pending.quorum:
        silent = isinstance(event, OpFailed) and event.reason in ("unanswered", "unavailable")
        b.state.unanswered = b.state.unanswered + 1 if silent else 0
    match pending.subject:
        case Subject.SINGLETON:
            singleton.on_answer(b, pending, event)
        case Subject.COPY:
            everywhere.on_answer(b, pending, event)
        case Subject.MEMBERSHIP:
            membership.on_answer(b, pending, event)
        case Subject.WARD:
            steward.on_answer(b, pending, event)
        case Subject.DOMAIN:
            recovery.on_committed(b, pending, event)
        case Subject.BLOCK:
            blocks.on_answer(b, pending, event)
        case Subject.ENSEMBLE:
            ensemble.on_answer(b, pending, event)
        case Subject.DRAIN:
            drain.on_answer(b, pending, event)
        case Subject.DISCOVERY:
            discovery.on_answer(b, pending, event)
        case Subject.BOOT:
            boots.on_answer(b, pending, event)
        case Subject.UPGRADE:
            upgrade.on_answer(b, pending, event)
    return True


def _react(b: Brain) -> None:
    """Look around after a change: every part does what the new state of things calls for."""
    if b.state.hand_over:
        _hand_over(b)
        return
    membership.register_if_stopped(b)
    look = b.look
    if look & (COPIES | COUNTED):
        everywhere.review(b, counted_only=not look & COPIES)
    if not b.joined:
        return
    if b.arc_changed:
        steward.review(b)
        discovery.review(b)
    if look & ELECTION:
        election.review(b)
    if look & ENSEMBLE_PART:
        ensemble.review(b)
    if look & DRAIN:
        drain.review(b)
    if look & BLOCKS:
        blocks.review(b)
    if look & ROLLING:
        upgrade.review(b)


def _hand_over(b: Brain) -> None:
    """On behalf of an agent that cannot come back: end every singleton cleanly, then the session, then ourselves."""
    state = b.state
    if state.phase is not Phase.LEAVING:
        return
    for s in list(state.singletons.values()):
        if s.state not in (SingletonState.IDLE, SingletonState.ADOPTING):
            ending.end(b, s, Ending.HAND_OVER, "the agent cannot come back")
    if all(s.state is SingletonState.IDLE for s in state.singletons.values()):
        state.phase = Phase.GONE
        b.note("handed_over")
        op: OpId = b.op(Subject.MEMBERSHIP, "", "leave")
        b.emit(fx.CloseSession(op=op, session=state.session, ms_max=b.timing.commit_ms_max))
        b.emit(fx.Exit())
