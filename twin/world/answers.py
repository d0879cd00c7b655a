"""Answers to effects: exactly one per op, at the latest at its limit, held back while the asker is frozen."""

from collections.abc import Callable

from core.events import Done, OpFailed, OpSucceeded, Reason, Result
from core.ids import OpId
from core.ports import Emit
from twin.kernel import Handle, Kernel

DONE = Done()


class Asker:
    """One agent process as its ports see it: it may freeze, and it may die with its questions unanswered."""

    def __init__(self, kernel: Kernel, clock: Callable[[], int]) -> None:
        self.kernel = kernel
        self.clock = clock
        self._frozen = False
        self._life = 0
        self._parked: list[tuple[int, Callable[[], None]]] = []

    @property
    def life(self) -> int:
        """Counts the agent processes so far; what was asked in an earlier one is answered to nobody."""
        return self._life

    def died(self) -> None:
        """Forget every question: nobody waits for the answers."""
        self._life += 1
        self._frozen = False
        self._parked.clear()

    def freeze(self) -> None:
        """Hold back everything that this process would do or hear, until ``thaw``."""
        self._frozen = True

    def thaw(self) -> None:
        """Go on with what was held back, in order."""
        self._frozen = False
        parked, self._parked = self._parked, []
        for life, act in parked:
            self.run(life, act)

    def run(self, life: int, act: Callable[[], None]) -> None:
        """Do ``act`` in the name of the process that asked in ``life``: now, at the thaw, or never."""
        if life != self._life:
            return
        if self._frozen:
            self._parked.append((life, act))
        else:
            act()


class Answer:
    """The one answer to one op. Whoever comes first decides it; ``on_late`` runs if the limit passes before."""

    __slots__ = ("_asker", "_emit", "_life", "_limit", "on_late", "op", "open")

    def __init__(
        self, asker: Asker, op: OpId, emit: Emit, ms_max: int, on_late: Callable[[], None] | None = None
    ) -> None:
        self.op = op
        self.open = True
        self.on_late = on_late
        self._asker = asker
        self._emit = emit
        self._life = asker.life
        self._limit: Handle = asker.kernel.after(max(ms_max, 0), self._too_late)

    @property
    def wanted(self) -> bool:
        """Whether the process that asked still lives and has not been answered."""
        return self.open and self._life == self._asker.life

    def succeed(self, result: Result = DONE) -> None:
        """Answer ``OpSucceeded``, unless answered before."""
        if self._close():
            self._asker.run(self._life, lambda: self._say(OpSucceeded(at_ms=0, op=self.op, result=result)))

    def fail(self, reason: Reason, detail: str, *, retryable: bool = True) -> None:
        """Answer ``OpFailed``, unless answered before."""
        if self._close():
            failed = OpFailed(at_ms=0, op=self.op, reason=reason, retryable=retryable, detail=detail)
            self._asker.run(self._life, lambda: self._say(failed))

    def then(self, act: Callable[[], None]) -> None:
        """Let the asking process do its next step, if it still waits for this answer."""
        self._asker.run(self._life, lambda: act() if self.open else None)

    def _close(self) -> bool:
        if not self.open:
            return False
        self.open = False
        self._limit.cancel()
        return True

    def _too_late(self) -> None:
        if self.open:
            if self.on_late is not None:
                self.on_late()
            self.fail("unanswered", "no answer within the limit")

    def _say(self, event: OpSucceeded | OpFailed) -> None:
        now = self._asker.clock()
        if isinstance(event, OpSucceeded):
            self._emit(OpSucceeded(at_ms=now, op=event.op, result=event.result))
        else:
            self._emit(
                OpFailed(at_ms=now, op=event.op, reason=event.reason, retryable=event.retryable, detail=event.detail)
            )
