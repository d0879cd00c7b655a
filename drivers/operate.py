"""What an operator may do to a node: drain it, take it back, retire it, give it another chance.

Each is a change of the node's lifecycle record by compare-and-set; the node itself and its steward do the rest.
"""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import msgspec

from core.errors import InputError
from core.ids import NodeId
from core.records import MACHINES, AnyRecord, Change, Lifecycle, NodeRecord, node_path
from drivers.access import Access
from drivers.clock import now_ms
from formats.problems import nearest, one_of

ATTEMPTS_MAX = 20
LOOK_S = 0.5

L = Lifecycle


class Wish(StrEnum):
    """What the operator wants of a node."""

    DRAIN = "drain"
    UNDRAIN = "undrain"
    RETIRE = "retire"
    RELEASE = "release"


class Records(Protocol):
    """Reading and writing shared records, as ``drivers.zookeeper.Operator`` does."""

    def read(self, path: str) -> Change: ...

    def put(self, path: str, record: AnyRecord, version: int) -> bool: ...


class Next(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now: write ``record`` (None: nothing), say ``text``; ``over``: the wish is fulfilled."""

    text: str
    record: NodeRecord | None = None
    over: bool = False


_MOVES: dict[Wish, dict[Lifecycle, tuple[Lifecycle, str]]] = {
    Wish.DRAIN: dict.fromkeys((L.JOINED, L.SUSPECT), (L.DRAINING, "drained by the operator")),
    Wish.UNDRAIN: dict.fromkeys((L.DRAINING, L.MAINTENANCE), (L.JOINED, "")),
    Wish.RETIRE: dict.fromkeys((L.JOINED, L.SUSPECT), (L.DRAINING, "retired by the operator"))
    | dict.fromkeys((L.MAINTENANCE, L.LOST, L.QUARANTINED, L.DISCOVERED), (L.RETIRED, "retired by the operator")),
    Wish.RELEASE: dict.fromkeys((L.QUARANTINED, L.RETIRED), (L.DISCOVERED, "")),
}
_ENDS: dict[Wish, tuple[Lifecycle, ...]] = {
    Wish.DRAIN: (L.MAINTENANCE,),
    Wish.UNDRAIN: (L.JOINED,),
    Wish.RETIRE: (L.RETIRED,),
    Wish.RELEASE: (L.DISCOVERED, L.POWERING, L.BOOTING, L.JOINED),
}
_WAITS: dict[Wish, tuple[Lifecycle, ...]] = {
    Wish.DRAIN: (L.DRAINING,),
    Wish.UNDRAIN: (),
    Wish.RETIRE: (L.DRAINING,),
    Wish.RELEASE: (),
}


def next_step(wish: Wish, record: NodeRecord) -> Next:
    """What a wish calls for in the node's state.

    Raises: InputError if nothing leads from that state to what is wished for.
    """
    state = record.state
    if state in _ENDS[wish]:
        return Next(text=f"{record.node} is in state {state}", over=True)
    if state in _WAITS[wish]:
        reason = f": {record.reason}" if record.reason else ""
        return Next(text=f"{record.node} is {state}{reason}")
    move = _MOVES[wish].get(state)
    if move is None:
        allowed = ", ".join(sorted({*_MOVES[wish], *_WAITS[wish]}))
        raise InputError([f"rack {wish} {record.node}: it is {state}; allowed: a node that is {allowed}"])
    new = msgspec.structs.replace(record, state=move[0], reason=move[1], attempts=0)
    return Next(text=f"{record.node}: {state} → {move[0]}", record=new, over=move[0] in _ENDS[wish])


def operate(records: Records, wish: Wish, node: NodeId, wait_ms: int, say: Callable[[str], None]) -> bool:
    """Carry a wish out and wait up to ``wait_ms`` until it is fulfilled; whether it is. ``say`` takes each news once.

    Raises: InputError for an unknown node, or one in a state that the wish does not fit.
    """
    until_ms, attempts, said = now_ms() + wait_ms, 0, ""
    while True:
        change = records.read(node_path(node))
        if not isinstance(change.data, NodeRecord):
            raise InputError([f"rack {wish} {node}: the rack has no record of it; 'rack status' lists its nodes"])
        step = next_step(wish, change.data)
        if step.record is not None:
            attempts += 1
            if not records.put(change.path, step.record, change.version):
                if attempts >= ATTEMPTS_MAX:
                    raise InputError([f"rack {wish} {node}: its record changed {attempts} times meanwhile; try again"])
                continue
        if step.text != said:
            said = step.text
            say(said)
        if step.over or now_ms() >= until_ms:
            return step.over
        time.sleep(LOOK_S)


def carry_out(access: Access, wish: Wish, node: NodeId, wait_ms: int, say: Callable[[str], None]) -> bool:
    """As ``operate``, through a connection of its own.

    Raises: InputError also if the ensemble cannot be reached.
    """
    from drivers.zookeeper_operator import Operator, Unreachable  # the rule above needs no library

    known = access.config.machines
    unknown = f"rack {wish} {node}: no such node; allowed: "
    if node not in known and not access.config.inventory.networks:
        raise InputError([f"{unknown}{one_of(known)}{nearest(node, known)}"])
    try:
        with Operator(access.config) as operator:
            if node not in known:
                access.learn(operator.below(MACHINES))
            if node not in known:
                raise InputError([f"{unknown}{one_of(known)}{nearest(node, known)}"])
            return operate(operator, wish, node, wait_ms, say)
    except Unreachable as error:
        if node not in known:
            more = "; machines that were found later are not known while the ensemble cannot be reached"
            raise InputError([f"{unknown}{one_of(known)}{nearest(node, known)}{more}"]) from None
        remedy = "'rack status' says which servers answer"
        raise InputError([f"the ensemble cannot be reached ({error}); {remedy}"]) from None
