"""Whole finite histories of clients, judged from outside: one order of a register, no write lost, no old epoch."""

from collections.abc import Collection, Iterable

from core.ids import ServiceName
from trial.marks import ClientOp
from trial.register import NEVER_MS
from trial.seen import Answers, Epochs, Seen


def by_service(ops: Iterable[ClientOp]) -> list[tuple[ServiceName, list[ClientOp]]]:
    """The operations of each service in their order, the services in order of their names."""
    found: dict[ServiceName, list[ClientOp]] = {}
    for op in ops:
        found.setdefault(op.service, []).append(op)
    return sorted(found.items())


def linearizable(ops: Iterable[ClientOp]) -> str:
    """Say which two values of a register cannot be put in one order, or ""."""
    seen = Seen(NEVER_MS)
    for op in sorted(ops, key=_answered):
        seen.feed(op)
    return seen.linearizable()


def acknowledged(ops: Iterable[ClientOp]) -> list[ClientOp]:
    """The writes that were acknowledged, in order of their answers."""
    return sorted((op for op in ops if op.kind == "write" and op.outcome == "ok"), key=_answered)


def lost_writes(ops: Iterable[ClientOp], final: int, kept: Collection[int] | None = None) -> list[ClientOp]:
    """The acknowledged writes of one service that a final read does not account for, in order of their answers.

    ``final`` is the register's last value, read when nothing was under way any more. With ``kept``, all values that
    the service still has, each acknowledged one that is not among them is lost. Without it, a register can only tell
    that a write is lost if its final value was written, and answered, before that write was asked for.
    """
    known = list(ops)
    writes = acknowledged(known)
    if kept is not None:
        present = frozenset(kept)
        return [op for op in writes if op.value not in present]
    last = next((op for op in known if op.kind == "write" and op.value == final), None)
    if last is None:
        return writes if final == 0 else []
    if last.outcome != "ok":
        return []  # it may have taken effect at any later time, so it may have come after all of them
    return [op for op in writes if op.invoked_ms > last.answered_ms]


def double_writers(ops: Iterable[ClientOp]) -> list[ClientOp]:
    """The operations that were asked for after a newer epoch had answered, and yet answered under an older one.

    Both may be right on their own: together they say that two nodes served the service at one time. Operations that do
    not say their epoch, or that were not answered "ok", say nothing. In order of the questions.
    """
    epochs: dict[ServiceName, Epochs] = {}
    answers = sorted(ops, key=_answered)
    return sorted((op for op in answers if epochs.setdefault(op.service, Epochs()).feed(op)), key=_invoked)


def client_gap_ms(ops: Iterable[ClientOp], until_ms: int) -> int:
    """The longest time in which a service answered no operation with "ok", from its first question to ``until_ms``.

    A service that nobody asked anything has no gap.
    """
    answers: dict[ServiceName, Answers] = {}
    for op in sorted(ops, key=_answered):
        answers.setdefault(op.service, Answers()).feed(op, until_ms)
    return max((own.longest_ms(until_ms) for own in answers.values()), default=0)


def _answered(op: ClientOp) -> int:
    return op.answered_ms


def _invoked(op: ClientOp) -> int:
    return op.invoked_ms
