"""Why a singleton moved: the causal chain of each move, followed back through a journal's facts."""

from bisect import bisect_left, bisect_right

import msgspec

from core.ids import Epoch, NodeId, ServiceName
from twin.facts import Fact, FactLog

SILENCE_MS = 300
"""A node whose journal has no line for this long before a claim counts as having gone silent there."""
LOOKBACK_MS = 600_000
"""No cause is sought further back than this."""
PREVIOUS_MAX = 14
"""At most this many lines of the previous holder's own view are told."""

_OWN_CAUSES = {
    "note:withdrawn": "the holder had no fresh evidence and withdrew",
    "note:refused": "the storage or the lease refused the holder",
    "note:gave_up": "the holder made no progress and gave the service up",
    "note:service_failed": "the service failed on its holder",
    "note:draining": "the holder was drained",
    "note:handed_over": "the holder's agent could not come back and its supervisor handed over",
    "note:session_lost": "the holder's session was over",
    "exited": "the service exited on its holder",
    "started": "the holder's agent started anew",
    "beat_refused": "the storage or the lease refused the holder",
    "storage_lost": "the holder lost its storage",
}
_CLEAN = ("released",)


class Move(msgspec.Struct, frozen=True, kw_only=True, rename={"source": "from", "dest": "to"}):
    """One change of holder. ``first_ms`` is the first cause, to which a person's clock is set.

    ``steps`` is the chain in order of time, ``previous`` what the previous holder itself saw of it. ``serving_ms`` is
    -1 if the new holder never admitted clients.
    """

    service: ServiceName
    source: NodeId
    dest: NodeId
    epoch: Epoch
    cause: str
    first_ms: int
    claim_ms: int
    serving_ms: int
    steps: tuple[Fact, ...]
    previous: tuple[Fact, ...]


def moves(log: FactLog) -> list[Move]:
    """Find every claim of the service, with the chain that led to it and what came of it."""
    claims = _claims(log.facts)
    found: list[Move] = []
    for number, claim in enumerate(claims):
        before = claims[number - 1] if number else None
        after_ms = claims[number + 1].at_ms if number + 1 < len(claims) else None
        found.append(_move(log, before, claim, after_ms))
    return found


def _claims(facts: list[Fact]) -> list[Fact]:
    """The first fact that says that a claim of each epoch was committed, in order."""
    seen: dict[Epoch, Fact] = {}
    for fact in facts:
        if fact.kind in ("claim", "note:claimed") and fact.epoch and fact.epoch not in seen:
            seen[fact.epoch] = fact
    return sorted(seen.values(), key=lambda fact: (fact.at_ms, fact.epoch))


def _move(log: FactLog, before: Fact | None, claim: Fact, after_ms: int | None) -> Move:
    source = before.node if before else NodeId("")
    since = _served_since(log.facts, before, claim) if before else 0
    causes = _causes(log, source, since, claim) if before else []
    start = [fact for fact in log.facts if _belongs(fact, claim, after_ms)]
    served = [fact.at_ms for fact in start if fact.kind == "note:serving"]
    first_ms = min([fact.at_ms for fact in causes], default=claim.at_ms)
    steps = sorted([*causes, *_drop_doubles(start)], key=lambda fact: fact.at_ms)
    until = served[0] + 60_000 if served else claim.at_ms + 60_000
    return Move(
        service=log.service,
        source=source,
        dest=claim.node,
        epoch=claim.epoch,
        cause=_cause(causes, source),
        first_ms=first_ms,
        claim_ms=claim.at_ms,
        serving_ms=served[0] if served else -1,
        steps=tuple(steps),
        previous=_previous(log, source, claim, first_ms, until) if before else (),
    )


def _served_since(facts: list[Fact], before: Fact, claim: Fact) -> int:
    """When the previous holder last reached a good state; no cause of its end lies earlier."""
    good = ("note:serving", "note:resumed", "note:adopted", "note:claimed", "claim")
    times = [f.at_ms for f in facts if f.node == before.node and f.kind in good and f.at_ms < claim.at_ms]
    return max([*times, before.at_ms, claim.at_ms - LOOKBACK_MS])


def _causes(log: FactLog, source: NodeId, since: int, claim: Fact) -> list[Fact]:
    """What led to the claim: the holder's own last words, its silence, and what the others saw of it."""
    window = [fact for fact in log.facts if since < fact.at_ms <= claim.at_ms and fact.kind != "claim"]
    own = [f for f in window if f.node == source and (f.kind in _OWN_CAUSES or f.kind in _ENDINGS)]
    heard = max([f.at_ms for f in window if f.kind == "heard" and f.about == source], default=-1)
    others = [f for f in window if f.node != source and f.about == source and f.at_ms > heard]
    others = _once(others)
    others += [f for f in window if f.node != source and f.kind in ("closed_session", "claim_failed")]
    others += [f for f in window if f.node == claim.node and f.kind in ("lease_gone", "note:needs_wait")][-1:]
    found = [*own, *others]
    silent = _silence(log, source, since, claim.at_ms)
    if silent is not None and source != claim.node:
        found.append(silent)
    return sorted(found, key=lambda fact: fact.at_ms)


_ENDINGS = ("released", "released_unclean", "gave_lease", "stopped_service", "stop_failed", "closed", "right_expired")


def _once(facts: list[Fact]) -> list[Fact]:
    """One fact of each kind: the first, with who else saw the same."""
    first: dict[str, Fact] = {}
    others: dict[str, list[str]] = {}
    for fact in facts:
        if fact.kind in first:
            if fact.node not in others[fact.kind] and fact.node != first[fact.kind].node:
                others[fact.kind].append(fact.node)
        elif fact.kind != "heard":
            first[fact.kind] = fact
            others[fact.kind] = []
    told: list[Fact] = []
    for kind, fact in first.items():
        also = others[kind]
        names = ", ".join(also[:4]) + (f" and {len(also) - 4} more" if len(also) > 4 else "")
        told.append(msgspec.structs.replace(fact, text=f"{fact.text} (so do {names})") if also else fact)
    return told


def _silence(log: FactLog, source: NodeId, since: int, claim_ms: int) -> Fact | None:
    """The gap in the holder's own journal that reaches up to the claim, as a fact at its beginning."""
    times = log.lines_ms.get(source, [])
    index = bisect_right(times, claim_ms)
    last = times[index - 1] if index else -1
    if last < since or claim_ms - last < SILENCE_MS:
        return None
    again = times[index] if index < len(times) else -1
    text = "its journal breaks off here: no power, frozen or crashed"
    text += f"; its next line is {again - last} ms later" if again >= 0 else "; no line of it follows"
    return Fact(at_ms=last, node=source, kind="silence", text=text)


def _belongs(fact: Fact, claim: Fact, after_ms: int | None) -> bool:
    """Whether a fact is the claimer's own work of this epoch, before somebody else claims."""
    own = fact.node == claim.node and fact.at_ms >= claim.at_ms and (after_ms is None or fact.at_ms <= after_ms)
    return own and fact.kind in _START and fact.epoch in (Epoch(0), claim.epoch)


_START = (
    "claim",
    "note:claimed",
    "claim_failed",
    "note:claim_unanswered",
    "fenced",
    "fence_failed",
    "opened",
    "open_failed",
    "recorded",
    "started_service",
    "start_failed",
    "commit_failed",
    "note:serving",
    "note:gave_up",
    "note:service_failed",
    "note:needs_wait",
)


def _drop_doubles(facts: list[Fact]) -> list[Fact]:
    """Leave out the note of a claim whose commit is told, and everything after the first ``serving``."""
    committed = any(fact.kind == "claim" for fact in facts)
    kept: list[Fact] = []
    for fact in facts:
        if committed and fact.kind == "note:claimed":
            continue
        kept.append(fact)
        if fact.kind == "note:serving":
            break
    return kept


def _cause(causes: list[Fact], source: NodeId) -> str:
    """Name the cause in one phrase: the most telling fact of the chain."""
    kinds = [fact.kind for fact in causes]
    own = [fact.kind for fact in causes if fact.node == source]
    if not source:
        return "nobody held it yet"
    for kind in own:
        if kind in _OWN_CAUSES and kind != "started":
            return _OWN_CAUSES[kind]
    if any(kind in _CLEAN for kind in own):
        return "the holder handed it over cleanly"
    if "note:early_close" in kinds or "closed_session" in kinds:
        return f"{source} went silent and its BMC proved it off: its session was closed early"
    if "silence" in kinds:
        return f"{source} went silent and its session expired"
    if "lease_gone" in kinds or "member_gone" in kinds or "note:lost" in kinds:
        return f"the session of {source} expired though it was alive: it was cut off"
    return _OWN_CAUSES["started"] if "started" in own else "the lease was free"


def _previous(log: FactLog, source: NodeId, claim: Fact, first_ms: int, until_ms: int) -> tuple[Fact, ...]:
    """What the previous holder itself saw from the first cause on, gaps in its journal included."""
    own = [f for f in log.facts if f.node == source and first_ms <= f.at_ms <= until_ms and f.epoch <= claim.epoch]
    if source == claim.node:
        return ()
    told = _repeats(own)[:PREVIOUS_MAX]
    times = log.lines_ms.get(source, [])
    start = bisect_left(times, first_ms)
    for before, after in zip(times[max(start - 1, 0) :], times[start:] if start else times[1:], strict=False):
        if before > until_ms:
            break
        if after - before >= 1_000 and before >= first_ms - 1_000:
            text = f"no line of its journal for {after - before} ms"
            told.append(Fact(at_ms=before, node=source, kind="gap", text=text))
            break
    return tuple(sorted(told, key=lambda fact: fact.at_ms))


def _repeats(facts: list[Fact]) -> list[Fact]:
    """One fact for those of the same words that follow each other, with how often and until when."""
    told: list[Fact] = []
    counts: list[int] = []
    ends: list[int] = []
    for fact in facts:
        if told and (told[-1].kind, told[-1].text) == (fact.kind, fact.text):
            counts[-1] += 1
            ends[-1] = fact.at_ms
        else:
            told.append(fact)
            counts.append(1)
            ends.append(fact.at_ms)
    return [
        msgspec.structs.replace(fact, text=f"{fact.text}, {count} times within {end - fact.at_ms} ms")
        if count > 1
        else fact
        for fact, count, end in zip(told, counts, ends, strict=True)
    ]
