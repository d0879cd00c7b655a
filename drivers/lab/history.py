"""What clients saw, as times in which nodes served: the lab's counterpart of what the twin simply knows."""

import itertools
from collections.abc import Iterable, Sequence

from core.ids import Epoch, NodeId
from trial.history import by_service
from trial.marks import ClientOp, FaultMark, Span

GAP_MS = 100
"""A service is unavailable when nobody was answered for longer than this and somebody asked in vain meanwhile."""


def serving_spans(ops: Iterable[ClientOp], end_ms: int) -> list[Span]:
    """The times in which each node served under each epoch, from its first good answer to its last, by begin.

    A span is broken where nothing was answered for ``GAP_MS`` and an operation failed meanwhile, so that an answer that
    is merely slow interrupts nothing. The last one lasts until ``end_ms`` if nothing failed after its last answer.
    """
    found: list[Span] = []
    for service, own in by_service(ops):
        good = sorted((op for op in own if op.outcome == "ok"), key=_answered)
        bad = sorted((op for op in own if op.outcome != "ok"), key=_answered)
        gaps = _gaps(good, bad)
        held: dict[tuple[NodeId, Epoch], Span] = {}
        for op in good:
            span = held.get((op.node, op.epoch))
            if span is None or any(span.to_ms <= from_ms and to_ms <= op.answered_ms for from_ms, to_ms in gaps):
                span = Span(service=service, node=op.node, epoch=op.epoch, from_ms=op.answered_ms)
                held[(op.node, op.epoch)] = span
                found.append(span)
            span.to_ms = op.answered_ms
        if good and not any(op.answered_ms > good[-1].answered_ms + GAP_MS for op in bad):
            held[(good[-1].node, good[-1].epoch)].to_ms = end_ms
    return sorted(found, key=lambda span: (span.from_ms, span.service, span.epoch))


def ended_by(spans: Iterable[Span], faults: Sequence[FaultMark]) -> None:
    """Let a span whose last answer came just before a fault on its node last until that fault.

    Clients ask often, not always: the node served until it was struck.
    """
    for span in spans:
        near = [f.from_ms for f in faults if span.node in f.nodes and 0 < f.from_ms - span.to_ms <= GAP_MS]
        span.to_ms = max([span.to_ms, *near])


def _gaps(good: Sequence[ClientOp], bad: Sequence[ClientOp]) -> list[tuple[int, int]]:
    """From one good answer to the next, where that took long and something failed meanwhile."""
    found: list[tuple[int, int]] = []
    at = 0
    for before, after in itertools.pairwise(good):
        if after.answered_ms - before.answered_ms <= GAP_MS:
            continue
        while at < len(bad) and bad[at].answered_ms < before.answered_ms:
            at += 1
        if any(op.invoked_ms < after.answered_ms for op in bad[at:]):
            found.append((before.answered_ms, after.answered_ms))
    return found


def _answered(op: ClientOp) -> int:
    return op.answered_ms
