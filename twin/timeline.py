"""The incident timeline of a run as text for a terminal; colours only where the reader asks for them."""

from collections.abc import Sequence

from formats.paint import Paint
from trial.verdict import Failover, Outcome
from twin.story import Incident, Level, Story

LINES_MAX = 120
"""A longer timeline is cut in the middle; the report has all of it."""

STRIP = 96
"""Signs in a node's row of ``strip_lines``."""
STRIP_NODES_MAX = 16

_BAR = 48
_SIGN_OF = {"up": " ", "joined": "─", "booting": "▒", "frozen": "~", "off": "·"}


def toned(level: Level, text: str, paint: Paint) -> str:
    """Colour a text by how it should strike the reader."""
    match level:
        case "fault":
            return paint.fault(text)
        case "heal":
            return paint.heal(text)
        case "bad":
            return paint.bad(text)
        case "good":
            return paint.good(text)
        case "info":
            return paint.plain(text)
        case "detail":
            return paint.dim(text)


def clock(at_ms: int) -> str:
    """Show a time of the run as ``m:ss.mmm``, with hours or days in front once there are any."""
    seconds, ms = divmod(at_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}:{seconds:02d}.{ms:03d}"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{f'{days}d ' if days else ''}{hours}:{minutes:02d}:{seconds:02d}.{ms:03d}"


def took(ms: int) -> str:
    """Show a duration for a person: milliseconds up to ten seconds, then seconds, minutes, hours."""
    if ms < 10_000:
        return f"{ms:,d} ms"
    if ms < 600_000:
        return f"{ms / 1000:,.1f} s"
    return f"{ms / 60_000:,.1f} min" if ms < 36_000_000 else f"{ms / 3_600_000:,.1f} h"


def incident_lines(story: Story, paint: Paint) -> list[str]:
    """One line for each incident worth a person's time; repeats by several nodes at one moment are one line."""
    told = _merged([i for i in story.incidents if i.level != "detail"])
    lines = [_line(incident, paint) for incident in told]
    if len(lines) <= LINES_MAX:
        return lines
    left = len(lines) - LINES_MAX
    half = LINES_MAX // 2
    return [*lines[:half], paint.dim(f"  ... {left} more lines, all of them are in the report ..."), *lines[-half:]]


def _merged(incidents: Sequence[Incident]) -> list[Incident]:
    """Join incidents that differ only in their node and lie within a second of the first of them."""
    groups: list[tuple[Incident, list[str]]] = []
    recent: dict[tuple[str, str, str], int] = {}
    for incident in incidents:
        key = (incident.level, incident.service, incident.text)
        index = recent.get(key)
        if index is not None and incident.at_ms - groups[index][0].at_ms <= 1000 and incident.node:
            groups[index][1].append(incident.node)
            continue
        recent[key] = len(groups)
        groups.append((incident, [incident.node]))
    return [_joined(incident, nodes) for incident, nodes in groups]


def _joined(incident: Incident, nodes: Sequence[str]) -> Incident:
    names = list(dict.fromkeys(nodes))
    if len(names) < 2:
        return incident
    shown = ",".join(names) if len(names) <= 3 else f"{len(names)} nodes"
    return Incident(
        at_ms=incident.at_ms,
        level=incident.level,
        node=shown,
        service=incident.service,
        kind=incident.kind,
        text=incident.text,
    )


_SIGNS: dict[Level, str] = {"fault": "!!", "heal": "<>", "bad": " -", "good": " +", "info": "  ", "detail": "  "}


def _line(incident: Incident, paint: Paint) -> str:
    service = f"{incident.service}: " if incident.service else ""
    text = toned(incident.level, f"{_SIGNS[incident.level]} {service}{incident.text}", paint)
    return f"  {clock(incident.at_ms):>13}  {paint.node(f'{incident.node:<9}')} {text}"


def strip_lines(story: Story, paint: Paint) -> list[str]:
    """Draw a small rack: a row of signs for each node, and one for each singleton with the names of who served it."""
    if not 0 < len(story.nodes) <= STRIP_NODES_MAX or story.end_ms <= 0:
        return []
    services = list(dict.fromkeys(hold.service for hold in story.holds))
    width = max(len(name) for name in (*story.nodes, *services))
    lines = [f"  {paint.node(node.ljust(width))}  {paint.dim(_node_strip(story, node))}" for node in story.nodes]
    lines += [f"  {paint.node(name.ljust(width))}  {paint.good(_service_strip(story, name))}" for name in services]
    marks = [" "] * STRIP
    for mark in story.marks:
        marks[min(STRIP - 1, mark.from_ms * STRIP // story.end_ms)] = "!"
    if 0 < story.heal_ms < story.end_ms:
        marks[story.heal_ms * STRIP // story.end_ms] = "h"
    legend = f"─ member, ▒ booting, · no power, ~ frozen, ━ serving, ! fault, h healed; {clock(story.end_ms)} in all"
    lines.append(f"  {' ' * width}  {paint.fault(''.join(marks).rstrip())}")
    lines.append(paint.dim(f"  {' ' * width}  {legend}"))
    return lines


def _node_strip(story: Story, node: str) -> str:
    """One sign for each part of the run: the most telling thing that was true in it."""
    signs = [" "] * STRIP
    for kind, sign in _SIGN_OF.items():
        for band in story.bands:
            if band.node == node and band.kind == kind:
                _fill(signs, sign, band.from_ms, band.to_ms, story.end_ms)
    return "".join(signs)


def _service_strip(story: Story, service: str) -> str:
    signs = [" "] * STRIP
    for hold in story.holds:
        if hold.service == service and hold.serving:
            first, last = _fill(signs, "━", hold.from_ms, hold.to_ms, story.end_ms)
            if last - first > len(hold.node):
                signs[first : first + len(hold.node)] = list(hold.node)
    return "".join(signs)


def _fill(signs: list[str], sign: str, from_ms: int, to_ms: int, end_ms: int) -> tuple[int, int]:
    """Set the signs of a time, and say which they are."""
    first = min(STRIP - 1, from_ms * STRIP // end_ms)
    last = min(STRIP, max(first + 1, to_ms * STRIP // end_ms))
    signs[first:last] = [sign] * (last - first)
    return first, last


def failover_lines(failovers: Sequence[Failover], paint: Paint) -> list[str]:
    """One line for each failover, with its phases as a bar."""
    longest = max([move.total_ms for move in failovers], default=1) or 1
    lines: list[str] = []
    for move in failovers:
        bar = _bar(move, longest, paint)
        way = f"{move.source} -> {move.dest} (epoch {move.epoch})"
        head = f"  {move.service}: {way}, {took(move.total_ms)} after {move.cause}"
        phases = f"detect {took(move.detect_ms)}, fence {took(move.fence_ms)}, start {took(move.start_ms)}"
        lines += [head, f"    {bar}  {paint.dim(phases)}"]
    return lines


def _bar(move: Failover, longest_ms: int, paint: Paint) -> str:
    cells = [_cells(ms, longest_ms) for ms in (move.detect_ms, move.fence_ms, move.start_ms)]
    return paint.bad("d" * cells[0]) + paint.heal("f" * cells[1]) + paint.good("s" * cells[2])


def _cells(ms: int, longest_ms: int) -> int:
    return max(1, round(ms * _BAR / longest_ms)) if ms > 0 else 0


def verdict_lines(outcome: Outcome, paint: Paint) -> list[str]:
    """What came of the run: checks, expectations, what is still pending, and the verdict last."""
    lines: list[str] = []
    broken = [check for check in outcome.checks if not check.ok]
    lines.append(f"  checks       {len(outcome.checks) - len(broken)} of {len(outcome.checks)} hold")
    lines += [paint.bad(f"    broken: {check.name}: {check.detail}") for check in broken]
    for wish in outcome.expectations:
        text = f"    {'met' if wish.ok else 'NOT MET'}: {wish.name}: wanted {wish.wanted}, got {wish.got}"
        lines.append(paint.good(text) if wish.ok else paint.bad(text))
    for service, ms in outcome.unavailable_ms.items():
        lines.append(f"  unavailable  {service}: {took(ms)}")
    lines += _upgrade_lines(outcome)
    lines += [paint.bad(f"  pending      {reason}") for reason in outcome.pending]
    if outcome.crash is not None:
        lines += [
            paint.fault(f"  crash at {clock(outcome.crash.at_ms)}: {outcome.crash.what}"),
            outcome.crash.traceback,
        ]
    lines.append(_verdict_line(outcome, paint))
    return lines


def _upgrade_lines(outcome: Outcome) -> list[str]:
    """How many nodes were upgraded and what that took, if any were."""
    nodes, took_ms = outcome.figures.get("upgraded_nodes", 0), outcome.figures.get("upgrade_ms", 0)
    if not nodes:
        return []
    return [f"  upgrade      {nodes} nodes in {took(took_ms)}, {took(took_ms // nodes)} each"]


def _verdict_line(outcome: Outcome, paint: Paint) -> str:
    word = outcome.verdict.upper()
    if outcome.verdict == "pass":
        shown = paint.strong(paint.good(word))
    else:
        shown = paint.fault(word)
    if outcome.expected != "pass":
        shown += ", as expected" if outcome.as_expected else f", but expected: {outcome.expected}"
    speed = outcome.sim_ms * 1000 // max(1, outcome.wall_ms)
    ran = f"{took(outcome.sim_ms)} simulated in {took(outcome.wall_ms)} ({speed / 1000:,.0f} x real time)"
    return f"  verdict      {shown}   seed {outcome.seed}, {ran}, digest {outcome.digest[:16]}"
