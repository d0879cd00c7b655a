"""Nodes and the weight of their fault domains: what a change there means for the rankings of the services."""

from core.hashing import digest, draw, weighted
from core.placement_match import Matching
from core.placement_state import Asker, Domain, Room
from core.specs import NodeSpec


def new_room(matching: Matching, node: NodeSpec, domain_id: str) -> Room:
    """Add a node to its fault domain, not fit yet and with all of its capacity free."""
    domain = _domain(matching, domain_id)
    _reweigh(matching, domain, domain.weight + max(node.weight, 0))
    room = Room(node, domain, False, digest(node.id), node.cores, node.memory_bytes)
    matching.rooms[node.id] = domain.rooms[node.id] = room
    return room


def drop_room(matching: Matching, room: Room) -> None:
    """Forget an unfit node and, with its last node, the domain."""
    domain = room.domain
    del matching.rooms[room.node.id], domain.rooms[room.node.id]
    _reweigh(matching, domain, domain.weight - max(room.node.weight, 0))
    if not domain.rooms:
        del matching.domains[domain.id]
        for asker in matching.askers.values():
            del asker.draws[domain.id]
            asker.nodes.pop(domain.id, None)


def set_fit(matching: Matching, room: Room, fit: bool) -> None:
    """Let a node in or out of the rankings of the services that look into its domain."""
    domain, node = room.domain, room.node.id
    for ask, asker in tuple(room.asks.items()) if not fit else ():
        step = asker.steps.get((ask[0], node))
        if step is not None:
            matching.touch(asker, asker.position(step))
    room.fit = fit
    room.forget()
    for asker in domain.visitors.values() if room.node.weight > 0 else ():
        if node in asker.excluded:
            continue
        cost = asker.node_cost(room)
        if fit:
            asker.nodes[domain.id].add((cost, node))
            matching.touch(asker, (0, asker.domain_cost(domain), domain.id, cost, node))
        else:
            asker.nodes[domain.id].discard((cost, node))


def set_barred(matching: Matching, asker: Asker, room: Room, barred: bool) -> None:
    """Let a node in or out of the ranking of one service, if the service has looked into its domain at all."""
    domain, node = room.domain, room.node.id
    if domain.id not in asker.nodes or room.node.weight <= 0 or not room.fit:
        return
    cost = asker.node_cost(room)
    if barred:
        asker.nodes[domain.id].discard((cost, node))
    else:
        asker.nodes[domain.id].add((cost, node))
    matching.touch(asker, (0, asker.domain_cost(domain), domain.id, cost, node))


def domain_draw(matching: Matching, asker: Asker, domain: Domain) -> int:
    """Return the draw of a service for a domain; 0 where the choice is flat, so that nodes alone decide."""
    return 0 if matching.flat else draw(asker.digest, domain.digest)


def _domain(matching: Matching, domain_id: str) -> Domain:
    domain = matching.domains.get(domain_id)
    if domain is None:
        domain = matching.domains[domain_id] = Domain(domain_id, digest(f"domain {domain_id}"))
        for asker in matching.askers.values():
            asker.draws[domain_id] = domain_draw(matching, asker, domain)
    return domain


def _reweigh(matching: Matching, domain: Domain, weight: int) -> None:
    """Change the weight of a domain; services go on from where that changes the order of their domains."""
    old, key, most = domain.weight, domain.id, max(domain.weight, weight)
    if old == weight or (matching.flat and old and weight):
        domain.weight = weight
        return
    for asker in [
        each
        for each in matching.askers.values()
        if each.draws[key] << 32 < each.domains.limit * most or key in each.nodes
    ]:
        costs = [weighted(asker.draws[key], each) for each in (old, weight) if each]
        before = asker.domains.discard((costs[0], key)) if old else None
        after = asker.domains.add((costs[-1], key)) if weight else None
        if before is None or before != after:
            matching.touch(asker, (0, min(costs), key))
    domain.weight = weight
