"""Turns the truth of a run into its story: bands, holdings, fault marks and incidents."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from core.ids import NodeId, ServiceName
from trial.marks import FaultMark, NoteMark
from trial.measures import end_of, spans_of
from twin.story import Band, BandKind, Hold, Incident, Level, Mark, Story
from twin.truth import Truth

SUSPECT_MS_MAX = 2_000
"""A suspicion that no loss follows is drawn no longer than this."""

_POWER: dict[str, BandKind] = {
    "off": "off",
    "firmware": "booting",
    "netboot": "booting",
    "no_boot": "booting",
    "up": "up",
    "frozen": "frozen",
    "crashed": "frozen",
}
_MEMBERSHIP: dict[str, BandKind] = {
    "joined": "joined",
    "suspect": "suspect",
    "early_close": "lost",
    "lost": "lost",
    "quarantined": "quarantined",
    "maintenance": "maintenance",
}
_LEVELS: dict[str, Level] = {
    "serving": "good",
    "resumed": "good",
    "adopted": "good",
    "fenced": "good",
    "power_fence_confirmed": "good",
    "brake_released": "good",
    "joined": "good",
    "maintenance": "good",
    "staged": "info",
    "restarting": "info",
    "upgraded": "good",
    "upgrade_done": "good",
    "upgrade_halted": "bad",
    "session_lost": "bad",
    "lost": "bad",
    "withdrawn": "bad",
    "refused": "bad",
    "service_failed": "bad",
    "gave_up": "bad",
    "fence_failed": "bad",
    "power_failed": "bad",
    "boot_timeout": "bad",
    "quarantined": "bad",
    "brake_engaged": "bad",
    "nowhere": "bad",
    "claimed": "info",
    "released": "info",
    "released_unclean": "bad",
    "early_close": "info",
    "suspect": "info",
    "handed_over": "info",
    "draining": "info",
    "ensemble_changed": "info",
    "opened": "info",
    "started": "info",
}


def tell(
    truth: Truth, nodes: Sequence[NodeId], services: Sequence[ServiceName], heal_ms: int, title: str, why: str
) -> Story:
    """Tell the story of a run over ``nodes`` and the singletons ``services``."""
    return Story(
        title=title,
        why=why,
        nodes=tuple(nodes),
        heal_ms=heal_ms,
        end_ms=truth.end_ms,
        bands=(*_power_bands(truth, nodes), *_membership_bands(truth, nodes)),
        holds=tuple(hold for service in services for hold in _holds(truth, service)),
        marks=tuple(_mark(fault, truth.end_ms) for fault in truth.faults),
        incidents=tuple(_incidents(truth, heal_ms)),
    )


def _power_bands(truth: Truth, nodes: Sequence[NodeId]) -> list[Band]:
    states: dict[NodeId, list[tuple[int, BandKind]]] = {node: [] for node in nodes}
    for change in truth.nodes:
        if change.axis == "power" and change.node in states:
            if not states[change.node] and change.at_ms > truth.start_ms:
                states[change.node].append((truth.start_ms, "off"))
            states[change.node].append((change.at_ms, _POWER.get(change.state, "up")))
    start: list[tuple[int, BandKind]] = [(truth.start_ms, "off")]
    return [band for node in nodes for band in _bands(node, states[node] or start, truth.end_ms)]


def _bands(node: NodeId, states: Sequence[tuple[int, BandKind]], end_ms: int) -> list[Band]:
    """Bands between changes; equal neighbours are one."""
    found: list[Band] = []
    for number, (at_ms, kind) in enumerate(states):
        to_ms = states[number + 1][0] if number + 1 < len(states) else end_ms
        if to_ms <= at_ms:
            continue
        if found and found[-1].kind == kind and found[-1].to_ms == at_ms:
            at_ms = found.pop().from_ms
        found.append(Band(node=node, kind=kind, from_ms=at_ms, to_ms=to_ms))
    return found


def _membership_bands(truth: Truth, nodes: Sequence[NodeId]) -> list[Band]:
    states: dict[NodeId, list[tuple[int, str]]] = {node: [] for node in nodes}
    for note in truth.notes:
        subject = note.node or note.by
        if subject in states and not note.service:
            kind = "lost" if note.kind == "session_lost" else note.kind
            if kind in _MEMBERSHIP or kind == "left":
                states[subject].append((note.at_ms, kind))
    return [band for node in nodes for band in _member_bands(node, states[node], truth.end_ms)]


def _member_bands(node: NodeId, states: Sequence[tuple[int, str]], end_ms: int) -> list[Band]:
    """Bands of membership; a suspicion that nothing follows gives way to the band before it."""
    cleaned: list[tuple[int, str]] = []
    held = ""
    for number, (at_ms, kind) in enumerate(states):
        if kind == "suspect":
            if held != "joined":
                continue
            after = states[number + 1] if number + 1 < len(states) else (end_ms, "")
            cleaned.append((at_ms, kind))
            if after[1] not in ("lost", "early_close", "suspect") and after[0] - at_ms > SUSPECT_MS_MAX:
                cleaned.append((at_ms + SUSPECT_MS_MAX, "joined"))
            else:
                held = kind
            continue
        cleaned.append((at_ms, kind))
        held = kind
    bands: list[Band] = []
    for number, (at_ms, kind) in enumerate(cleaned):
        to_ms = cleaned[number + 1][0] if number + 1 < len(cleaned) else end_ms
        if kind in _MEMBERSHIP and to_ms > at_ms:
            bands.append(Band(node=node, kind=_MEMBERSHIP[kind], from_ms=at_ms, to_ms=to_ms))
    return bands


def _holds(truth: Truth, service: ServiceName) -> list[Hold]:
    """Serving spans, and before each the time from its claim."""
    found: list[Hold] = []
    spans = spans_of(truth, service)
    served: dict[tuple[NodeId, int], int] = {}
    for span in reversed(spans):
        served[(span.node, span.epoch)] = span.from_ms
    claims = [note for note in truth.notes if note.service == service and note.kind == "claimed"]
    for claim, after in zip_longest(claims, claims[1:]):
        later = after.at_ms if after is not None else truth.end_ms
        to_ms = min(later, served.get((claim.by, claim.epoch), later))
        if to_ms > claim.at_ms:
            found.append(_hold(service, claim.by, claim.epoch, False, claim.at_ms, to_ms))
    found += [_hold(service, s.node, s.epoch, True, s.from_ms, s.to_ms) for s in spans if s.to_ms > s.from_ms]
    return sorted(found, key=lambda hold: (hold.from_ms, hold.to_ms))


def _hold(service: ServiceName, node: NodeId, epoch: int, serving: bool, from_ms: int, to_ms: int) -> Hold:
    return Hold(service=service, node=node, epoch=epoch, serving=serving, from_ms=from_ms, to_ms=to_ms)


def _mark(fault: FaultMark, end_ms: int) -> Mark:
    to_ms = end_of(fault.to_ms, end_ms)
    text = fault.text or ", ".join(fault.nodes) or "the whole rack"
    return Mark(fault=fault.fault, text=text, nodes=fault.nodes, from_ms=fault.from_ms, to_ms=to_ms)


def _incidents(truth: Truth, heal_ms: int) -> list[Incident]:
    found = [_said(note) for note in truth.notes]
    for fault in truth.faults:
        names, text = _names(fault.nodes), _fault_text(fault)
        found.append(_incident(fault.from_ms, "fault", names, fault.fault, text))
        if 0 <= fault.to_ms < truth.end_ms:
            found.append(_incident(fault.to_ms, "heal", names, fault.fault, f"over: {text}"))
    powers = {"off": "bad", "up": "info"}
    for change in truth.nodes:
        if change.axis == "power" and change.state in powers and change.at_ms > 0:
            level: Level = "bad" if change.state == "off" else "info"
            text = "loses its power" if change.state == "off" else "its operating system is up"
            found.append(_incident(change.at_ms, level, change.node, change.state, text))
    if 0 < heal_ms <= truth.end_ms:
        found.append(_incident(heal_ms, "heal", "", "heal", "all faults removed; the rack must now converge"))
    return sorted(found, key=lambda incident: incident.at_ms)


def _fault_text(fault: FaultMark) -> str:
    """The kind of a fault, and what it says beyond the nodes it hit."""
    kind = fault.fault.replace("_", " ")
    return kind if fault.text in ("", ", ".join(fault.nodes)) else f"{kind}: {fault.text}"


def _names(nodes: Iterable[str]) -> str:
    """Names of the nodes a fault hit, shortened for a column."""
    named = list(nodes)
    return ",".join(named) if len(named) <= 3 else f"{named[0]}..{named[-1]}"


def _incident(at_ms: int, level: Level, node: str, kind: str, text: str) -> Incident:
    return Incident(at_ms=at_ms, level=level, node=node, service="", kind=kind, text=text)


def _said(note: NoteMark) -> Incident:
    level = _LEVELS.get(note.kind, "detail")
    text = note.kind.replace("_", " ")
    if note.node and note.node != note.by:
        text += f" {note.node}"
    if note.epoch:
        text += f" (epoch {note.epoch})"
    if note.detail:
        text += f": {note.detail}"
    return Incident(at_ms=note.at_ms, level=level, node=note.by, service=note.service, kind=note.kind, text=text)
