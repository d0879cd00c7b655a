"""Why a campaign failed, in words: the rule that broke, what was seen, which faults it took, and what led to it."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.invariants import INVARIANTS
from core.journal import read_lines
from twin.checkers import CHECKERS
from twin.explain import explain
from twin.run import Make, Options, Result, run
from twin.story import Incident
from twin.swarm.found import Found
from twin.swarm.tape import Table, Tape, to_scenario
from twin.timeline import clock, took

if TYPE_CHECKING:
    from twin.swarm.blame import Blame

FACTS_MAX = 8
"""So many facts are told besides the faults."""
AGAIN_MS = 1_000
"""What several nodes say within this time is one fact."""
SEEN_MAX = 300
"""Letters of what was seen; the whole of it is in the outcome of the run."""
_IDLE = ("suspect", "joined")
"""Kinds of facts that happen all the time and explain nothing."""
_MOMENT = re.compile(r"\b(?:at|from|until|to|since) (\d+) ms")
_TARGETS = {
    "holder-of": "the holder of {}",
    "standby-of": "the standby of {}",
    "steward-of": "the steward of {}",
    "rack": "rack {}",
    "pdu": "PDU {}",
    "switch": "switch {}",
}
_PLAIN = {"all": "every node", "leader": "the ZooKeeper leader", "voter": "every ZooKeeper voter"}


def reason(tape: Tape, found: Found, blame: "Blame | None" = None, make: Make | None = None) -> list[str]:
    """Say why a tape failed, one line a thought; it is run once more for what led to it, unless the code crashed.

    Raises: InputError if the tape is none.
    """
    return [
        rule_words(found.verdict, found.broken, found.detail),
        _seen(found),
        _needed(tape, blame),
        *(_raised(found) if found.verdict == "crash" else _led_to_it(tape, found, make)),
    ]


def rule_words(verdict: str, broken: str, detail: str = "") -> str:
    """Say which rule broke, with its number in docs/RULES.md; ``detail`` names the invariant if it was one."""
    for checker in CHECKERS:
        if checker.name == broken:
            rule = f"Rule {checker.rule} (docs/RULES.md)" if checker.rule else "A promise"
            return f"{rule} was broken: {checker.text} ({verdict}: {broken})."
    match broken:
        case "crash":
            return "The code itself failed, with an exception (crash)."
        case "invariants":
            name = next((name for name in INVARIANTS if f" {name}:" in detail), "")
            text = (INVARIANTS[name].__doc__ or "").rstrip(".") if name else "an invariant that every machine checks"
            return f"A machine broke {text[:1].lower() + text[1:]} ({verdict}: {name or broken})."
        case "convergence":
            return f"The rack did not converge in time after all faults had been removed ({verdict}: {broken})."
        case _:
            return f"What was expected did not come true: {broken} ({verdict})."


def _seen(found: Found) -> str:
    lines = found.detail.strip().splitlines()
    if not lines:
        return "Nothing more was seen."
    text = lines[0].split(": ServiceView(")[0]  # the whole state of a service is for the journal, not for a person
    return f"Seen: {text if len(text) <= SEEN_MAX else text[:SEEN_MAX] + '...'}"


def fault_words(fault: Table) -> str:
    """Say a fault and when it struck: "power loss of n3 at 1:02.000"."""
    kind = str(fault.get("kind", "")).replace("_", " ")
    target = str(fault.get("target", ""))
    at_ms, for_ms, times = (_number(fault, key) for key in ("at_ms", "for_ms", "times"))
    of = f" of {target_words(target)}" if target else ""
    lasting = f" for {took(for_ms)}" if for_ms else ""
    often = f" ({times} times)" if times > 1 else ""
    return f"{kind}{of} at {clock(at_ms)}{lasting}{often}"


def target_words(target: str) -> str:
    """Say what a fault strikes; a target with brackets is left as it is."""
    if "(" in target:
        return target
    return " and ".join(_one_target(part.strip()) for part in target.split(","))


def _one_target(part: str) -> str:
    kind, colon, name = part.partition(":")
    return _TARGETS.get(kind, part).format(name) if colon else _PLAIN.get(part, part)


def _number(fault: Table, key: str) -> int:
    value = fault.get(key, 0)
    return value if isinstance(value, int) else 0


def _needed(tape: Tape, blame: "Blame | None") -> str:
    """The faults it took: the necessary ones, or all of the tape if nobody has asked which were."""
    if not tape.fault:
        return "It took no fault at all."
    if blame is None:
        return f"It took: {'; '.join(fault_words(fault) for fault in tape.fault)}."
    sure = [f"{one.words} (without it {one.failed})" for one in blame.faults if one.necessary]
    also = [one.words for one in blame.faults if one.needed and not one.necessary]
    said = [f"With all faults {blame.failed} of {blame.seeds} runs fail."]
    said += [f"Necessary: {'; '.join(sure)}."] if sure else []
    said += [f"On this seed it also took: {'; '.join(also)}."] if also else []
    return " ".join(said)


def _raised(found: Found) -> list[str]:
    """Where the code crashed: the last frame of its traceback."""
    frames = [line.strip() for line in found.detail.splitlines() if line.lstrip().startswith("File ")]
    return [f"Raised in: {frames[-1]}"] if frames else []


def _led_to_it(tape: Tape, found: Found, make: Make | None) -> list[str]:
    """How a singleton came to move, and the faults with the last facts before the failure was seen."""
    chunks: list[bytes] = []
    result = run(to_scenario(tape), Options(), sink=chunks.append, make=make)
    service = _service(result, found)
    until_ms = _seen_ms(found, result, service)
    facts = _facts(result.story.incidents, service, until_ms)
    lines = [f"  {clock(fact.at_ms)}  {_fact_words(fact)}" for fact in facts]
    return [*_moved(b"".join(chunks), service, until_ms), *(["What led to it:", *lines] if lines else [])]


def _moved(journal: bytes, service: str, until_ms: int) -> list[str]:
    """The last move of a service before the failure was seen, with its cause."""
    if not service:
        return []
    found = explain(read_lines(journal.splitlines(keepends=True)), service, "journal").moves
    moves = [move for move in found if move.source and move.claim_ms <= until_ms]
    if not moves:
        return []
    last = moves[-1]
    where = f"{service} went from {last.source} to {last.dest} at {clock(last.claim_ms)} (epoch {last.epoch})"
    return [f"Before that, {where}: {last.cause}."]


def _seen_ms(found: Found, result: Result, service: str) -> int:
    """When the failure was seen: the last moment that its words name, else the last fact of its service."""
    moments = [int(at_ms) for at_ms in _MOMENT.findall(found.detail)]
    if moments or found.verdict != "safety" or not service:
        return max(moments, default=result.outcome.sim_ms)
    return max((one.at_ms for one in result.story.incidents if one.service == service), default=result.outcome.sim_ms)


def _service(result: Result, found: Found) -> str:
    """The singleton that a failure is about; empty if it is about none."""
    names = [name for name in result.outcome.unavailable_ms if re.search(rf"\b{re.escape(name)}\b", found.detail)]
    return names[0] if names else ""


def _facts(incidents: Sequence[Incident], service: str, until_ms: int) -> list[Incident]:
    """The faults, and the last facts about the rack and the service; what is said twice is a fact once."""
    told = [one for one in incidents if one.at_ms <= until_ms and one.service in ("", service)]
    known: dict[tuple[str, str], int] = {}
    facts: list[Incident] = []
    for one in told:
        if (
            one.level == "detail"
            or one.kind in _IDLE
            or one.at_ms - known.get((one.service, one.text), -AGAIN_MS) < AGAIN_MS
        ):
            continue
        known[(one.service, one.text)] = one.at_ms
        facts.append(one)
    last = [one for one in facts if one.level != "fault"][-FACTS_MAX:]
    return [one for one in facts if one.level == "fault" or one in last]


def _fact_words(fact: Incident) -> str:
    subject = " ".join(part for part in (fact.node, fact.service) if part)
    return f"{subject}: {fact.text}" if subject else fact.text
