"""``rack status``: one look at a rack, from the shared records, the servers and the agents."""

import json
from typing import Any

import msgspec

from core.errors import InputError
from core.ids import NodeId, ServiceName
from core.records import Change
from drivers.access import Access
from drivers.clock import wall_text
from drivers.rack_state import Heard, RackState, Server
from drivers.servers import servers
from drivers.status_machines import machines_plain
from drivers.status_storage import with_storage
from drivers.views import view_in, views
from drivers.zookeeper_operator import Operator, Unreachable


def look(access: Access) -> RackState:
    """Look at the whole rack now.

    Raises: InputError if no server of the ensemble answers with a quorum behind it.
    """
    answers = servers(access.config)
    if all(server.error for server in answers.values()):
        raise unreachable(access, answers)
    try:
        with Operator(access.config) as operator:
            records = operator.tree()
    except Unreachable:
        raise unreachable(access, answers) from None
    known = len(access.config.machines)
    problems = access.learn(records)
    if len(access.config.machines) != known:
        answers = servers(access.config)
    return with_storage(access.config, state_of(access, records, answers, heard(access), problems))


def state_of(
    access: Access,
    records: dict[str, Change],
    answers: dict[NodeId, Server],
    agents: dict[NodeId, Heard],
    problems: tuple[str, ...] = (),
) -> RackState:
    """Put together what was seen. ``problems``: of the inventory with what was found."""
    return RackState(
        at=wall_text(),
        nodes=tuple(access.config.machines),
        services=access.config.catalog.specs,
        records=records,
        agents=agents,
        servers=answers,
        problems=problems,
    )


def heard(access: Access) -> dict[NodeId, Heard]:
    """Ask all agents; this machine's own shows itself in its folder as well."""
    found = views(access.agents())
    own = access.config.node
    if access.local and found[own].view is None:
        kept = view_in(access.config.tables.run_dir).view
        if kept is not None:
            found[own] = Heard(view=kept, error=f"{found[own].error}; what is shown is what it left last")
    return found


def unreachable(access: Access, answers: dict[NodeId, Server]) -> InputError:
    """One message with the remedy: nobody who would know of the rack answers."""
    reasons: dict[str, list[str]] = {}
    for node, server in answers.items():
        reasons.setdefault(server.error or "answers, and has no quorum behind it", []).append(node)
    said = "; ".join(f"{' '.join(nodes[:5])}{' …' if len(nodes) > 5 else ''}: {why}" for why, nodes in reasons.items())
    remedy = (
        "is the network up, does 'rack supervisor' run on the voters, is a majority of them alive, and is the "
        f"certificate in {access.file} one of this rack's?"
    )
    return InputError([f"the ensemble cannot be reached ({said}); {remedy}"])


def to_json(rack: RackState) -> str:
    """One JSON object on one line: what the table shows, by name."""
    ensemble, cluster = rack.ensemble, rack.cluster
    shown: dict[str, Any] = {
        "at": rack.at,
        "nodes": {node: _node(rack, node) for node in sorted({*rack.nodes, *rack.lives})},
        "singletons": {spec.name: _singleton(rack, spec.name) for spec in rack.services if spec.run == "singleton"},
        "copies": {spec.name: rack.running(spec.name) for spec in rack.services if spec.run != "singleton"},
        "ensemble": {
            "voters": ensemble.voters if ensemble is not None else (),
            "config": ensemble.config if ensemble is not None else 0,
            "leader": rack.leader,
            "joining": cluster.joining if cluster is not None else (),
            "leaving": cluster.leaving if cluster is not None else (),
        },
        "servers": rack.servers,
        "power": rack.power,
        "slots": {domain: record.slots for domain, record in rack.domains.items()},
        "brake": [node for node, view in sorted(rack.views.items()) if view.brake],
        **machines_plain(rack),
        "storage": rack.storage,
        "pending": rack.pending(),
        "not_reached": rack.not_reached(),
    }
    return json.dumps(msgspec.to_builtins(shown, str_keys=True), separators=(",", ":")) + "\n"


def _node(rack: RackState, node: NodeId) -> dict[str, Any]:
    life, member = rack.lives.get(node), rack.members.get(node)
    return {
        "state": life.state if life is not None else "unknown",
        "reason": life.reason if life is not None else "",
        "attempts": life.attempts if life is not None else 0,
        "boot_id": life.boot_id if life is not None else "",
        "member": member is not None,
        "session": member.session if member is not None else 0,
        "fit": member is not None and member.fit,
        "unfit": member.unfit if member is not None else (),
        "storage_ok": member is not None and member.storage_ok,
        "server": member is not None and member.server,
        "image": member.image if member is not None else "",
        "guid": life.guid if life is not None else "",
        "macs": life.macs if life is not None else (),
        "console": life.console if life is not None else "",
    }


def _singleton(rack: RackState, service: ServiceName) -> dict[str, Any]:
    term, lease = rack.term(service), rack.lease(service)
    shown = rack.shown(lease.node, service) if lease is not None else None
    return {
        "holder": lease.node if lease is not None else "",
        "epoch": term.epoch if term is not None else 0,
        "state": shown.state if shown is not None else "",
        "serving": shown.serving if shown is not None else lease is not None and term is not None and term.serving,
        "identities": term.identities if term is not None else (),
        "unfenced": term.unfenced if term is not None else (),
        "blocked": term.blocked if term is not None else (),
    }
