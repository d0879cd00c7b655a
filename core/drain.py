"""Drain and maintenance of this node: it gives away what it holds, then says so (design 2.2)."""

import msgspec

from core import effects as fx
from core import ending, ensemble, membership
from core.brain import Brain
from core.events import OpFailed, OpSucceeded
from core.ids import NodeId, ServiceName
from core.lifecycle import after
from core.records import CLUSTER, Lifecycle, NodeRecord, node_path
from core.state import NO_OP, Ending, Pending, SingletonState, Subject

ME = Subject.DRAIN
L = Lifecycle


def review(b: Brain) -> None:
    """Follow our own lifecycle record: drain, enter maintenance, come back, or mend what a steward got wrong."""
    own = b.state.own
    if not b.joined or own is None or b.state.drain_op != NO_OP:
        return
    match own.state:  # the commonest first
        case L.JOINED:
            membership.refresh(b)
            _leave_maintenance(b)
        case L.DRAINING:
            membership.refresh(b)
            _give_away(b)
        case L.LOST | L.RECOVERING | L.POWERING | L.BOOTING | L.DISCOVERED:
            new = msgspec.structs.replace(own, state=after(own.state, "joins"), boot_id=b.state.boot_id, reason="")
            _commit_own(b, new, "rejoin")
        case L.MAINTENANCE:
            membership.refresh(b)
        case L.SUSPECT | L.QUARANTINED | L.RETIRED:
            pass


def _give_away(b: Brain) -> None:
    waiting = ""
    for s in b.state.singletons.values():
        if s.state is SingletonState.IDLE:
            continue
        if _elsewhere(b, s.name):
            ending.end(b, s, Ending.HAND_OVER, "draining")
            waiting = waiting or f"{s.name} is being handed over"
        else:
            waiting = f"no other node has room for {s.name}"
    copies = [c for c in b.state.copies.values() if b.specs[c.name].run == "count" and c.state != "idle"]
    if copies:
        waiting = waiting or f"{copies[0].name} still runs here"
    if not waiting:
        waiting = _enter_maintenance(b)
    if waiting and "drain" not in b.state.timers:
        b.note("drain_waits", detail=waiting)
        b.timer_in("drain", b.timing.retry_ms_max)


def _elsewhere(b: Brain, service: ServiceName) -> bool:
    return any(node != b.me.id for node in b.placement.candidates(service, 2))


def _enter_maintenance(b: Brain) -> str:
    """Enter maintenance in one transaction with the cluster record, so that two nodes cannot miss each other."""
    cluster, version = ensemble.cluster(b)
    own = b.state.own
    if cluster is None or own is None:
        return "the cluster record is not known yet"
    if not ensemble.may_lose(b, b.me.id, cluster.maintenance):
        return "the ZooKeeper ensemble would lose its majority"
    away: tuple[NodeId, ...] = (*cluster.maintenance, b.me.id)
    new = msgspec.structs.replace(cluster, maintenance=tuple(dict.fromkeys(away)))
    record = msgspec.structs.replace(own, state=after(own.state, "drained"), reason="drained")
    node = fx.Put(path=node_path(b.me.id), data=record, version=b.state.own_version)
    b.state.drain_op = b.commit(ME, "", "maintenance", (node, fx.Put(path=CLUSTER, data=new, version=version)))
    return ""


def _leave_maintenance(b: Brain) -> None:
    cluster, version = ensemble.cluster(b)
    if cluster is not None and b.me.id in cluster.maintenance:
        left = tuple(node for node in cluster.maintenance if node != b.me.id)
        new = msgspec.structs.replace(cluster, maintenance=left)
        b.state.drain_op = b.commit(ME, "", "leave", (fx.Put(path=CLUSTER, data=new, version=version),))


def _commit_own(b: Brain, record: NodeRecord, step: str) -> None:
    put = fx.Put(path=node_path(b.me.id), data=record, version=b.state.own_version)
    b.state.drain_op = b.commit(ME, "", step, (put,))


def on_stable(b: Brain) -> None:
    """We have stayed up for ``stable_ms``: earlier boots no longer count against this node."""
    own = b.state.own
    if b.joined and own is not None and own.attempts and b.state.drain_op == NO_OP:
        _commit_own(b, msgspec.structs.replace(own, attempts=0), "stable")


def on_answer(b: Brain, pending: Pending, event: OpSucceeded | OpFailed) -> None:
    if b.state.drain_op != event.op:
        return
    b.state.drain_op = NO_OP
    if isinstance(event, OpSucceeded):
        if pending.step == "maintenance":
            b.note("maintenance")
    elif event.reason != "session":
        b.timer_in("drain", b.calm_backoff(2, "drain"))
