"""What a run cost its clients: unavailable time of each singleton, and every move of one with its phases."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from core.ids import NodeId, ServiceName
from trial.marks import FaultMark, Marks, NoteMark, Span
from trial.verdict import Failover

CAUSE_MS_MAX = 60_000
"""A fault that began earlier before the trouble than this is its cause only while it lasts."""

OWN_CAUSES = (
    "gave_up",
    "service_failed",
    "refused",
    "withdrawn",
    "handed_over",
    "released",
    "session_lost",
    "draining",
)
"""What a holder itself says when it loses a service (notes): the cause where no fault explains it better."""

UNKNOWN_CAUSE = "unknown"
"""The cause of a failover that neither a fault nor the holder explains."""


def unavailable_ms(marks: Marks, services: Iterable[ServiceName]) -> dict[str, int]:
    """Measure, for each service, the time from the first moment it served to the end in which no node served it.

    A service that never served was unavailable from the start of the run.
    """
    return {service: _uncovered(spans_of(marks, service), marks.start_ms, marks.end_ms) for service in services}


def spans_of(marks: Marks, service: ServiceName) -> list[Span]:
    """The times in which a node served, ended by the end of the run at the latest, in order of their begin."""
    return [
        Span(service=s.service, node=s.node, epoch=s.epoch, from_ms=s.from_ms, to_ms=end_of(s.to_ms, marks.end_ms))
        for s in marks.spans
        if s.service == service
    ]


def end_of(to_ms: int, end_ms: int) -> int:
    """When something ended that may still go on (-1)."""
    return end_ms if to_ms < 0 else min(to_ms, end_ms)


def _uncovered(spans: Sequence[Span], start_ms: int, end_ms: int) -> int:
    if not spans:
        return end_ms - start_ms
    gap_ms, covered_ms = 0, spans[0].from_ms
    for span in spans:
        gap_ms += max(0, span.from_ms - covered_ms)
        covered_ms = max(covered_ms, span.to_ms)
    return gap_ms + max(0, end_ms - covered_ms)


def failovers(marks: Marks, services: Iterable[ServiceName]) -> tuple[Failover, ...]:
    """Every move of a singleton: a serving span of a newer epoch than the one before, in order of time."""
    found: list[Failover] = []
    for service in services:
        notes = [note for note in marks.notes if note.service == service]
        before: Span | None = None
        for span in spans_of(marks, service):
            if before is not None and span.epoch > before.epoch:
                found.append(_failover(marks, notes, before, span))
            if before is None or span.epoch >= before.epoch:
                before = span
    return tuple(sorted(found, key=lambda move: (move.at_ms, move.service)))


def _failover(marks: Marks, notes: Sequence[NoteMark], before: Span, span: Span) -> Failover:
    since = bisect_left(notes, before.from_ms, key=_note_ms)
    said = notes[since : bisect_right(notes, span.from_ms, key=_note_ms)]
    claim_ms = min(
        [n.at_ms for n in said if n.kind == "claimed" and before.epoch < n.epoch <= span.epoch], default=span.from_ms
    )
    fences = [n.at_ms for n in said if n.kind == "fenced" and n.by == span.node and n.at_ms >= claim_ms]
    fenced_ms = max(fences, default=claim_ms)
    trouble_ms = min(before.to_ms, claim_ms)
    fault = cause_of(marks.faults, before.node, before.from_ms, trouble_ms)
    own = _own_cause(said, before, claim_ms)
    if fault is not None and own and not fault.nodes:
        fault = None  # a fault of the rack as a whole explains less than what the holder itself said
    cause = fault.fault if fault else own or UNKNOWN_CAUSE
    first_ms = fault.from_ms if fault and trouble_ms - fault.from_ms <= CAUSE_MS_MAX else trouble_ms
    return Failover(
        service=span.service,
        cause=cause,
        source=before.node,
        dest=span.node,
        epoch=span.epoch,
        at_ms=first_ms,
        detect_ms=claim_ms - first_ms,
        fence_ms=fenced_ms - claim_ms,
        start_ms=span.from_ms - fenced_ms,
        total_ms=span.from_ms - first_ms,
    )


def cause_of(faults: Sequence[FaultMark], node: NodeId, since_ms: int, at_ms: int) -> FaultMark | None:
    """The latest fault on ``node`` (or the whole rack) that still lasted, or had begun shortly before ``at_ms``.

    ``faults`` in order of their begin; none from before ``since_ms`` counts, and one that ``waits`` for another to
    happen only if no other explains it.
    """
    waiting: FaultMark | None = None
    first, last = bisect_left(faults, since_ms, key=_fault_ms), bisect_right(faults, at_ms, key=_fault_ms)
    for fault in reversed(faults[first:last]):
        hit = not fault.nodes or node in fault.nodes
        lasts = fault.to_ms < 0 or fault.to_ms >= at_ms
        if hit and (lasts or at_ms - fault.from_ms <= CAUSE_MS_MAX):
            if not fault.waits:
                return fault
            waiting = waiting or fault
    return waiting


def _note_ms(note: NoteMark) -> int:
    return note.at_ms


def _fault_ms(fault: FaultMark) -> int:
    return fault.from_ms


def _own_cause(notes: Iterable[NoteMark], before: Span, claim_ms: int) -> str:
    """What the holder itself said last before it lost the service; empty if it said nothing."""
    said = [n for n in notes if n.by == before.node and before.from_ms <= n.at_ms <= claim_ms and n.kind in OWN_CAUSES]
    return said[-1].kind if said else ""


def figures(marks: Marks, services: Iterable[ServiceName], moves: Sequence[Failover]) -> dict[str, int]:
    """Count what a long run is judged by: its faults, and for each singleton its availability and failovers.

    ``availability_ppm`` is of the time from the start to the end; failover times are nearest-rank quantiles.
    """
    found = {"faults": len(marks.faults)}
    lasted = max(1, marks.end_ms - marks.start_ms)
    for service, down_ms in unavailable_ms(marks, services).items():
        totals = sorted(move.total_ms for move in moves if move.service == service)
        found[f"availability_ppm.{service}"] = (lasted - down_ms) * 1_000_000 // lasted
        found[f"failovers.{service}"] = len(totals)
        for percent in (50, 99) if totals else ():
            rank = -(-percent * len(totals) // 100)
            found[f"failover_ms_p{percent}.{service}"] = totals[max(0, rank - 1)]
    return {**found, **_upgrade(marks)}


def _upgrade(marks: Marks) -> dict[str, int]:
    """How many nodes were upgraded, and how long that took from the first one's turn to the end of the last one's."""
    begun = [note.at_ms for note in marks.notes if note.kind == "upgrade_begun"]
    done = [note.at_ms for note in marks.notes if note.kind == "upgraded"]
    if not begun or not done:
        return {}
    return {"upgraded_nodes": len(done), "upgrade_ms": done[-1] - begun[0]}
