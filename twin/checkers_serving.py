"""Checkers of who serves: never two, epochs that grow, the wait before admission, and what should run everywhere."""

from collections.abc import Iterable, Sequence

from core.ids import Epoch, NodeId, ServiceName, VolumeName
from core.records import Instance
from core.specs import NodeSpec, ServiceSpec, Timing
from trial.marks import FaultMark, NoteMark, Span
from twin.truth import NodeChange, Truth

Interval = tuple[int, int]

EVERYWHERE_MS = 60_000
"""Added to a service's own start limit: agent start, retries and back-off of a copy that failed."""

_ENDS = ("exited", "stopped", "killed", "gone", "suspended")


def no_two_serving(truth: Truth) -> str:
    """Say when two nodes acted for one singleton at once, or ""."""
    latest: dict[ServiceName, Span] = {}
    for span in sorted(truth.acting.all, key=lambda s: (s.service, s.from_ms, s.epoch, s.node)):
        before = latest.get(span.service)
        end_ms = truth.end_ms if before is None or before.to_ms < 0 else before.to_ms
        if before is not None and span.from_ms < end_ms and span.node != before.node:
            return (
                f"{span.service}: {before.node} (epoch {before.epoch}) served until {end_ms} ms although {span.node} "
                f"(epoch {span.epoch}) served from {span.from_ms} ms on"
            )
        if before is None or span.to_ms < 0 or span.to_ms >= end_ms:
            latest[span.service] = span
    return ""


def epochs_grow(truth: Truth) -> str:
    """Say which epoch came back or was claimed twice (rule 1), or ""."""
    claimed: dict[tuple[ServiceName, Epoch], NodeId] = {}
    newest: dict[ServiceName, Epoch] = {}
    for note in truth.notes:
        if note.kind == "claimed":
            by = claimed.setdefault((note.service, note.epoch), note.by)
            if by != note.by:
                return f"{note.service}: epoch {note.epoch} was claimed by {by} and by {note.by}"
    for span in truth.acting.all:
        if span.epoch < newest.get(span.service, Epoch(0)):
            return f"{span.service}: {span.node} served under epoch {span.epoch} after epoch {newest[span.service]} had"
        newest[span.service] = span.epoch
    return ""


def admission_waits(truth: Truth, services: Sequence[ServiceSpec], timing: Timing) -> str:
    """Say who admitted clients before the evidence of a fenced holder must have run out (rule 5), or ""."""
    volumes = {spec.name: spec.volume for spec in services if spec.volume}
    wait_ms = timing.fresh_ms + timing.withdraw_ms
    fenced = _fenced(truth)
    seen: dict[ServiceName, Epoch] = {}
    for span in truth.acting.all:
        volume = volumes.get(span.service)
        if volume is None or seen.get(span.service) == span.epoch:
            continue
        seen[span.service] = span.epoch
        fences = [at_ms for at_ms, epoch in fenced.get(volume, ()) if at_ms <= span.from_ms and epoch < span.epoch]
        if fences and span.from_ms - max(fences) < wait_ms:
            return f"{span.service}: {span.node} admitted clients {span.from_ms - max(fences)} ms after its last fence"
    return ""


def _fenced(truth: Truth) -> dict[VolumeName, list[tuple[int, Epoch]]]:
    """When an instance of which epoch was fenced in each volume, the first time while the fence stands.

    Two claimers may fence the same instance; the admission of one need not wait for what the other, deposed, still
    does.
    """
    standing: dict[tuple[VolumeName, Instance], None] = {}
    found: dict[VolumeName, list[tuple[int, Epoch]]] = {}
    for block in truth.blocks:
        key = (block.volume, block.instance)
        if block.change in ("lifted", "expired"):
            standing.pop(key, None)
        elif block.change == "complete" and key not in standing:
            standing[key] = None
            found.setdefault(block.volume, []).append((block.at_ms, block.instance.epoch))
    return found


def everywhere_running(truth: Truth, services: Sequence[ServiceSpec], nodes: Sequence[NodeSpec]) -> str:
    """Say which node went without an everywhere-service for too long although nothing was wrong with it, or "".

    Services that need one which does not run everywhere are left out: they may have to wait.
    """
    names = {spec.name for spec in services if spec.run == "everywhere"}
    wanted = [spec for spec in services if spec.name in names and all(need in names for need in spec.needs)]
    runs = _running(truth)
    well = healthy(truth, [node.id for node in nodes])
    for node in nodes:
        for spec in wanted:
            bound_ms = EVERYWHERE_MS + spec.start_ms_max
            for from_ms, to_ms in without(well[node.id], runs.get((spec.name, node.id), [])):
                if to_ms - from_ms > bound_ms:
                    return f"{spec.name} did not run on {node.id} from {from_ms} to {to_ms} ms (bound {bound_ms} ms)"
    return ""


def _running(truth: Truth) -> dict[tuple[ServiceName, NodeId], list[Interval]]:
    """When each copy of each service was healthy."""
    since: dict[tuple[ServiceName, NodeId], int] = {}
    found: dict[tuple[ServiceName, NodeId], list[Interval]] = {}
    for change in truth.services:
        key = (change.service, change.node)
        if change.action in ("started", "resumed"):
            since.setdefault(key, change.at_ms)
        elif change.action in _ENDS and key in since:
            found.setdefault(key, []).append((since.pop(key), change.at_ms))
    for key, from_ms in since.items():
        found.setdefault(key, []).append((from_ms, truth.end_ms))
    return found


def healthy(truth: Truth, nodes: Iterable[NodeId]) -> dict[NodeId, list[Interval]]:
    """Return when each of these nodes and its agent were up and no fault lasted on it. O(nodes + changes)."""
    changes: dict[NodeId, list[NodeChange]] = {node: [] for node in nodes}
    for change in truth.nodes:
        if change.node in changes and change.axis in ("power", "agent"):
            changes[change.node].append(change)
    told = [note for note in truth.notes if note.kind in ("quarantined", "maintenance")]
    found: dict[NodeId, list[Interval]] = {}
    for node, mine in changes.items():
        faults = [_lasts(f, truth.end_ms) for f in truth.faults if not f.nodes or node in f.nodes]
        excused = [*_quarantines(truth, told, node), *_maintenances(truth, told, node)] if told else []
        found[node] = without(_up(mine, truth.end_ms), [*faults, *excused])
    return found


def _up(changes: Sequence[NodeChange], end_ms: int) -> list[Interval]:
    """When a node and its agent were up."""
    state = {"power": "off", "agent": "down"}
    found: list[Interval] = []
    since = -1
    for change in changes:
        state[change.axis] = change.state
        good = state["power"] == "up" and state["agent"] == "up"
        if good and since < 0:
            since = change.at_ms
        elif not good and since >= 0:
            found.append((since, change.at_ms))
            since = -1
    return [*found, (since, end_ms)] if since >= 0 else found


def _quarantines(truth: Truth, notes: Sequence[NoteMark], node: NodeId) -> list[Interval]:
    """When a node was left to the operator, who lets it join again."""
    told = [note.at_ms for note in notes if note.kind == "quarantined" and note.node == node]
    joined = [note.at_ms for note in truth.notes if note.kind == "joined" and note.by == node] if told else []
    return [(at_ms, min((back for back in joined if back > at_ms), default=truth.end_ms)) for at_ms in told]


def _maintenances(truth: Truth, notes: Sequence[NoteMark], node: NodeId) -> list[Interval]:
    """When a node was in maintenance, over boots and without a quorum, until it ran something again."""
    told = [note.at_ms for note in notes if note.kind == "maintenance" and note.by == node]
    ran = [note.at_ms for note in truth.notes if note.kind == "running" and note.by == node] if told else []
    return [(at_ms, min((again for again in ran if again > at_ms), default=truth.end_ms)) for at_ms in told]


def _lasts(fault: FaultMark, end_ms: int) -> Interval:
    """When a fault lasted; a node that was retired stays retired."""
    for_ever = fault.to_ms < 0 or fault.fault == "operator_retire"
    return (fault.from_ms, end_ms if for_ever else fault.to_ms)


def without(spans: Sequence[Interval], holes: Sequence[Interval]) -> list[Interval]:
    """Return what is left of ``spans`` where there are no ``holes``."""
    left = list(spans)
    for low, high in sorted(holes):
        cut: list[Interval] = []
        for from_ms, to_ms in left:
            if from_ms < low:
                cut.append((from_ms, min(to_ms, low)))
            if to_ms > high:
                cut.append((max(from_ms, high), to_ms))
        left = [(a, b) for a, b in cut if a < b]
    return left
