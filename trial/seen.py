"""What clients saw of the services of a run, judged while it goes on, in memory that does not grow with its length."""

from core.ids import Epoch, ServiceName
from trial.marks import NO_EPOCH, ClientOp
from trial.register import NEVER_MS, WINDOW_MS, Register


class Epochs:
    """Finds answers of a service that came under an older epoch than one that had answered before they were asked for.

    Keeps one entry for each epoch. Operations that do not say their epoch, or were not answered "ok", say nothing.
    """

    __slots__ = ("_first", "_newest")

    def __init__(self) -> None:
        self._newest: Epoch = NO_EPOCH
        self._first: list[tuple[int, Epoch]] = []  # when each epoch newer than all before it answered first

    def feed(self, op: ClientOp) -> bool:
        """Take the next operation in order of the answers; say whether it was answered by a node of the past."""
        epoch = op.epoch
        if op.outcome != "ok" or epoch == NO_EPOCH:
            return False
        if epoch > self._newest:
            self._newest = epoch
            self._first.append((op.answered_ms, epoch))
            return False
        if epoch == self._newest:
            return False
        return any(epoch < newer and at_ms < op.invoked_ms for at_ms, newer in self._first)

    def kept(self) -> int:
        """How many entries are remembered."""
        return len(self._first)


class Answers:
    """Measures the longest time in which a service answered no operation with "ok"."""

    __slots__ = ("_asked_ms", "_first_ms", "_last_ms", "_longest_ms")

    def __init__(self) -> None:
        self._asked_ms = NEVER_MS
        self._first_ms = -1
        self._last_ms = -1
        self._longest_ms = 0

    def feed(self, op: ClientOp, until_ms: int = NEVER_MS) -> None:
        """Take the next operation in order of the answers; an answer after ``until_ms`` does not count."""
        if op.invoked_ms < self._asked_ms:
            self._asked_ms = op.invoked_ms
        at_ms = op.answered_ms
        if op.outcome != "ok" or at_ms > until_ms:
            return
        if self._first_ms < 0:
            self._first_ms = at_ms
        elif at_ms - self._last_ms > self._longest_ms:
            self._longest_ms = at_ms - self._last_ms
        self._last_ms = at_ms

    def longest_ms(self, until_ms: int) -> int:
        """The longest gap from the first question to ``until_ms``; 0 if nothing was asked."""
        if self._asked_ms == NEVER_MS:
            return 0
        if self._first_ms < 0:
            return max(0, until_ms - self._asked_ms)
        return max(self._longest_ms, self._first_ms - self._asked_ms, until_ms - self._last_ms)


class _Service:
    """What is kept of one service."""

    __slots__ = ("answers", "epochs", "register")

    def __init__(self, window_ms: int) -> None:
        self.register = Register(window_ms)
        self.epochs = Epochs()
        self.answers = Answers()


class Seen:
    """What clients saw of every service. Fed each operation once, in order of the answers."""

    def __init__(self, window_ms: int = WINDOW_MS) -> None:
        self._window_ms = window_ms
        self._services: dict[ServiceName, _Service] = {}
        self.asked = 0
        self.unknown = 0
        self.acknowledged = 0
        self.double_writers = 0

    def feed(self, op: ClientOp) -> None:
        """Take the next operation."""
        own = self._services.get(op.service)
        if own is None:
            own = self._services[op.service] = _Service(self._window_ms)
        self.asked += 1
        if op.outcome == "ok":
            self.acknowledged += op.kind == "write"
        elif op.outcome == "unknown":
            self.unknown += 1
        own.register.feed(op)
        own.answers.feed(op)
        self.double_writers += own.epochs.feed(op)

    def linearizable(self) -> str:
        """Say which two values of which service cannot be put in one order, or ""."""
        for service, own in sorted(self._services.items()):
            problem = own.register.problem()
            if problem:
                return f"{service}: {problem}"
        return ""

    def client_gap_ms(self, until_ms: int) -> int:
        """The longest time in which a service answered no operation with "ok", until ``until_ms``.

        Counts from its first question; a service that nobody asked anything has no gap.
        """
        return max((own.answers.longest_ms(until_ms) for own in self._services.values()), default=0)

    def kept(self) -> int:
        """How many records are remembered."""
        return sum(own.register.kept() + own.epochs.kept() for own in self._services.values())
