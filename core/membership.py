"""This node's own membership: session, joining, and its member record, which says what it is fit for."""

import msgspec

from core import discovery
from core import effects as fx
from core.brain import DRAIN, Brain
from core.events import Committed, OpFailed, OpSucceeded, ReadBack, SessionOpened
from core.ids import NO_SESSION, SessionId
from core.lifecycle import after
from core.records import (
    CLUSTER,
    ENSEMBLE,
    LEASES,
    MEMBERS,
    NODES,
    TERMS,
    UPGRADE,
    Change,
    ClusterRecord,
    DomainRecord,
    Lifecycle,
    MemberRecord,
    NodeRecord,
    domain_path,
    node_path,
)
from core.state import NO_OP, Ending, Pending, Phase, Subject

ME = Subject.MEMBERSHIP
_STAYS_OUT = (Lifecycle.QUARANTINED, Lifecycle.RETIRED)
_UNFIT = (Lifecycle.DRAINING, Lifecycle.MAINTENANCE, Lifecycle.QUARANTINED, Lifecycle.RETIRED)
SLOT_VOID = 4
"""Times ``power_ms_max`` after which an order that was committed before is surely carried out, answered or refused."""


def wanted_member(b: Brain) -> MemberRecord:
    """The member record as it should be now."""
    state = b.state
    fit = not state.hand_over and not (state.own is not None and state.own.state in _UNFIT)
    return MemberRecord(
        node=b.me.id,
        session=state.session,
        boot_id=state.boot_id,
        rack=b.me.rack,
        power_domain=b.me.power_domain,
        weight=b.me.weight,
        cores=b.me.cores,
        memory_bytes=b.me.memory_bytes,
        fit=fit,
        unfit=tuple(spec.name for spec in b.specs.values() if spec.name in state.unfit_until_ms),
        storage_ok=state.storage_ok,
        server=state.server == "running",
        voter=b.me.voter,
        image=state.image,
        settled=state.upgrade.settled,
    )


def open_session(b: Brain, resume: SessionId) -> None:
    """Connect, taking ``resume`` up if it is still alive."""
    b.state.phase = Phase.CONNECTING
    b.emit(fx.OpenSession(resume=resume))


def on_session(b: Brain, event: SessionOpened) -> bool:
    """Take a session. True if it is a new one, so that every right of the old one has ended (rule 5)."""
    state = b.state
    before = state.session if state.session != NO_SESSION else state.saved_session
    same = event.resumed and before in (NO_SESSION, event.session)
    state.session = event.session
    if same and state.phase is Phase.JOINED:
        return False
    state.phase = Phase.STOPPING
    state.synced.clear()
    return not same


def register_if_stopped(b: Brain) -> None:
    """Go on to register once nothing of an old session runs any more: stop before the first write (rule 5)."""
    if b.state.phase is Phase.STOPPING and not _holding_old(b):
        _look(b)


def _holding_old(b: Brain) -> bool:
    return any(s.ending is Ending.DROP for s in b.state.singletons.values())


def _look(b: Brain) -> None:
    b.state.phase = Phase.READING
    domain = domain_path(b.me.power_domain)
    b.read(ME, "", "look", (node_path(b.me.id), b.own_member_path(), CLUSTER, domain))


def on_answer(b: Brain, pending: Pending, event: OpSucceeded | OpFailed) -> None:
    if pending.step == "refresh":
        _refreshed(b, event)
        return
    if pending.step == "slot":
        _slot_answered(b, event)
        return
    if isinstance(event, OpFailed):
        if event.reason != "session":
            b.timer_in("join", b.calm_backoff(b.state.attempts, "join"))
            b.state.attempts += 1
        return
    match event.result:
        case ReadBack(changes=changes) if b.state.phase is Phase.READING:
            _looked(b, *changes)
        case Committed(versions=versions) if b.state.phase is Phase.REGISTERING:
            b.state.own_version = versions[0]
            b.state.member_version = 0
            _joined(b)
        case _ if b.state.phase is Phase.CLOSING_OLD:
            _look(b)
        case _:
            pass


def on_timer(b: Brain) -> None:
    """Try to join again."""
    if b.state.phase in (Phase.READING, Phase.CLOSING_OLD, Phase.REGISTERING):
        _look(b)


def _looked(b: Brain, node: Change, member: Change, cluster: Change, domain: Change) -> None:
    state = b.state
    state.own = node.data if isinstance(node.data, NodeRecord) else None
    state.own_version = node.version
    if state.own is not None and state.own.state in _STAYS_OUT:
        state.phase = Phase.OUT
        b.emit(fx.Mirror(path=node_path(b.me.id), depth="one"))
        return
    if isinstance(member.data, MemberRecord):
        if member.owner == state.session:
            state.member_version = member.version
            _joined(b)
        else:
            _close_old(b, member.owner)
        return
    _register(b, cluster.data is None, domain)


def _close_old(b: Brain, session: SessionId) -> None:
    """Our own earlier session still owns our member record: close it instead of waiting for its expiry."""
    b.state.phase = Phase.CLOSING_OLD
    op = b.op(ME, "", "close_old")
    b.emit(fx.CloseSession(op=op, session=session, ms_max=b.timing.commit_ms_max))


def _register(b: Brain, first: bool, domain: Change) -> None:
    """Register in one transaction: lifecycle record, presence, the first cluster record, and our power slot given back.

    A fence in flight stays counted until the steward that ordered it has its answer (rule 8); if that steward is gone,
    this node gives the slot back once the order can be carried out no more.
    """
    state = b.state
    state.phase = Phase.REGISTERING
    old = state.own
    if old is None:
        record = NodeRecord(
            node=b.me.id,
            rack=b.me.rack,
            power_domain=b.me.power_domain,
            state=Lifecycle.JOINED,
            boot_id=state.boot_id,
        )
        write: fx.Write = fx.Create(path=node_path(b.me.id), data=record)
    else:
        lifecycle = after(old.state, "joins")
        record = msgspec.structs.replace(old, state=lifecycle, boot_id=state.boot_id, reason="")
        write = fx.Put(path=node_path(b.me.id), data=record, version=state.own_version)
    state.own = record
    writes: tuple[fx.Write, ...] = (
        write,
        fx.Create(path=b.own_member_path(), data=wanted_member(b), ephemeral=True),
    )
    if first:
        writes = (*writes, fx.Create(path=CLUSTER, data=ClusterRecord()))
    slots = domain.data.slots if isinstance(domain.data, DomainRecord) else ()
    if any(slot.node == b.me.id and not slot.fence for slot in slots):
        left = DomainRecord(slots=tuple(slot for slot in slots if slot.node != b.me.id or slot.fence))
        writes = (*writes, fx.Put(path=domain.path, data=left, version=domain.version))
    if any(slot.node == b.me.id and slot.fence for slot in slots):
        b.timer_in("slot", SLOT_VOID * b.timing.power_ms_max)
    b.commit(ME, "", "register", writes)


def on_slot_timer(b: Brain) -> None:
    """Look whether the slot of a fence that was ordered before we came back is still there."""
    if b.joined:
        b.read(ME, "", "slot", (domain_path(b.me.power_domain),))
    else:
        b.timer_in("slot", SLOT_VOID * b.timing.power_ms_max)


def _slot_answered(b: Brain, event: OpSucceeded | OpFailed) -> None:
    if isinstance(event, OpFailed):
        b.timer_in("slot", b.timing.power_ms_max)
        return
    domain = event.result.changes[0] if isinstance(event.result, ReadBack) else None
    if domain is None or not isinstance(domain.data, DomainRecord):
        return
    left = tuple(slot for slot in domain.data.slots if slot.node != b.me.id)
    if left != domain.data.slots:
        put = fx.Put(path=domain.path, data=DomainRecord(slots=left), version=domain.version)
        b.commit(ME, "", "slot", (put,))


def _joined(b: Brain) -> None:
    state = b.state
    state.phase = Phase.JOINED
    state.joined_at_ms = b.now
    state.attempts = 0
    b.note("joined")
    b.timer_in("stable", b.timing.stable_ms)
    b.emit(fx.Mirror(path=MEMBERS, depth="tree"))
    b.emit(fx.Mirror(path=TERMS, depth="tree"))
    b.emit(fx.Mirror(path=LEASES, depth="tree"))
    b.emit(fx.Mirror(path=CLUSTER, depth="one"))
    b.emit(fx.Mirror(path=ENSEMBLE, depth="one"))
    b.emit(fx.Mirror(path=NODES, depth="names"))
    b.emit(fx.Mirror(path=node_path(b.me.id), depth="one"))
    b.emit(fx.Mirror(path=UPGRADE, depth="one"))
    discovery.begin(b)


def refresh(b: Brain) -> None:
    """Write the member record again if it does not say what it should."""
    state = b.state
    if not b.joined or state.member_op != NO_OP or state.member_version < 0 or "refresh" in state.timers:
        return
    change, wanted = b.known(b.own_member_path()), wanted_member(b)
    if change is None or change.version < state.member_version:
        return  # our last write is still to be shown
    shown = change.data
    if not isinstance(shown, MemberRecord) or shown.session != state.session or shown == wanted:
        return
    put = fx.Put(path=b.own_member_path(), data=wanted, version=state.member_version)
    state.member_op = b.commit(ME, "", "refresh", (put,))


def _refreshed(b: Brain, event: OpSucceeded | OpFailed) -> None:
    if b.state.member_op != event.op:
        return
    b.state.member_op = NO_OP
    if isinstance(event, OpSucceeded) and isinstance(event.result, Committed):
        b.state.member_version = max(b.state.member_version, event.result.versions[0])
    elif isinstance(event, OpFailed) and event.reason != "session":
        b.timer_in("refresh", b.calm_backoff(1, "refresh"))


def on_own_member(b: Brain, change: Change) -> None:
    """The mirror shows our own member record: its version is what the next write must name."""
    if change.data is not None and change.owner == b.state.session:
        b.state.member_version = max(b.state.member_version, change.version)
        b.look |= DRAIN


def lapse_unfit(b: Brain) -> None:
    """Drop the unfit marks whose time is over (rule 12: marks lapse)."""
    marks = b.state.unfit_until_ms
    for name in [name for name, until in marks.items() if until <= b.now]:
        del marks[name]
    if marks:
        b.timer("unfit", min(marks.values()))
    refresh(b)
