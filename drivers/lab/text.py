"""A run on the lab as text for a terminal: verdict, what was expected, how each singleton moved, what was said."""

from collections.abc import Iterator, Sequence

from formats.paint import Paint
from trial.marks import FaultMark, Marks, NoteMark
from trial.verdict import Outcome

QUIET = ("needs_wait", "running", "stopped", "power_ordered", "ensemble_intent")
"""Notes that a timeline for people leaves out."""
LINES_MAX = 60


def outcome_text(outcome: Outcome, marks: Marks, paint: Paint) -> str:
    """Tell a run: its timeline, then what came of it."""
    return "".join(f"{line}\n" for line in (*_timeline(marks, paint), "", *_verdict(outcome, paint)))


def _timeline(marks: Marks, paint: Paint) -> Iterator[str]:
    """Faults and notes in order of time, seconds from the begin of the run."""
    events: list[tuple[int, str]] = []
    for fault in marks.faults:
        events += _fault_lines(fault, paint)
    events += [(note.at_ms, _note_line(note)) for note in marks.notes if note.kind not in QUIET]
    ordered = sorted(events, key=lambda event: event[0])
    for at_ms, text in ordered[:LINES_MAX]:
        yield f"{(at_ms - marks.start_ms) / 1_000:8.3f} s  {text}"
    if len(ordered) > LINES_MAX:
        yield f"            and {len(ordered) - LINES_MAX} more"


def _fault_lines(fault: FaultMark, paint: Paint) -> list[tuple[int, str]]:
    kind = fault.fault.replace("_", " ")
    lines = [(fault.from_ms, paint.bad(f"{kind}: {fault.text}"))]
    if fault.to_ms >= 0:
        lines.append((fault.to_ms, f"over: {kind}: {fault.text}"))
    return lines


def _note_line(note: NoteMark) -> str:
    words = [note.by, note.service, note.kind.replace("_", " ")]
    words += [note.node] if note.node and note.node != note.by else []
    words += [f"(epoch {note.epoch})"] if note.epoch else []
    words += [f"– {note.detail}"] if note.detail else []
    return " ".join(word for word in words if word)


def _verdict(outcome: Outcome, paint: Paint) -> Iterator[str]:
    colour = paint.good if outcome.as_expected else paint.bad
    yield f"{outcome.scenario}: " + colour(f"{outcome.verdict}, expected {outcome.expected}")
    for move in outcome.failovers:
        phases = f"detect {move.detect_ms}, fence {move.fence_ms}, start {move.start_ms}"
        yield f"  {move.service}: {move.source} → {move.dest} in {move.total_ms} ms ({phases}); cause: {move.cause}"
    for service, down_ms in outcome.unavailable_ms.items():
        yield f"  {service}: unavailable for {down_ms} ms"
    yield (
        f"  clients: {outcome.acknowledged_writes} writes acknowledged, {outcome.lost_writes} lost, "
        f"{outcome.double_writers} answers of two at a time, longest gap {outcome.client_gap_ms} ms"
    )
    for wish in outcome.expectations:
        mark = paint.good("ok ") if wish.ok else paint.bad("NO ")
        yield f"  {mark} {wish.name}: wanted {wish.wanted}, got {wish.got}"
    for check in outcome.checks:
        if not check.ok:
            yield f"  {paint.bad('NO ')} {check.name}: {check.detail}"
    yield from _lines("pending", outcome.pending)
    if outcome.crash is not None:
        yield paint.bad(outcome.crash.traceback)


def _lines(what: str, said: Sequence[str]) -> Iterator[str]:
    for one in said:
        yield f"  {what}: {one}"
