"""Checkers of upgrades: one power domain at a time, none after a halt, always a quorum, gentle to services."""

from collections.abc import Sequence

from core.ids import DomainId, NodeId, ServiceName
from core.specs import ServiceSpec, Timing
from trial.marks import Span
from twin.truth import Truth

HALT_MS = 5_000
"""A node whose staging ends while the halt is on its way to it may still restart."""
TROUBLE_MS = 120_000
"""A fault that ended longer ago than this no longer explains that a service is away."""
OWN_FAULTS = ("upgrade_begins", "upgrade_halts", "upgrade_resumes", "image_flawed")


def one_domain(truth: Truth) -> str:
    """Say when nodes of two power domains were out for an upgrade at once, or more of one than may be, or ""."""
    out: dict[NodeId, DomainId] = {}
    lost = [(note.at_ms, note.node) for note in truth.notes if note.kind == "lost"]
    for act in truth.images:
        while lost and lost[0][0] <= act.at_ms:
            out.pop(lost.pop(0)[1], None)  # its steward sees to it from now on, the upgrade does not
        if act.action == "came_up":
            out.pop(act.node, None)
            continue
        other = next((node for node, domain in out.items() if domain != act.domain), None)
        if other is not None:
            return f"{act.node} of {act.domain} restarted at {act.at_ms} ms while {other} of {out[other]} was out"
        out[act.node] = act.domain
        if act.parallel and len(out) > act.parallel:
            return f"{len(out)} nodes were out at {act.at_ms} ms, {act.parallel} may be"
    return ""


def stops_at_halt(truth: Truth) -> str:
    """Say who restarted into the new image although the upgrade had been halted, or ""."""
    halts = [note.at_ms for note in truth.notes if note.kind == "upgrade_halted"]
    halts += [fault.from_ms for fault in truth.faults if fault.fault == "upgrade_halts"]
    for act in truth.images:
        if act.action == "restarts" and act.state == "halted" and act.image == act.wanted:
            since_ms = max([at_ms for at_ms in halts if at_ms <= act.at_ms], default=0)
            if act.at_ms - since_ms > HALT_MS:
                return f"{act.node} restarted into {act.image} {act.at_ms - since_ms} ms after the halt"
    return ""


def keeps_quorum(truth: Truth) -> str:
    """Say which restart for an upgrade took the ZooKeeper ensemble its majority, or ""."""
    for act in truth.images:
        if act.action == "restarts" and act.quorum and not act.without:
            return f"{act.node} restarted at {act.at_ms} ms although its ZooKeeper server was needed for the majority"
    return ""


def is_gentle(truth: Truth, services: Sequence[ServiceSpec], timing: Timing) -> str:
    """Say which singleton an upgrade alone kept from its clients for longer than one failover, or ""."""
    acts = [act.at_ms for act in truth.images]
    if not acts:
        return ""
    from_ms, to_ms = acts[0] - TROUBLE_MS, acts[-1] + TROUBLE_MS
    for spec in services:
        if spec.run != "singleton":
            continue
        bound_ms = _failover_ms(spec, timing)
        for begin, end in _gaps(truth, spec.name):
            within = from_ms <= begin and end <= to_ms
            if within and end - begin > bound_ms and not _troubled(truth, begin, end):
                return f"{spec.name} was away from {begin} to {end} ms, a failover takes {bound_ms} ms at most"
    return ""


def _failover_ms(spec: ServiceSpec, timing: Timing) -> int:
    """What one move takes at most: noticed, claimed, fenced, started, admitted."""
    settled = timing.session_timeout_ms + timing.commit_ms_max + timing.claim_step_ms + timing.fence_ms_max
    return settled + max(timing.admission_ms, timing.no_volume_wait_ms) + spec.stop_ms_max + spec.start_ms_max


def _gaps(truth: Truth, service: ServiceName) -> list[tuple[int, int]]:
    """The times between its first and last moment in which clients could reach nobody."""
    found: list[tuple[int, int]] = []
    before: Span | None = None
    for span in truth.serving.all:
        if span.service != service:
            continue
        if before is not None and 0 <= before.to_ms < span.from_ms:
            found.append((before.to_ms, span.from_ms))
        if before is None or before.to_ms >= 0:
            before = span
    return found


def _troubled(truth: Truth, begin: int, end: int) -> bool:
    """Whether anything but the upgrade was wrong then, or shortly before."""
    others = [fault for fault in truth.faults if fault.fault not in OWN_FAULTS and fault.from_ms <= end]
    return any(fault.to_ms < 0 or begin - fault.to_ms <= TROUBLE_MS for fault in others)
