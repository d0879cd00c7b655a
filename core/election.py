"""Who claims a vacant singleton, and when: the first fit node of the ranking at once, the next ones a step later."""

from core import ending, singleton
from core.brain import Brain
from core.everywhere import needs_met
from core.records import LEASES, MEMBERS, TERMS
from core.specs import ServiceSpec
from core.state import Singleton, SingletonState

CANDIDATES = 4
"""Ranks that claim one after the other; nodes beyond share the later steps by hash."""


_IDLE = SingletonState.IDLE


def ready(b: Brain) -> bool:
    """Whether this node knows enough to claim anything."""
    synced = b.state.synced
    return b.joined and not b.state.hand_over and MEMBERS in synced and LEASES in synced and TERMS in synced


def review(b: Brain) -> None:
    """Look at every singleton without a lease: plan our claim, or say that it fits nowhere."""
    if not ready(b):
        return
    for s in list(b.state.singletons.values()):
        lease = b.lease(s.name)
        if lease is None:
            _consider(b, b.specs[s.name])
        elif s.state is _IDLE and lease.session == b.state.session and lease.epoch > s.last_epoch:
            ending.clear_orphan(b, s, lease)


def _consider(b: Brain, spec: ServiceSpec) -> None:
    name = spec.name
    if b.state.singletons[name].state is not _IDLE:
        return
    if not b.placement.candidates(name, CANDIDATES):
        _nowhere(b, spec)
        return
    b.state.nowhere.pop(name, None)
    rank = _rank(b, spec)
    if rank is None:
        b.cancel(f"claim/{name}")
        return
    timer = f"claim/{name}"
    if _waits(b, spec):
        b.cancel(timer)  # looked at again as soon as what it needs is there
        return
    at_ms = max(b.now, _not_before_ms(b, spec)) + rank * b.timing.claim_step_ms
    planned = b.state.timers.get(timer)
    if planned is None or at_ms < planned:
        b.timer(timer, at_ms)


def _waits(b: Brain, spec: ServiceSpec) -> bool:
    """Whether something that the service needs is missing; said once for each thing missing."""
    missing, said = needs_met(b, spec), b.state.missing.get(spec.name, "")
    if missing and missing != said:
        b.note("needs_wait", spec.name, detail=missing)
        b.state.missing[spec.name] = missing
    elif said and not missing:
        del b.state.missing[spec.name]
    return bool(missing)


def _nowhere(b: Brain, spec: ServiceSpec) -> None:
    b.cancel(f"claim/{spec.name}")
    if not b.state.nowhere.get(spec.name):
        b.state.nowhere[spec.name] = True
        b.note("nowhere", spec.name)


def _rank(b: Brain, spec: ServiceSpec) -> int | None:
    if spec.name in b.state.unfit_until_ms or (spec.volume and not b.state.storage_ok):
        return None
    return b.placement.rank(spec.name, b.me.id, CANDIDATES)


def _not_before_ms(b: Brain, spec: ServiceSpec) -> int:
    """A singleton that nobody ever held waits a moment after our joining: it is not for whoever came first."""
    term, _ = b.term(spec.name)
    return b.now if term is not None else b.state.joined_at_ms + 3 * b.timing.claim_step_ms


def on_timer(b: Brain, name: str) -> None:
    """Our turn: claim, if the singleton is still vacant and what it needs is there."""
    spec = b.specs[name]
    s: Singleton = b.state.singletons[name]
    if not ready(b) or s.state is not SingletonState.IDLE or b.lease(name) is not None:
        return
    rank = _rank(b, spec)
    if rank is None:
        return
    turn_ms = _not_before_ms(b, spec) + rank * b.timing.claim_step_ms
    if b.term(name)[0] is None and b.now < turn_ms:
        b.timer(f"claim/{name}", turn_ms)  # better nodes have joined since this was planned
        return
    if not _waits(b, spec):
        singleton.claim(b, s)
