"""Whether the lab's rack has converged, and what is still pending and why; the same question as the twin's."""

from collections.abc import Sequence

from core.ids import NodeId
from core.records import Lifecycle
from core.specs import ServiceSpec
from drivers.lab.layout import Layout
from drivers.rack_state import RackState

SET_ASIDE = (Lifecycle.QUARANTINED, Lifecycle.MAINTENANCE, Lifecycle.RETIRED)
"""A node in one of these is where it should be: only the operator takes it out again."""
REASONS_MAX = 6


def waiting(layout: Layout, rack: RackState, spare: Sequence[NodeId] = ()) -> tuple[str, ...]:
    """Say what keeps the rack from having converged, one sentence each.

    ``spare``: nodes that are not to join. Servers that were not asked (``rack.servers`` empty) are taken to be fine.
    """
    if not rack.records or (rack.servers and not rack.leader):
        return ("the ZooKeeper ensemble has no quorum",)
    wanted = [node.id for node in layout.nodes if node.id not in spare and not _aside(rack, node.id)]
    return (*_ensemble(rack, wanted), *_nodes(rack, wanted), *_services(rack), *_power(rack))


def _aside(rack: RackState, node: NodeId) -> bool:
    life = rack.lives.get(node)
    return life is not None and life.state in SET_ASIDE


def _ensemble(rack: RackState, wanted: Sequence[NodeId]) -> list[str]:
    cluster, ensemble = rack.cluster, rack.ensemble
    voters = ensemble.voters if ensemble is not None else ()
    silent = [node for node, server in rack.servers.items() if server.error]
    size = cluster.ensemble_size if cluster is not None else 1
    size = min(size, len(wanted) if len(wanted) % 2 else len(wanted) - 1)
    reasons = [f"the ZooKeeper server on {node} does not run" for node in voters if node in silent]
    if len(voters) < size:
        reasons.append(f"the ZooKeeper ensemble has {len(voters)} of {size} voters")
    if cluster is not None and (cluster.joining or cluster.leaving):
        reasons.append("a change of the ZooKeeper ensemble is under way")
    return reasons


def _nodes(rack: RackState, wanted: Sequence[NodeId]) -> list[str]:
    reasons = []
    for node in wanted:
        life = rack.lives.get(node)
        if node not in rack.members:
            reasons.append(f"{node} is not a member: it is {life.state if life is not None else 'unknown'}")
        elif life is None or life.state is not Lifecycle.JOINED:
            reasons.append(f"{node} is {life.state if life is not None else 'without a record'}")
        elif rack.agents[node].view is None:
            reasons.append(f"the agent of {node} shows nothing")
    return _shortened(reasons)


def _services(rack: RackState) -> list[str]:
    reasons: list[str] = []
    fit = [node for node in rack.members if not _aside(rack, node)]
    for spec in rack.services:
        running = rack.running(spec.name)
        match spec.run:
            case "singleton":
                reasons += _singleton(rack, spec)
            case "everywhere":
                missing = [node for node in fit if node not in running]
                reasons += _shortened([f"{spec.name} does not run on {node}" for node in missing])
            case "count":
                if len(running) != min(spec.count, len(fit)):
                    reasons.append(f"{spec.name} runs {len(running)} times instead of {min(spec.count, len(fit))}")
    return reasons


def _singleton(rack: RackState, spec: ServiceSpec) -> list[str]:
    lease, term = rack.lease(spec.name), rack.term(spec.name)
    if lease is None or term is None:
        return [f"{spec.name} serves nowhere; its lease is free"]
    if not term.serving or lease.node not in rack.running(spec.name):
        return [f"{spec.name} does not serve yet on {lease.node}, epoch {term.epoch}"]
    if term.unfenced:
        return [f"{spec.name} has {len(term.unfenced)} openings left to fence"]
    return []


def _power(rack: RackState) -> list[str]:
    slots = [slot for domain in rack.domains.values() for slot in domain.slots]
    return _shortened([f"a power order for {slot.node} is still in flight" for slot in slots])


def _shortened(reasons: Sequence[str]) -> list[str]:
    more = len(reasons) - REASONS_MAX
    return [*reasons[:REASONS_MAX], f"and {more} more like that"] if more > 0 else list(reasons)
