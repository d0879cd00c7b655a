"""Copies of everywhere- and count-services on this node: wanted by spec and placement, run without any lease."""

from core import effects as fx
from core.brain import Brain
from core.errors import InvariantViolation
from core.events import OpFailed, OpSucceeded
from core.ids import Epoch
from core.records import MEMBERS, Lifecycle
from core.specs import ServiceSpec
from core.state import NO_OP, Copy, CopyState, Pending, Subject

C = CopyState
ME = Subject.COPY
_IDLE, _STOPPING, _JOINED = C.IDLE, C.STOPPING, Lifecycle.JOINED

TRANSITIONS: dict[tuple[CopyState, str], CopyState] = {
    (C.IDLE, "wanted"): C.STARTING,
    (C.IDLE, "found_running"): C.RUNNING,
    (C.STARTING, "started"): C.RUNNING,
    (C.STARTING, "failed"): C.BACKOFF,
    (C.STARTING, "unwanted"): C.STOPPING,
    (C.RUNNING, "exited"): C.BACKOFF,
    (C.RUNNING, "unwanted"): C.STOPPING,
    (C.BACKOFF, "waited"): C.STARTING,
    (C.BACKOFF, "unwanted"): C.IDLE,
    (C.STOPPING, "stopped"): C.IDLE,
    (C.STOPPING, "failed"): C.STOPPING,
}
_RUNS_NOTHING = (Lifecycle.MAINTENANCE, Lifecycle.QUARANTINED, Lifecycle.RETIRED)


def move(copy: Copy, trigger: str) -> None:
    """Take one transition.

    Raises: InvariantViolation if the table does not hold it.
    """
    found = TRANSITIONS.get((copy.state, trigger))
    if found is None:
        raise InvariantViolation(f"{copy.name}: no transition from {copy.state} by {trigger}")
    copy.state = found


def review(b: Brain, counted_only: bool = False) -> None:
    """Start and stop copies so that what runs is what is wanted; ``counted_only``: those that placement decides on."""
    own = b.state.own
    barred = own is not None and own.state is not _JOINED and own.state in _RUNS_NOTHING
    for name, copy in b.state.copies.items():
        spec = b.specs[name]
        if copy.state is _STOPPING or (counted_only and spec.run != "count"):
            continue
        wanted = not barred and (spec.run == "everywhere" or _placed_here(b, copy))
        if wanted and copy.state is _IDLE:
            if not needs_met(b, spec):
                move(copy, "wanted")
                _start(b, copy)
        elif not wanted and copy.state is not _IDLE:
            running = copy.state is not C.BACKOFF
            move(copy, "unwanted")
            b.cancel(f"copy/{name}")
            if running:
                _stop(b, copy)


def _placed_here(b: Brain, copy: Copy) -> bool:
    if not b.joined or MEMBERS not in b.state.synced:
        return copy.state is not C.IDLE  # cut off: what runs goes on, nothing new starts
    return b.me.id in b.placement.assigned(copy.name)


def needs_met(b: Brain, spec: ServiceSpec) -> str:
    """Say what is missing of what a service needs; empty if nothing is."""
    for name in spec.needs:
        other = b.specs[name]
        if other.run == "everywhere":
            if b.state.copies[name].state is not C.RUNNING:
                return f"{name} does not run on this node yet"
        elif other.run == "singleton":
            term, _ = b.term(name)
            if term is None or not term.serving or b.lease(name) is None:
                return f"{name} is not serving yet"
        elif not b.placement.assigned(name):
            return f"{name} has no node yet"
    return ""


def _start(b: Brain, copy: Copy) -> None:
    copy.op = b.op(ME, copy.name, "start")
    limit = b.specs[copy.name].start_ms_max
    b.emit(fx.StartService(op=copy.op, service=copy.name, epoch=Epoch(0), instance=None, ms_max=limit))


def _stop(b: Brain, copy: Copy) -> None:
    copy.op = b.op(ME, copy.name, "stop")
    limit, kill = b.specs[copy.name].stop_ms_max, copy.failures > 0
    b.emit(fx.StopService(op=copy.op, service=copy.name, epoch=Epoch(0), kill=kill, ms_max=limit))


def on_answer(b: Brain, pending: Pending, event: OpSucceeded | OpFailed) -> None:
    copy = b.state.copies[pending.key]
    if copy.op != event.op:
        return
    copy.op = NO_OP
    ok = isinstance(event, OpSucceeded)
    if pending.step == "start" and ok:
        copy.failures = 0
        move(copy, "started")
        b.note("running", copy.name)
    elif pending.step == "stop" and ok:
        copy.failures = 0
        move(copy, "stopped")
        b.note("stopped", copy.name)
    else:
        detail = event.detail if isinstance(event, OpFailed) else ""
        _failed(b, copy, "failed", detail)


def on_exited(b: Brain, copy: Copy, detail: str) -> None:
    if copy.state is C.RUNNING:
        _failed(b, copy, "exited", detail)


def _failed(b: Brain, copy: Copy, trigger: str, detail: str) -> None:
    copy.failures += 1
    move(copy, trigger)
    b.note("service_failed", copy.name, detail=detail)
    b.timer_in(f"copy/{copy.name}", b.backoff(copy.failures, copy.name))


def on_timer(b: Brain, copy: Copy) -> None:
    """Try again after a failure."""
    if copy.state is C.BACKOFF:
        move(copy, "waited")
        _start(b, copy)
    elif copy.state is C.STOPPING and copy.op == NO_OP:
        _stop(b, copy)
