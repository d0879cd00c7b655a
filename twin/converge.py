"""Whether a rack has converged, and what is still pending and why when it has not."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.ids import NodeId, VolumeName
from core.records import (
    CLUSTER,
    DOMAINS,
    UPGRADE,
    ClusterRecord,
    DomainRecord,
    Instance,
    Lifecycle,
    NodeRecord,
    TermRecord,
    UpgradeRecord,
    node_path,
    term_path,
)
from core.specs import ServiceSpec

if TYPE_CHECKING:
    from twin.world.world import World

_SET_ASIDE = (Lifecycle.QUARANTINED, Lifecycle.MAINTENANCE, Lifecycle.RETIRED)
"""A node in one of these is where it should be: only the operator takes it out again."""

REASONS_MAX = 12
"""At most this many reasons of one sort are told one by one."""


def waiting(world: "World") -> tuple[str, ...]:
    """Say what keeps the rack from having converged, one sentence each; nothing when it has."""
    reasons = [*_ensemble(world), *_nodes(world), *_services(world), *_power(world), *_upgrade(world)]
    if not reasons:
        return ()
    said = [reason for reason in world.pending() if reason not in reasons]
    return (*reasons, *_shortened(said))


def has_converged(world: "World") -> bool:
    """Whether ``waiting`` has nothing to say, without working all of it out."""
    return not any(look(world) for look in (_ensemble, _nodes, _services, _power, _upgrade))


def working(world: "World") -> tuple[NodeId, ...]:
    """The nodes that should be members: cabled, not set aside, and not hidden from all, in order of the rack."""
    return tuple(
        node
        for node in world.nodes
        if world.power.chassis[node].cord and not set_aside(world, node) and not _hidden(world, node)
    )


def _can_vote(world: "World", node: NodeId) -> bool:
    """Whether a machine can run a ZooKeeper server; one that was found is as its place in the rack says."""
    spec = world.specs.get(node)
    return spec is None or spec.voter


def _hidden(world: "World", node: NodeId) -> bool:
    """Whether a machine that has to be found cannot be."""
    return world.census is not None and not world.census.is_named(node) and world.power.bmc.hidden(node)


def set_aside(world: "World", node: NodeId) -> Lifecycle | None:
    """The state that a node was put aside in, if it was."""
    record = world.record(NodeRecord, node_path(node))
    return record.state if record is not None and record.state in _SET_ASIDE else None


def _is_fit(world: "World", node: NodeId) -> bool:
    """Whether a member takes on services: neither set aside nor on its way there."""
    record = world.record(NodeRecord, node_path(node))
    return set_aside(world, node) is None and (record is None or record.state is not Lifecycle.DRAINING)


def _ensemble(world: "World") -> list[str]:
    """A quorum, the wanted size as far as there are nodes, every voter alive, and no change under way."""
    ensemble = world.ensemble
    if not ensemble.quorum():
        return ["the ZooKeeper ensemble has no quorum"]
    cluster = world.record(ClusterRecord, CLUSTER)
    wanted = cluster.ensemble_size if cluster is not None else 1
    able = [node for node in working(world) if _can_vote(world, node)]
    wanted = min(wanted, len(able) if len(able) % 2 else len(able) - 1)
    spare = any(node not in ensemble.voters for node in able)
    dead = [voter for voter in ensemble.voters if not ensemble.server_running(voter)]
    owed = [voter for voter in dead if spare or set_aside(world, voter) is None]
    reasons = [f"the ZooKeeper server on {voter} does not run" for voter in owed]
    if len(ensemble.voters) < wanted:
        reasons.append(f"the ZooKeeper ensemble has {len(ensemble.voters)} of {wanted} voters")
    if cluster is not None and (cluster.joining or cluster.leaving):
        changes = ", ".join([*(f"+{node}" for node in cluster.joining), *(f"-{node}" for node in cluster.leaving)])
        reasons.append(f"a change of the ZooKeeper ensemble is under way: {changes}")
    return reasons


def _nodes(world: "World") -> list[str]:
    members = dict.fromkeys(world.members())
    missing = [node for node in working(world) if node not in members]
    return _shortened([f"{node} is not a member: {_why_out(world, node)}" for node in missing])


def _why_out(world: "World", node: NodeId) -> str:
    state = world.power.chassis[node].state
    record = world.record(NodeRecord, node_path(node))
    known = f"recorded as {record.state.value}" if record is not None else "without a record"
    why = f", {record.reason}" if record is not None and record.reason else ""
    return f"its chassis is {state}, it is {known}{why}"


def _services(world: "World") -> list[str]:
    reasons: list[str] = []
    members = world.members()
    for spec in world.services.values():
        serving = world.serving_nodes(spec.name)
        match spec.run:
            case "singleton":
                reasons += _singleton(world, spec, serving)
            case "everywhere":
                missing = [node for node in members if node not in serving and not set_aside(world, node)]
                reasons += _shortened([f"{spec.name} does not run on {node}" for node in missing])
            case "count":
                wanted = min(spec.count, sum(1 for node in members if _is_fit(world, node)))
                if len(serving) != wanted:
                    reasons.append(f"{spec.name} runs {len(serving)} times instead of {wanted}")
    return reasons


def _singleton(world: "World", spec: ServiceSpec, serving: Sequence[NodeId]) -> list[str]:
    """It serves on its holder, and nothing of it is left to fence."""
    holder = world.holder_of(spec.name)
    if len(serving) != 1:
        where = f"on {', '.join(serving)}" if serving else "nowhere"
        return [f"{spec.name} serves {where}; its lease is {f'held by {holder}' if holder else 'free'}"]
    if serving[0] != holder:
        return [f"{spec.name} serves on {serving[0]}, but its lease is {f'held by {holder}' if holder else 'free'}"]
    term = world.record(TermRecord, term_path(spec.name))
    if term is not None and term.unfenced:
        return [f"{spec.name} has {len(term.unfenced)} openings left to fence"]
    forgotten = _forgotten(world, spec.volume, term) if term is not None else ()
    return [f"{spec.name}: nobody keeps {one.address} of {one.node} fenced, whose boot is alive" for one in forgotten]


def _forgotten(world: "World", volume: VolumeName, term: TermRecord) -> list[Instance]:
    """The fenced openings of a volume that could write again if their entry ran out, and that no record names."""
    standing: dict[Instance, None] = {}
    for block in world.truth.blocks:
        if block.volume == volume and block.change == "complete":
            standing[block.instance] = None
        elif block.volume == volume and block.change in ("lifted", "expired"):
            standing.pop(block.instance, None)
    known = (*term.blocked, *term.unfenced)
    return [
        instance
        for instance in standing
        if instance not in known and world.power.chassis[instance.node].boot_id == instance.boot_id
    ]


def _power(world: "World") -> list[str]:
    reasons: list[str] = []
    for path in world.ensemble.paths_below(DOMAINS):
        record = world.record(DomainRecord, path)
        if record is not None:
            # Nobody waits for the slot of a node that was put aside since: it is forgotten after two boot times.
            slots = [slot for slot in record.slots if set_aside(world, slot.node) is None]
            reasons += [f"a power order for {slot.node} is still in flight" for slot in slots]
    return _shortened(reasons)


def _upgrade(world: "World") -> list[str]:
    """After a halt every node that was not done is back on the image it had, and in service unless it was so before."""
    record = world.record(UpgradeRecord, UPGRADE)
    if record is None or record.state != "halted":
        return []
    reasons = [f"{turn.node} was not taken back since the upgrade halted" for turn in record.current]
    for node in world.nodes:
        running = world.slots[node].running
        if node not in record.done and world.power.chassis[node].state == "up" and running == record.image:
            reasons.append(f"{node} runs {running} although the upgrade halted")
    return _shortened(reasons)


def _shortened(reasons: Sequence[str]) -> list[str]:
    shown = list(reasons[:REASONS_MAX])
    if len(reasons) > len(shown):
        shown.append(f"and {len(reasons) - len(shown)} more like that")
    return shown
