"""What clients saw, judged from outside: one order of a register, no write lost, no answer of an old epoch."""

import itertools
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence

import msgspec

from core.ids import Epoch, ServiceName
from trial.marks import NO_EPOCH, ClientOp

NEVER_MS = 1 << 62


class Zone(msgspec.Struct, frozen=True, order=True):
    """When a value must have been the register's: from the first answer that shows it to the last question for it."""

    low_ms: int
    high_ms: int
    value: int


def by_service(ops: Iterable[ClientOp]) -> list[tuple[ServiceName, list[ClientOp]]]:
    """The operations of each service in their order, the services in order of their names."""
    found: dict[ServiceName, list[ClientOp]] = {}
    for op in ops:
        found.setdefault(op.service, []).append(op)
    return sorted(found.items())


def linearizable(ops: Iterable[ClientOp]) -> str:
    """Say which two values of a register cannot be put in one order, or "".

    Source: Gibbons and Korach, Testing Shared Memories, SIAM J. Comput. 26(4), 1997, 4.4 (every value written once).
    """
    for service, own in by_service(ops):
        problem = _register(own)
        if problem:
            return f"{service}: {problem}"
    return ""


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
    found: list[ClientOp] = []
    for _service, own in by_service(op for op in ops if op.outcome == "ok" and op.epoch != NO_EPOCH):
        answers = sorted(own, key=_answered)
        newest: Epoch = NO_EPOCH
        index = 0
        for op in sorted(own, key=_invoked):
            while index < len(answers) and answers[index].answered_ms < op.invoked_ms:
                newest = max(newest, answers[index].epoch)
                index += 1
            if op.epoch < newest:
                found.append(op)
    return sorted(found, key=_invoked)


def client_gap_ms(ops: Iterable[ClientOp], until_ms: int) -> int:
    """The longest time in which a service answered no operation with "ok", from its first question to ``until_ms``.

    A service that nobody asked anything has no gap.
    """
    longest_ms = 0
    for _service, own in by_service(ops):
        answers = sorted(op.answered_ms for op in own if op.outcome == "ok" and op.answered_ms <= until_ms)
        edges = [min(op.invoked_ms for op in own), *answers, until_ms]
        longest_ms = max(longest_ms, *(after - before for before, after in itertools.pairwise(edges)))
    return longest_ms


def _answered(op: ClientOp) -> int:
    return op.answered_ms


def _invoked(op: ClientOp) -> int:
    return op.invoked_ms


def _register(ops: Sequence[ClientOp]) -> str:
    writes = {op.value: op for op in ops if op.kind == "write"}
    spans: dict[int, tuple[int, int]] = {0: (-1, -1)}
    for op in writes.values():
        if op.outcome == "ok":
            spans[op.value] = (op.answered_ms, op.invoked_ms)
    for op in ops:
        if op.kind == "read" and op.outcome == "ok":
            write = writes.get(op.value)
            if op.value and (write is None or write.outcome == "failed"):
                return f"read {op.value} at {op.answered_ms} ms, which nobody wrote"
            if write is not None and op.answered_ms < write.invoked_ms:
                return f"read {op.value} at {op.answered_ms} ms, before it was written at {write.invoked_ms} ms"
            first, latest = spans.get(op.value, (NEVER_MS, write.invoked_ms if write else -1))
            spans[op.value] = (min(first, op.answered_ms), max(latest, op.invoked_ms))
    return _conflict(spans)


def _conflict(spans: dict[int, tuple[int, int]]) -> str:
    """Find two values whose times exclude each other; ``spans`` maps a value to (first answer, last question)."""
    forward = sorted(Zone(first, latest, value) for value, (first, latest) in spans.items() if first < latest)
    for one, two in itertools.pairwise(forward):
        if two.low_ms < one.high_ms:
            return f"{one.value} was current until {one.high_ms} ms although {two.value} was from {two.low_ms} ms on"
    lows = [zone.low_ms for zone in forward]
    for value, (first, latest) in sorted(spans.items()):
        if first < latest:
            continue
        index = bisect_left(lows, latest) - 1
        if index >= 0 and first < forward[index].high_ms:
            held = forward[index]
            return f"{value} was written and answered when {held.value} was current ({held.low_ms}-{held.high_ms} ms)"
    return ""
