"""One form for all states that differ only in names: what makes two orders of independent steps end in one state.

Renamed are the ops of a machine (the core compares them for equality and nothing else), and the order in which its
dictionaries were filled is forgotten. Nodes are not merged by symmetry: their ids decide the ranking of a singleton,
the ring of stewards and every jitter, so no two of them are interchangeable.
"""

from functools import cache
from typing import TYPE_CHECKING, get_origin, get_type_hints

import msgspec

from core.ids import OpId
from core.state import Pending, State
from twin.check.codes import CODES
from twin.check.node import Node, Waiting

if TYPE_CHECKING:
    from twin.check.world import World

Names = dict[int, int]
"""New names of ops by their old ones; empty if every op keeps its name."""
Renamed = tuple[int, Names]

_decoder = msgspec.json.Decoder(State)
_encoder = msgspec.json.Encoder()


def canonical(snapshot: bytes, now_ms: int) -> tuple[bytes, Names]:
    """Return the canonical form of a machine's snapshot, and the new names of its ops where they change.

    Outstanding ops are numbered by what they are for, then those that are only remembered. ``now_ms`` replaces the time
    of the last step, which the next step overwrites.
    """
    state = _decoder.decode(snapshot)
    outstanding = sorted(state.ops.items(), key=_purpose)
    names = {op: number for number, (op, _) in enumerate(outstanding, 1)}
    for op in sorted(_remembered(state)):
        names.setdefault(op, len(names) + 1)
    state.ops = {names[op]: pending for op, pending in outstanding}
    state.next_op = len(names) + 1
    state.now_at_ms = now_ms
    _rename(state, names)
    for record in _records(state):
        _sort(record)
    changed = {old: new for old, new in names.items() if old != new}
    return _encoder.encode(state), changed


def _purpose(entry: tuple[int, Pending]) -> tuple[str, str, str, int, int]:
    op, pending = entry
    return pending.subject, pending.key, pending.step, pending.asked_ms, op


@cache
def _fields(kind: type) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the fields of a record that name an op, and those that are dictionaries."""
    hints = get_type_hints(kind)
    return (
        tuple(name for name, hint in hints.items() if hint is OpId),
        tuple(name for name, hint in hints.items() if get_origin(hint) is dict),
    )


def _records(state: State) -> list[msgspec.Struct]:
    """List the mutable records of a machine: itself, its brake, and what its dictionaries hold."""
    found: list[msgspec.Struct] = [state, state.brake]
    for name in _fields(State)[1]:
        for value in getattr(state, name).values():
            if isinstance(value, msgspec.Struct) and not value.__struct_config__.frozen:
                found.append(value)
    return found


def _sort(record: msgspec.Struct) -> None:
    for name in _fields(type(record))[1]:
        setattr(record, name, dict(sorted(getattr(record, name).items())))


def _remembered(state: State) -> list[int]:
    return [op for record in _records(state) for name in _fields(type(record))[0] if (op := getattr(record, name))]


def _rename(state: State, names: Names) -> None:
    for record in _records(state):
        for name in _fields(type(record))[0]:
            old = getattr(record, name)
            if old:
                setattr(record, name, names[old])


# -- what is under way -------------------------------------------------------------------------------------------------

_named: dict[tuple[int, int], int] = {}
"""Numbers of effects and events with another op."""


def _with_op(code: int, op: int) -> int:
    known = _named.get((code, op))
    if known is None:
        known = _named[code, op] = CODES.number(msgspec.structs.replace(CODES.values[code], op=op))
    return known


def _moved(code: int, names: Names) -> int:
    op = getattr(CODES.values[code], "op", 0)
    return _with_op(code, names[op]) if op in names else code


def settle(world: "World", index: int) -> None:
    """Bring a node that was changed, and what it has under way, into canonical form."""
    node = world.own_node(index)
    node.arrivals = tuple(sorted(node.arrivals))
    if len(node.local) > 1:
        node.local = tuple(sorted(node.local, key=_order))
    if not node.agent:
        node.brain = -1
        node.outbox = tuple(_forgotten(waiting) for waiting in node.outbox)
        return
    node.brain, names = world.brains.canonical(node.brain)
    if names:
        _settle_ops(world, node, names)


def _order(waiting: Waiting) -> tuple[int, int, int]:
    return waiting.incarnation, waiting.effect, waiting.fail_at_ms


def _settle_ops(world: "World", node: Node, names: Names) -> None:
    node.outbox = _renamed(node.outbox, node.incarnation, names)
    node.hanging = _renamed(node.hanging, node.incarnation, names)
    node.local = tuple(sorted(_renamed(node.local, node.incarnation, names), key=_order))
    node.inbox = tuple(_moved(code, names) for code in node.inbox)
    node.arrivals = tuple(sorted(_moved(code, names) for code in node.arrivals))
    if any(r.node == node.name and r.incarnation == node.incarnation for r in world.storage.requests):
        storage = world.own_storage()
        storage.requests = tuple(
            msgspec.structs.replace(r, effect=CODES.values[_moved(CODES.number(r.effect), names)])
            if r.node == node.name and r.incarnation == node.incarnation
            else r
            for r in storage.requests
        )


def _forgotten(waiting: Waiting) -> Waiting:
    """A request whose answer nobody waits for any more."""
    if not getattr(CODES.values[waiting.effect], "op", 0):
        return waiting
    return Waiting(waiting.incarnation, _with_op(waiting.effect, 0), waiting.fail_at_ms)


def _renamed(waiting: tuple[Waiting, ...], incarnation: int, names: Names) -> tuple[Waiting, ...]:
    return tuple(
        Waiting(w.incarnation, _moved(w.effect, names), w.fail_at_ms) if w.incarnation == incarnation else w
        for w in waiting
    )
