"""Which nodes could take a singleton now, and where one of them stands: who claims first, who next."""

from core.hashing import mix
from core.ids import NodeId
from core.placement_match import Matching
from core.placement_state import Asker

SPREAD = 16
"""Nodes behind the candidates share this many further ranks, by hash."""


def assigned_of(asker: Asker) -> tuple[NodeId, ...]:
    """Return the nodes that a service is assigned to, best first."""
    if asker.settled_at:
        return (asker.settled_at,)
    return tuple(step.room.node.id for step in asker.steps.values() if step.won)


def candidates_of(matching: Matching, asker: Asker, k: int) -> tuple[NodeId, ...]:
    """Return up to ``k`` nodes that could take the service: the assigned first, then by score.

    Kept until a change at a node that was looked at, or in the ranking before the last one.
    """
    if asker.found is None or asker.found_for < k:
        asker.found_for, asker.found_last = k, None
        asker.found = _find(matching, asker, k)
    return asker.found[:k]


def rank_of(matching: Matching, asker: Asker, node_id: NodeId, k: int) -> int | None:
    """Return the index among the candidates, a rank behind them by hash, or None for a node that cannot. O(1)."""
    first = candidates_of(matching, asker, k)
    if node_id in first:
        return first.index(node_id)
    room = matching.rooms.get(node_id)
    if room is None or not asker.may_use(room) or not matching.fits(asker, room):
        return None
    return k + mix(asker.digest, room.digest) % SPREAD


def _find(matching: Matching, asker: Asker, k: int) -> tuple[NodeId, ...]:
    found = list(assigned_of(asker))[:k]
    for node in found:
        matching.rooms[node].readers[asker.name] = asker
    if len(found) == k:
        asker.found_last = None
        return tuple(found)
    for cost, room in matching.walk(asker):
        room.readers[asker.name] = asker
        if room.node.id not in found and matching.fits(asker, room):
            found.append(room.node.id)
        if len(found) == k:
            asker.found_last = cost, room
            break
    return tuple(found)
