"""A machine's state as a frozen view, with what it waits for in words."""

from core.brain import Brain
from core.ids import Epoch
from core.records import Lifecycle
from core.state import CopyState, Phase, Singleton, SingletonState
from core.view import NodeView, ServiceView

_IDLE = SingletonState.IDLE

_WAITS = {
    SingletonState.CLAIMING: "its claim to be answered",
    SingletonState.FENCING: "the storage to confirm a fence",
    SingletonState.OPENING: "its volume to open",
    SingletonState.RECORDING: "its identity to be recorded",
    SingletonState.WAITING: "the last holder's clock to run out",
    SingletonState.STARTING: "the service to become healthy",
    SingletonState.ADMITTING: "the last holder's evidence to run out, and fresh evidence of its own",
    SingletonState.WITHDRAWN: "a storage probe to succeed",
    SingletonState.STOPPING: "the service to stop",
    SingletonState.CLOSING: "its volume to close",
    SingletonState.RELEASING: "the lease to be released",
    SingletonState.ADOPTING: "a commit that confirms its lease",
}


def show(b: Brain) -> NodeView:
    """Make the view of a machine."""
    state = b.state
    copies = [
        ServiceView(name=c.name, state=c.state, serving=c.state is CopyState.RUNNING) for c in state.copies.values()
    ]
    return NodeView(
        node=b.me.id,
        at_ms=state.now_at_ms,
        session=state.session,
        joined=b.joined,
        lifecycle=state.own.state if state.own is not None else Lifecycle.BOOTING,
        members=len(b.members),
        brake=state.brake.engaged,
        services=(*singletons(b), *copies),
        wards=tuple(ward.node for ward in state.wards.values()),
        pending=_pending(b),
        refusals=tuple(state.refusals),
    )


def singletons(b: Brain) -> tuple[ServiceView, ...]:
    """Make the part of the view that the invariants are about: the singletons that this machine has to do with."""
    return tuple([_singleton(s) for s in b.state.singletons.values() if s.state is not _IDLE])


def _singleton(s: Singleton) -> ServiceView:
    return ServiceView(
        name=s.name,
        state=s.state,
        epoch=s.epoch,
        instance=s.instance,
        recorded=s.recorded,
        serving=s.state is SingletonState.SERVING,
        coordination_asked_ms=s.coordination_asked_ms,
        storage_asked_ms=s.storage_asked_ms,
        fenced_at_ms=s.fenced_at_ms,
        admit_at_ms=s.admit_at_ms,
        unfenced=tuple(s.to_fence),
    )


def _pending(b: Brain) -> tuple[str, ...]:
    state = b.state
    said = []
    if state.phase is not Phase.JOINED:
        said.append(f"{b.me.id} is {state.phase}, not joined")
    for s in state.singletons.values():
        if s.state in _WAITS:
            said.append(f"{s.name} epoch {Epoch(s.epoch)} on {b.me.id} waits for {_WAITS[s.state]}")
    said += [f"no fit node has room for {name}" for name in state.nowhere]
    said += [f"{name} is not claimed by {b.me.id}: {why}" for name, why in state.missing.items()]
    for c in state.copies.values():
        if c.state not in (CopyState.IDLE, CopyState.RUNNING):
            said.append(f"{c.name} on {b.me.id} is {c.state}")
    for node, ward in state.wards.items():
        record = ward.record
        if node not in b.members and record is not None:
            said.append(f"{node} is {record.state}: {record.reason or 'waiting for its steward'} (steward {b.me.id})")
    if state.brake.engaged:
        said.append(f"{b.me.id} pauses power fencing: {len(state.brake.missing)} members disappeared at once")
    return tuple(said)
