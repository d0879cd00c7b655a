"""What a steward does for its wards: suspect, prove off, declare lost. Powering them is core.recovery.

Every step is a compare-and-set on the ward's record, so two stewards with different views cannot both act.
"""

from collections.abc import Sequence

import msgspec

from core import boots, discovery, quarantine, recovery, upgrade
from core import effects as fx
from core.brain import COPIES, DRAIN, ROLLING, Brain
from core.events import OpFailed, OpSucceeded, PowerSeen, ReadBack
from core.ids import NodeId
from core.lifecycle import TRANSITIONS, after
from core.records import (
    MEMBERS,
    NODES,
    POWER,
    Change,
    Lifecycle,
    MemberRecord,
    NodeRecord,
    PowerRecord,
    member_path,
    node_path,
    power_path,
)
from core.state import NO_OP, Pending, Subject, Ward

ME = Subject.WARD
L = Lifecycle


def review_if_touched(b: Brain, node: NodeId) -> None:
    """Remember to look at our wards again if a change of this node can have changed them."""
    if not b.arc_changed:
        b.arc_changed = node in b.state.wards or b.ring.touches(b.me.id, node)


def start_over(b: Brain) -> None:
    """Forget all wards: mirrors and rights of the old session are gone."""
    for node in list(b.state.wards):
        for timer in ("ward", "look", "silent"):
            b.cancel(f"{timer}/{node}")
    for domain in b.state.domains:
        b.cancel(f"domain/{domain}")
    b.state.wards.clear()
    b.state.domains.clear()
    b.state.listening = []
    discovery.start_over(b)
    upgrade.start_over(b)


def review(b: Brain) -> None:
    """Take up new wards, let go of others, listen to those that are members."""
    synced = b.state.synced
    if not b.joined or MEMBERS not in synced or NODES not in synced:
        return
    wanted = b.ring.wards_of(b.me.id)
    wards = b.state.wards
    for node in [ward.node for ward in wards.values() if ward.node not in wanted]:
        _let_go(b, node)
    for node in wanted:
        if node not in wards:
            wards[node] = Ward(node=node, patient=not _saw_it_leave(b, node))
            b.emit(fx.Mirror(path=node_path(node), depth="one"))
            b.emit(fx.Mirror(path=power_path(node), depth="one"))
    listening = [node for node in wanted if node in b.members]
    if listening != b.state.listening:
        b.state.listening = listening
        b.emit(fx.ListenTo(nodes=tuple(listening)))
    for node in wanted:
        tend(b, wards[node])


def _saw_it_leave(b: Brain, node: NodeId) -> bool:
    """Whether the node was a member while we were: then we know since when it has been away."""
    record = b.record(node_path(node))
    presence = b.state.mirror.get(member_path(record.rack, node)) if isinstance(record, NodeRecord) else None
    return presence is not None and presence.data is None


def _let_go(b: Brain, node: NodeId) -> None:
    del b.state.wards[node]
    b.emit(fx.Unmirror(path=node_path(node)))
    b.emit(fx.Unmirror(path=power_path(node)))
    for timer in ("ward", "look", "silent"):
        b.cancel(f"{timer}/{node}")
    recovery.forget(b, node)


def on_node(b: Brain, change: Change) -> None:
    """A lifecycle record changed: a new node, our own, or a ward's."""
    node = NodeId(change.path[len(NODES) + 1 :])
    record = change.data if isinstance(change.data, NodeRecord) else None
    if record is not None and not b.ring.is_known(node):
        b.ring.add(node, False)
        review_if_touched(b, node)
    if node == b.me.id:
        if record is not None:
            before = b.state.own
            if record.state is L.DRAINING and before is not None and before.state is not L.DRAINING:
                b.note("draining")
            b.state.own, b.state.own_version = record, change.version
            b.look |= DRAIN | COPIES | ROLLING
        return
    ward = b.state.wards.get(node)
    if ward is not None:
        ward.record, ward.version = record, change.version if record is not None else -1
        b.arc_changed = True


def on_nodes(b: Brain, changes: Sequence[Change]) -> None:
    """Many lifecycle records came at once: the ring is put in order once, and only those near us are looked at."""
    nodes = [NodeId(change.path[len(NODES) + 1 :]) for change in changes]
    if b.ring.add_known(nodes):
        b.arc_changed = True
    for node, change in zip(nodes, changes, strict=True):
        if node == b.me.id or node in b.state.wards:
            on_node(b, change)


def on_power(b: Brain, change: Change) -> None:
    """The power record of a ward changed."""
    ward = b.state.wards.get(change.path[len(POWER) + 1 :])
    if ward is not None:
        ward.power = change.data if isinstance(change.data, PowerRecord) else None
        ward.power_version = change.version if ward.power is not None else -1
        b.arc_changed = True


def on_synced(b: Brain, path: str) -> None:
    """The mirror of one path has answered, even if with nothing new: from here on a ward can be judged by it."""
    change = b.state.mirror.get(path, Change(path=path, zxid=0))
    if path.startswith(NODES + "/"):
        on_node(b, change)
        ward = b.state.wards.get(path[len(NODES) + 1 :])
        if ward is not None:
            ward.node_synced = True
    elif path.startswith(POWER + "/"):
        on_power(b, change)
        ward = b.state.wards.get(path[len(POWER) + 1 :])
        if ward is not None:
            ward.power_synced = True


def tend(b: Brain, ward: Ward) -> None:
    """Do the next thing for a ward, if nothing is under way."""
    if not ward.node_synced or not ward.power_synced or ward.op != NO_OP:
        return
    if b.opening.networks and boots.note_retired(b, ward):
        return
    member = b.members.get(ward.node)
    if member is not None:
        _tend_member(b, ward)
    else:
        ward.silent = False
        _tend_absent(b, ward)


def _tend_member(b: Brain, ward: Ward) -> None:
    recovery.settled(b, ward)
    if ward.record is None:
        return
    if ward.silent and ward.record.state is L.JOINED:
        mark(b, ward, "silent", "peers do not hear it")
    elif not ward.silent and ward.record.state is L.SUSPECT:
        mark(b, ward, "heard", "")


def _tend_absent(b: Brain, ward: Ward) -> None:
    if ward.record is None:
        _discover(b, ward)
        return
    match ward.record.state:
        case L.JOINED | L.SUSPECT | L.DRAINING:
            spec = ward.record
            paths = (member_path(spec.rack, spec.node), node_path(spec.node))
            ward.op = b.read(ME, ward.node, "check_gone", paths)
        case L.DISCOVERED | L.POWERING | L.BOOTING | L.LOST | L.RECOVERING:
            recovery.tend(b, ward)
        case L.QUARANTINED | L.MAINTENANCE | L.RETIRED:
            recovery.forget(b, ward.node)
            if upgrade.restarts(b, ward):
                boots.allow(b, ward)


def _discover(b: Brain, ward: Ward) -> None:
    """A machine of the inventory without a record: make one, so that everybody can see it."""
    for spec in b.opening.inventory:
        if spec.id == ward.node:
            record = NodeRecord(node=spec.id, rack=spec.rack, power_domain=spec.power_domain, state=L.DISCOVERED)
            ward.op = b.commit(ME, ward.node, "mark", (fx.Create(path=node_path(spec.id), data=record),))


def mark(b: Brain, ward: Ward, trigger: str, reason: str) -> None:
    """Move a ward's lifecycle by compare-and-set; a conflict means that somebody else was first."""
    record = ward.record
    if record is None or (record.state, trigger) not in TRANSITIONS:
        return
    new = msgspec.structs.replace(record, state=after(record.state, trigger), reason=reason)
    put = fx.Put(path=node_path(ward.node), data=new, version=ward.version)
    ward.op = b.commit(ME, ward.node, "mark", (put,))
    if new.state is L.SUSPECT:
        b.note("suspect", node=ward.node)
    elif new.state is L.LOST:
        b.note("lost", node=ward.node)


# -- evidence beats timeouts (rule 10) ---------------------------------------------------------------------------------


def on_silent(b: Brain, node: NodeId) -> None:
    """Peers stopped hearing a ward: read its session, *then* ask its BMC."""
    ward, member = b.state.wards.get(node), b.members.get(node)
    if ward is None or member is None:
        return
    ward.silent = True
    ward.told_not_off = False
    _ask(b, ward, member)
    tend(b, ward)


def on_heard(b: Brain, node: NodeId) -> None:
    ward = b.state.wards.get(node)
    if ward is not None:
        ward.silent = False
        b.cancel(f"silent/{node}")
        tend(b, ward)


def on_silent_timer(b: Brain, node: NodeId) -> None:
    ward, member = b.state.wards.get(node), b.members.get(node)
    if ward is not None and member is not None and ward.silent:
        _ask(b, ward, member)


def _ask(b: Brain, ward: Ward, member: MemberRecord) -> None:
    ward.session = member.session
    ward.early = b.op(ME, ward.node, "ask_silent")
    b.emit(fx.ReadPower(op=ward.early, node=ward.node, ms_max=b.timing.power_ms_max))


def _silent_answer(b: Brain, ward: Ward, event: OpSucceeded | OpFailed) -> None:
    member = b.members.get(ward.node)
    if not ward.silent or member is None or member.session != ward.session:
        return
    off = isinstance(event, OpSucceeded) and isinstance(event.result, PowerSeen) and not event.result.on
    if off and ward.power_synced:
        old = ward.power or PowerRecord()
        new = msgspec.structs.replace(old, closed_session=ward.session, by=b.me.id)
        path = power_path(ward.node)
        write: fx.Write = fx.Put(path=path, data=new, version=ward.power_version)
        if ward.power is None:
            write = fx.Create(path=path, data=new)
        ward.early = b.commit(ME, ward.node, "close_mark", (write,))
        return
    if not ward.told_not_off:
        ward.told_not_off = True
        b.note("not_off", node=ward.node)
    b.timer_in(f"silent/{ward.node}", max(b.timing.suspect_ms, b.calm_backoff(0, ward.node)))


def _marked(b: Brain, ward: Ward, event: OpSucceeded | OpFailed) -> None:
    """The early-close mark is durable: close exactly the session that was read before the BMC was asked."""
    if isinstance(event, OpFailed):
        b.timer_in(f"silent/{ward.node}", max(b.timing.suspect_ms, b.calm_backoff(0, ward.node)))
        return
    op = b.op(ME, ward.node, "close")
    b.emit(fx.CloseSession(op=op, session=ward.session, ms_max=b.timing.commit_ms_max))


# -- answers -----------------------------------------------------------------------------------------------------------


def on_answer(b: Brain, pending: Pending, event: OpSucceeded | OpFailed) -> None:
    ward = b.state.wards.get(pending.key)
    if ward is None:
        return
    match pending.step:
        case "ask_silent" if ward.early == event.op:
            _silent_answer(b, ward, event)
        case "close_mark" if ward.early == event.op:
            _marked(b, ward, event)
        case "close":
            if isinstance(event, OpSucceeded):
                b.note("early_close", node=ward.node)
        case _ if ward.op == event.op:
            ward.op = NO_OP
            _step_done(b, ward, pending.step, event)
        case _:
            pass


def _step_done(b: Brain, ward: Ward, step: str, event: OpSucceeded | OpFailed) -> None:
    match step:
        case "check_gone":
            _checked_gone(b, ward, event)
        case "mark" | "quarantine":
            if step == "quarantine":
                quarantine.on_written(b, ward, event)
            b.timer_in(f"look/{ward.node}", b.calm_backoff(0 if isinstance(event, OpSucceeded) else 2, ward.node))
        case _:
            recovery.on_answer(b, ward, step, event)


def _checked_gone(b: Brain, ward: Ward, event: OpSucceeded | OpFailed) -> None:
    """Declare a ward lost only if its presence is really gone, against the record version read with it."""
    if isinstance(event, OpFailed) or not isinstance(event.result, ReadBack):
        b.timer_in(f"look/{ward.node}", b.calm_backoff(1, ward.node))
        return
    presence, node = event.result.changes
    record = node.data
    if presence.data is not None or not isinstance(record, NodeRecord):
        b.timer_in(f"look/{ward.node}", b.timing.session_timeout_ms)
        return
    ward.record, ward.version = record, node.version
    if (record.state, "session_gone") in TRANSITIONS:
        mark(b, ward, "session_gone", "its session ended")
    else:
        tend(b, ward)  # somebody has marked it already, or we have without hearing the answer


def on_timer(b: Brain, kind: str, node: NodeId) -> None:
    """Look at a ward again; for the timer ``ward`` the wait before its next power action is over."""
    ward = b.state.wards.get(node)
    if ward is not None:
        ward.due = ward.due or kind == "ward"
        tend(b, ward)
