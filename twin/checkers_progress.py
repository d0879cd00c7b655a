"""Checkers of progress: where nothing is in the way the rack serves, and nobody stops or gives up for nothing."""

import itertools
import re
from collections.abc import Sequence

from core.ids import NodeId, ServiceName
from core.specs import NodeSpec, ServiceSpec, Timing
from trial.marks import FaultMark, NoteMark, Span
from trial.measures import end_of
from twin.checkers_serving import Interval, healthy, without
from twin.truth import Truth

SERVE_MS = 60_000
"""Added to what a service and those it needs may take to start: detection, fences, one stall and its retries."""
CALM_MS = 10_000
"""An event is judged on its own if nothing else happened for this long before and after it."""
STALE_MS = 15_000
"""What a node knows of the others' storage may be this old: member records are written with a back-off."""
_OF_STORAGE = ("storage_", "osd_", "monitor_", "disk_", "group_", "blocklist_", "lock_")
_SHARE = re.compile(r"(\d+) of (\d+) ")


def served_when_possible(
    truth: Truth, services: Sequence[ServiceSpec], nodes: Sequence[NodeSpec], timing: Timing
) -> str:
    """Say which singleton nobody served for too long although all nodes but one were well, or "".

    Judged in times without any change: the same nodes are healthy throughout, the ensemble has a leader. A service
    that nobody has room for, or that failed by itself, may be down.
    """
    specs = {spec.name: spec for spec in services}
    calm = [span for span in _calm(truth, nodes) if span[1] - span[0] > SERVE_MS]
    for spec in services if calm else ():
        if spec.run != "singleton":
            continue
        bound_ms = SERVE_MS + timing.stall_ms + 3 * timing.session_timeout_ms + _start_ms(spec, specs)
        acted = [(s.from_ms, end_of(s.to_ms, truth.end_ms)) for s in truth.acting.all if s.service == spec.name]
        excused = ("nowhere", "service_failed", "needs_wait", "stayed")
        told = [note.at_ms for note in truth.notes if note.service == spec.name and note.kind in excused]
        for from_ms, to_ms in without(calm, acted):
            if to_ms - from_ms > bound_ms and not any(from_ms <= at_ms <= to_ms for at_ms in told):
                return f"{spec.name} was served by nobody from {from_ms} to {to_ms} ms (bound {bound_ms} ms)"
    return ""


def _calm(truth: Truth, nodes: Sequence[NodeSpec]) -> list[Interval]:
    """Times in which the same nodes are healthy, all but one at most, and one of them leads the ensemble."""
    well = healthy(truth, [node.id for node in nodes])
    leaderless: list[Interval] = []
    for now, then in itertools.zip_longest(truth.leaders, truth.leaders[1:]):
        led = (now.at_ms, then.at_ms if then is not None else truth.end_ms)
        leaderless += without([led], well.get(now.leader, []))
    edges = sorted({0, truth.end_ms, *(edge for spans in well.values() for span in spans for edge in span)})
    steps = dict.fromkeys(edges, 0)  # how many more nodes are well from here on: the spans of one never overlap
    for spans in well.values():
        for from_ms, to_ms in spans:
            steps[from_ms] += 1
            steps[to_ms] -= 1
    count, steady = 0, []
    for from_ms, to_ms in itertools.pairwise(edges):
        count += steps[from_ms]
        if count >= max(2, len(nodes) - 1):
            steady.append((from_ms, to_ms))
    return without(steady, leaderless)


def _start_ms(spec: ServiceSpec, specs: dict[ServiceName, ServiceSpec]) -> int:
    """How long a service may take to start, those included that it needs, each once."""
    chain, left = [spec], list(spec.needs)
    while left:
        need = specs.get(left.pop())
        if need is not None and need not in chain:
            chain.append(need)
            left += need.needs
    return sum(one.start_ms_max for one in chain)


def agent_is_not_its_services(truth: Truth, services: Sequence[ServiceSpec], timing: Timing) -> str:
    """Say which service was interrupted by nothing but a short absence of its agent (rule 11), or ""."""
    volumes = {spec.name for spec in services if spec.volume}
    for node, down_ms, up_ms in _agent_restarts(truth):
        until_ms = up_ms + timing.session_timeout_ms
        others = [f for f in truth.faults if f.fault != "agent_crash" and touches(f, down_ms, until_ms)]
        again = sum(down_ms - CALM_MS <= f.from_ms <= until_ms for f in truth.faults if f.fault == "agent_crash")
        if others or again != 1 or until_ms > truth.end_ms:
            continue
        reads = node in _readers(truth, down_ms, 0)  # without the storage the agent's own beats are all its evidence
        for span in truth.acting.all:
            kept_ms = timing.session_timeout_ms // (2 if span.service in volumes else 3)
            acts = span.node == node and span.from_ms < down_ms < end_of(span.to_ms, truth.end_ms) < until_ms
            lasts = reads or span.service not in volumes
            if acts and lasts and up_ms - down_ms <= kept_ms and not _has_own_reason(truth, span, down_ms, until_ms):
                return (
                    f"{span.service}: stopped on {node} at {span.to_ms} ms, although only the agent was away, "
                    f"from {down_ms} to {up_ms} ms"
                )
    return ""


def _agent_restarts(truth: Truth) -> list[tuple[NodeId, int, int]]:
    """Each time in which an agent was away while its node was up: node, from, to."""
    found = []
    down: dict[NodeId, int] = {}
    for change in truth.nodes:
        if change.axis == "power":
            down.pop(change.node, None)
        elif change.axis == "agent" and change.state == "down":
            down[change.node] = change.at_ms
        elif change.axis == "agent" and change.state == "up" and change.node in down:
            found.append((change.node, down.pop(change.node), change.at_ms))
    return found


def touches(fault: FaultMark, from_ms: int, to_ms: int) -> bool:
    """Say whether a fault lasted at some moment between the two, or within CALM_MS of it."""
    return fault.from_ms <= to_ms + CALM_MS and (fault.to_ms < 0 or fault.to_ms >= from_ms - CALM_MS)


def _has_own_reason(truth: Truth, span: Span, from_ms: int, to_ms: int) -> bool:
    """Whether the service failed by itself or was meant to go."""
    kinds = ("service_failed", "draining", "released", "handed_over")
    return any(
        from_ms - CALM_MS <= note.at_ms <= to_ms + CALM_MS and note.kind in kinds and note.service in ("", span.service)
        for note in truth.notes
    )


def unfit_stays_away(truth: Truth, timing: Timing) -> str:
    """Say who claimed a service again while it was marked unfit for it (rule 12), or ""."""
    until: dict[tuple[NodeId, ServiceName], tuple[int, int]] = {}
    steps = sorted(
        [(note.at_ms, 0, note.by, note) for note in truth.notes if note.kind in ("gave_up", "claimed")]
        + [(change.at_ms, 1, change.node, change) for change in truth.nodes if change.axis in ("agent", "power")],
        key=lambda step: step[:2],
    )
    for at_ms, _, node, what in steps:
        if not isinstance(what, NoteMark):
            until = {key: value for key, value in until.items() if key[0] != node}  # marks die with their agent
        elif what.kind == "gave_up":
            until[(node, what.service)] = (at_ms, at_ms + timing.unfit_ms * 9 // 10)
        elif at_ms < until.get((node, what.service), (0, 0))[1] and not _clock_moved(truth, node):
            gave_ms = until[(node, what.service)][0]
            return f"{what.service}: claimed by {node} at {at_ms} ms, which gave it up at {gave_ms} ms"
    return ""


def _clock_moved(truth: Truth, node: NodeId) -> bool:
    return any(fault.fault.startswith("clock_") and node in fault.nodes for fault in truth.faults)


def gave_up_for_somebody(truth: Truth) -> str:
    """Say who gave a service up for want of progress although nobody else could read its volume (rule 12), or ""."""
    for note in truth.notes:
        if note.kind == "gave_up" and note.detail.startswith("no progress") and _is_informed(truth, note.at_ms):
            others = [one for one in _readers(truth, note.at_ms) if one != note.by]
            if not others:
                return f"{note.service}: {note.by} gave up at {note.at_ms} ms, when nobody else reached the storage"
    return ""


def _is_informed(truth: Truth, at_ms: int) -> bool:
    """Whether nothing but the storage was in trouble lately, so that nodes knew of each other's."""
    troubles = [f for f in truth.faults if not f.fault.startswith(_OF_STORAGE)]
    return not any(f.from_ms <= at_ms and (f.to_ms < 0 or f.to_ms >= at_ms - 2 * STALE_MS) for f in troubles)


def _readers(truth: Truth, at_ms: int, within_ms: int = STALE_MS) -> list[NodeId]:
    """The nodes that reached the storage at some moment of the last ``within_ms``."""
    state: dict[NodeId, str] = {}
    found: dict[NodeId, None] = {}
    for change in truth.nodes:
        if change.axis != "storage" or change.at_ms > at_ms:
            continue
        if change.at_ms > at_ms - within_ms:
            found |= {change.node: None}  # it changed, so it was reachable just before or is now
        state[change.node] = change.state
    return sorted({**found, **{node: None for node, one in state.items() if one == "reachable"}})


def brake_has_reason(truth: Truth) -> str:
    """Say who engaged its brake although no more than a third of the members had disappeared (rule 8), or ""."""
    for note in truth.notes:
        share = _SHARE.match(note.detail) if note.kind == "brake_engaged" else None
        if share is not None and int(share[1]) * 3 <= int(share[2]):
            return f"{note.by} engaged its brake at {note.at_ms} ms: {note.detail}"
    return ""
