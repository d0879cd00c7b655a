"""The operator: changes of records by compare-and-set, as a person's tool makes them."""

from collections.abc import Callable
from typing import Literal

import msgspec

from core import effects as fx
from core.events import AnyEvent, Committed, OpSucceeded, ReadBack, SessionEnded, SessionOpened
from core.ids import NO_SESSION, ImageId, NodeId, OpId, SessionId
from core.ports import CoordinationPort
from core.records import (
    UPGRADE,
    AnyRecord,
    Lifecycle,
    NodeRecord,
    ServiceRecord,
    UpgradeRecord,
    node_path,
    service_path,
)
from core.specs import ServiceSpec
from twin.kernel import Kernel

RETRY_MS = 500
ATTEMPTS_MAX = 600
ANSWER_MS_MAX = 2_000

Step = tuple[AnyRecord | None, bool]
Edit = Callable[[AnyRecord | None], Step]
"""From the record as it is (None: missing) to what to write now (None: nothing), and whether that is the end."""


class Operator:
    """Reads a record, changes it, writes it at the version read; tries again until it is as wanted, within a bound.

    A newer wish for the same record replaces an older one; those about its quarantine stand beside the others.
    """

    def __init__(self, kernel: Kernel, client: CoordinationPort) -> None:
        self._kernel = kernel
        self._client = client
        self._session = NO_SESSION
        self._op = 0
        self._wishes = 0
        self._latest: dict[tuple[str, str], int] = {}
        self._waiting: dict[int, Callable[[AnyEvent], None]] = {}

    def drain(self, node: NodeId) -> None:
        """Have a node give its services away and go into maintenance."""
        start = (Lifecycle.JOINED, Lifecycle.SUSPECT)
        self._wish(node_path(node), _moves(dict.fromkeys(start, Lifecycle.DRAINING), "drained by the operator"))

    def maintenance(self, node: NodeId) -> None:
        """The same as ``drain``: maintenance is where draining ends."""
        self.drain(node)

    def undrain(self, node: NodeId) -> None:
        """Take a draining node, or one in maintenance, back into service."""
        moves = {Lifecycle.DRAINING: Lifecycle.JOINED, Lifecycle.MAINTENANCE: Lifecycle.JOINED}
        self._wish(node_path(node), _moves(moves, ""))

    def retire(self, node: NodeId) -> None:
        """Take a node out of the rack for good; a member is drained first."""
        moves = dict.fromkeys((Lifecycle.JOINED, Lifecycle.SUSPECT), Lifecycle.DRAINING)
        gone = (Lifecycle.MAINTENANCE, Lifecycle.LOST, Lifecycle.QUARANTINED, Lifecycle.DISCOVERED)
        moves |= dict.fromkeys(gone, Lifecycle.RETIRED)
        self._wish(node_path(node), _moves(moves, "retired by the operator", Lifecycle.RETIRED))

    def unquarantine(self, node: NodeId) -> None:
        """Give a quarantined node another chance."""
        self._wish(node_path(node), _moves({Lifecycle.QUARANTINED: Lifecycle.DISCOVERED}, ""), "quarantine")

    def set_service(self, spec: ServiceSpec) -> None:
        """Change the spec of a service."""
        record = ServiceRecord(spec=spec)
        self._wish(service_path(spec.name), lambda old: (None if old == record else record, True))

    def upgrade(self, image: ImageId, previous: ImageId, parallel: int) -> None:
        """Have every node upgraded from ``previous`` to ``image``, ``parallel`` of one power domain at once."""
        new = UpgradeRecord(image=image, previous=previous, parallel=parallel)

        def begin(old: AnyRecord | None) -> Step:
            busy = isinstance(old, UpgradeRecord) and (old.state == "running" or old.current)
            return (None if busy else new), True  # as the tool does: one that is under way is not begun again

        self._wish(UPGRADE, begin)

    def halt_upgrade(self) -> None:
        """Have no further node upgraded, and the one whose turn it is taken back."""
        self._wish(UPGRADE, _turns("running", "halted", "halted by the operator"))

    def resume_upgrade(self) -> None:
        """Carry an upgrade on that halted."""
        self._wish(UPGRADE, _turns("halted", "running", ""))

    # -- compare and set --------------------------------------------------------------------------------------------

    def _wish(self, path: str, edit: Edit, about: str = "") -> None:
        if not self._wishes:
            self._client.submit(fx.OpenSession(resume=NO_SESSION), self._emit)
        self._wishes += 1
        self._latest[path, about] = self._wishes
        self._try((path, about), edit, self._wishes, 0)

    def _try(self, subject: tuple[str, str], edit: Edit, wish: int, attempt: int) -> None:
        if self._latest[subject] != wish or attempt >= ATTEMPTS_MAX:
            return
        path = subject[0]

        def again() -> None:
            self._kernel.after(RETRY_MS, self._try, subject, edit, wish, attempt + 1)

        if self._session == NO_SESSION:
            again()
            return

        def read(event: AnyEvent) -> None:
            if self._latest[subject] == wish:  # else the operator has changed his mind meanwhile
                self._read(event, path, edit, again)

        op = self._next(read)
        self._client.submit(fx.Read(op=op, session=self._session, paths=(path,), ms_max=ANSWER_MS_MAX), self._emit)

    def _read(self, event: AnyEvent, path: str, edit: Edit, again: Callable[[], None]) -> None:
        if not isinstance(event, OpSucceeded) or not isinstance(event.result, ReadBack):
            again()
            return
        change = event.result.changes[0]
        wanted, last = edit(change.data)
        if wanted is None:
            if not last:
                again()
            return
        write: fx.Write = fx.Put(path=path, data=wanted, version=change.version)
        if change.data is None:
            write = fx.Create(path=path, data=wanted)

        def written(answer: AnyEvent) -> None:
            done = isinstance(answer, OpSucceeded) and isinstance(answer.result, Committed)
            if not (done and last):
                again()

        commit = fx.Commit(op=self._next(written), session=self._session, writes=(write,), ms_max=ANSWER_MS_MAX)
        self._client.submit(commit, self._emit)

    def _next(self, then: Callable[[AnyEvent], None]) -> OpId:
        self._op += 1
        self._waiting[self._op] = then
        return OpId(self._op)

    def _emit(self, event: AnyEvent) -> None:
        op = getattr(event, "op", None)
        if op is not None:
            then = self._waiting.pop(int(op), None)
            if then is not None:
                then(event)
        elif isinstance(event, SessionOpened):
            self._session = SessionId(event.session)
        elif isinstance(event, SessionEnded):
            self._session = NO_SESSION
            self._client.submit(fx.OpenSession(resume=NO_SESSION), self._emit)


def _turns(before: Literal["running", "halted"], state: Literal["running", "halted"], reason: str) -> Edit:
    """Take the upgrade from one state to another; what is in neither stays as it is."""

    def edit(old: AnyRecord | None) -> Step:
        if not isinstance(old, UpgradeRecord) or old.state != before:
            return None, True
        return msgspec.structs.replace(old, state=state, reason=reason), True

    return edit


def _moves(moves: dict[Lifecycle, Lifecycle], reason: str, end: Lifecycle | None = None) -> Edit:
    """Move a node along ``moves`` to ``end``, or to a state that no move leads out of; wait in any other."""
    ends = [end] if end is not None else [state for state in moves.values() if state not in moves]

    def edit(old: AnyRecord | None) -> Step:
        if not isinstance(old, NodeRecord):
            return None, False
        state = moves.get(old.state)
        if state is None:
            return None, old.state in ends
        return msgspec.structs.replace(old, state=state, reason=reason, attempts=0), state in ends

    return edit
