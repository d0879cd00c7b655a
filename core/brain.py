"""The machine's workbench: its state, the effects of the current step, and small verbs that every subject uses."""

import msgspec

from core import effects as fx
from core.assignments import Assignments, Solvers
from core.errors import InvariantViolation
from core.hashing import jitter
from core.ids import NO_EPOCH, Epoch, NodeId, OpId, ServiceName, SessionId
from core.journal import Opening
from core.notes import NOTES
from core.records import (
    AnyRecord,
    Change,
    LeaseRecord,
    MemberRecord,
    TermRecord,
    lease_path,
    member_path,
    term_path,
)
from core.ring import Ring
from core.specs import NodeSpec, ServiceSpec, Timing
from core.state import Pending, Phase, State, Subject

COPIES, ELECTION, ENSEMBLE_PART, DRAIN, BLOCKS, COUNTED, ROLLING = 1, 2, 4, 8, 16, 32, 64
EVERYTHING = 127
"""Parts of the machine that have to look around after an event, as bits of ``Brain.look``."""

_JOINED = Phase.JOINED
"""Members of enums that are asked for at every step have a name of their own: looking one up in its class is slow."""

QUIET = 4
"""Unanswered transactions and reads in a row after which housekeeping slows down."""


class Brain:
    """State and derived indexes of one machine, and the effects it has asked for in this step.

    ``arc_changed`` is set within a step when this node's wards may have changed, ``look`` says which parts have to
    look around.
    ``members``, ``machines``, ``placement`` and ``ring`` are derived from ``state.mirror`` and can be rebuilt from it.
    """

    __slots__ = (
        "arc_changed",
        "look",
        "machines",
        "me",
        "members",
        "opening",
        "out",
        "placement",
        "ring",
        "specs",
        "state",
        "timing",
    )

    def __init__(self, opening: Opening, state: State, shared: Solvers) -> None:
        self.opening = opening
        self.timing: Timing = opening.timing
        self.me: NodeSpec = opening.node
        self.specs: dict[str, ServiceSpec] = {spec.name: spec for spec in opening.services}
        self.state = state
        self.arc_changed = False
        self.look = 0
        self.out: list[fx.AnyEffect] = []
        self.members: dict[NodeId, MemberRecord] = {}
        self.machines: dict[str, Change] = {}
        self.placement = Assignments(opening.services, shared, opening.inventory)
        self.ring = Ring()

    # -- effects -------------------------------------------------------------------------------------------------------

    def emit(self, effect: fx.AnyEffect) -> None:
        self.out.append(effect)

    def note(
        self, kind: str, service: str = "", node: NodeId | None = None, epoch: Epoch = NO_EPOCH, detail: str = ""
    ) -> None:
        """State a fact for people; ``node`` is this one unless said otherwise."""
        if kind not in NOTES:
            raise InvariantViolation(f"note {kind!r} is not in core.notes.NOTES")
        where = self.me.id if node is None else node
        self.out.append(fx.Note(kind=kind, service=ServiceName(service), node=where, epoch=epoch, detail=detail))

    def timer(self, name: str, at_ms: int) -> None:
        """Set a timer unless it is set for that time already."""
        if self.state.timers.get(name) != at_ms:
            self.state.timers[name] = at_ms
            self.out.append(fx.SetTimer(timer=name, at_ms=at_ms))

    def timer_in(self, name: str, delay_ms: int) -> None:
        self.timer(name, self.state.now_at_ms + delay_ms)

    def cancel(self, name: str) -> None:
        if self.state.timers.pop(name, None) is not None:
            self.out.append(fx.CancelTimer(timer=name))

    def op(self, subject: Subject, key: str, step: str, quorum: bool = False) -> OpId:
        """Open an outstanding op; its answer goes to ``subject``."""
        op = OpId(self.state.next_op)
        self.state.next_op += 1
        self.state.ops[op] = Pending(subject, key, step, self.state.now_at_ms, self.state.session, quorum)
        return op

    def commit(self, subject: Subject, key: str, step: str, writes: tuple[fx.Write, ...]) -> OpId:
        op = self.op(subject, key, step, quorum=True)
        limit = self.timing.commit_ms_max
        self.out.append(fx.Commit(op=op, session=self.state.session, writes=writes, ms_max=limit))
        return op

    def read(self, subject: Subject, key: str, step: str, paths: tuple[str, ...]) -> OpId:
        op = self.op(subject, key, step, quorum=True)
        limit = self.timing.commit_ms_max
        self.out.append(fx.Read(op=op, session=self.state.session, paths=paths, ms_max=limit))
        return op

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self.state.now_at_ms

    @property
    def joined(self) -> bool:
        return self.state.phase is _JOINED

    def known(self, path: str) -> Change | None:
        """What the mirror says of an existing path; None if it does not exist or is not known."""
        change = self.state.mirror.get(path)
        return change if change is not None and change.data is not None else None

    def record(self, path: str) -> AnyRecord | None:
        change = self.state.mirror.get(path)
        return None if change is None else change.data

    def term(self, service: str) -> tuple[TermRecord | None, int]:
        """The mirrored term of a singleton and its version (-1 if there is none)."""
        change = self.known(term_path(ServiceName(service)))
        if change is None or not isinstance(change.data, TermRecord):
            return None, -1
        return change.data, change.version

    def lease(self, service: str) -> LeaseRecord | None:
        data = self.record(lease_path(ServiceName(service)))
        return data if isinstance(data, LeaseRecord) else None

    def storage_elsewhere(self, service: str) -> bool:
        """Whether another candidate for the service says that it reaches the storage (rule 12)."""
        for node in self.placement.candidates(ServiceName(service), 4):
            member = self.members.get(node)
            if node != self.me.id and member is not None and member.storage_ok:
                return True
        return False

    def own_member_path(self) -> str:
        return member_path(self.me.rack, self.me.id)

    def own_session(self, session: SessionId) -> bool:
        return session == self.state.session

    def backoff(self, failures: int, key: str) -> int:
        """Delay before the next try: doubling from ``retry_ms`` to ``retry_ms_max``, spread by a hash of ``key``."""
        base = min(self.timing.retry_ms << min(failures, 16), self.timing.retry_ms_max)
        return base + spread(f"{self.me.id}/{key}/{failures}", base // 4)

    def calm_backoff(self, failures: int, key: str) -> int:
        """Delay of what needs a quorum: as ``backoff``, but doubling up to ``ask_ms_max`` while none answers."""
        silent = self.state.unanswered - QUIET
        if silent <= 0:
            return self.backoff(failures, key)
        base = min(self.timing.retry_ms_max << min(silent, 16), self.timing.ask_ms_max)
        return base + spread(f"{self.me.id}/{key}/{failures}", base // 4)


def spread(key: str, limit: int) -> int:
    """A number in ``0..limit-1`` that depends on nothing but the key (0 if ``limit`` is below 2)."""
    return jitter(key, limit) if limit > 1 else 0


def replace_term(term: TermRecord, **fields: object) -> TermRecord:
    """A copy of a term with some fields replaced."""
    return msgspec.structs.replace(term, **fields)
