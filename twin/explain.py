"""``twin explain``: why a singleton moved, told from a journal alone."""

import difflib
from collections.abc import Iterable

import msgspec

from core.errors import InputError
from core.ids import ServiceName
from core.journal import Line
from formats.paint import Paint
from twin.chain import Move, moves
from twin.facts import Fact, FactLog, read_facts
from twin.timeline import clock


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Every change of holder of one service, in order of time."""

    service: ServiceName
    moves: tuple[Move, ...]


def explain(lines: Iterable[Line], service: str, file: str) -> Explanation:
    """Find out why ``service`` moved, each time that it did.

    Raises: InputError if no agent of the journal knows the service; ``file`` names the journal in it.
    """
    log = read_facts(lines, ServiceName(service))
    if log.service not in log.services:
        near = difflib.get_close_matches(service, log.services, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        known = ", ".join(sorted(log.services)) or "there are none"
        raise InputError([f'{file}: --service "{service}": no such service; allowed: {known}{hint}'])
    return Explanation(service=log.service, moves=tuple(_with_waits(log, move) for move in moves(log)))


def _with_waits(log: FactLog, move: Move) -> Move:
    """Say why a new holder waited between the service's start and its first client."""
    fences = [fact.at_ms for fact in move.steps if fact.kind == "fenced"]
    if not fences or move.serving_ms < 0:
        return move
    admit_ms = fences[-1] + log.admission_ms
    text = f"may admit clients from here on: {log.admission_ms} ms after the last fence every old right has run out"
    wait = Fact(at_ms=min(admit_ms, move.serving_ms), node=move.dest, kind="admission", text=text)
    steps = sorted([*move.steps, wait], key=lambda fact: (fact.at_ms, fact.kind == "note:serving"))
    return msgspec.structs.replace(move, steps=tuple(steps))


def to_text(explanation: Explanation, paint: Paint) -> str:
    """Tell an explanation to a person: one block for each move."""
    if not explanation.moves:
        return f"{explanation.service} was never claimed in this journal.\n"
    return "\n".join(_block(move, paint) for move in explanation.moves)


def _block(move: Move, paint: Paint) -> str:
    title = f"{move.service}: {move.source} -> {move.dest}" if move.source else f"{move.service}: first on {move.dest}"
    head = f"{paint.strong(title)}, epoch {move.epoch}, at {clock(move.claim_ms)}"
    lines = [head, f"  why: {move.cause}"]
    if move.serving_ms >= 0:
        total = move.serving_ms - move.first_ms
        lines.append(
            f"  serving again {total} ms after the first cause" if move.source else f"  serving after {total} ms"
        )
    else:
        lines.append("  it never admitted clients in this epoch")
    lines.append("")
    lines += [_line(move, fact, paint) for fact in move.steps]
    if move.previous:
        lines += ["", f"  what {move.source} saw:"]
        lines += [_line(move, fact, paint) for fact in move.previous]
    elif move.source and move.source != move.dest:
        lines += ["", f"  what {move.source} saw: nothing, its journal has no line from then on"]
    return "\n".join(lines) + "\n"


def _line(move: Move, fact: Fact, paint: Paint) -> str:
    since = fact.at_ms - move.first_ms
    took = f" ({fact.span_ms} ms)" if fact.span_ms > 0 else ""
    word = fact.kind.removeprefix("note:").replace("_", " ")
    text = fact.text if fact.text.startswith(word) or not fact.kind.startswith("note:") else f"{word}: {fact.text}"
    about = f" [{fact.about}]" if fact.about and fact.about != fact.node and fact.about not in text else ""
    return f"  {since:+9,d} ms  {paint.node(f'{fact.node:<8}')} {_tone(fact, text + about, paint)}{paint.dim(took)}"


def _tone(fact: Fact, text: str, paint: Paint) -> str:
    if fact.kind in ("silence", "gap", "fence_failed", "claim_failed", "open_failed", "start_failed", "right_expired"):
        return paint.bad(text)
    return paint.good(text) if fact.kind in ("note:serving", "fenced") else text
