"""Rules that one machine's view must keep at all times; checked in the twin, in tests and in production."""

from collections.abc import Callable, Iterable

from core.errors import InvariantViolation
from core.ids import NodeId
from core.journal import Opening
from core.specs import ServiceSpec
from core.view import NodeView, ServiceView

Invariant = Callable[[ServiceView, ServiceSpec, Opening, int], bool]
"""Whether a singleton is as it must be, given its spec, what the machine started from, and the node's clock."""

_WRITES = ("starting", "admitting", "serving", "withdrawn")


def epoch_is_set(s: ServiceView, spec: ServiceSpec, opening: Opening, at_ms: int) -> bool:
    """Rule 1: whoever holds a singleton has an epoch."""
    return s.epoch >= 1


def recorded_before_writing(s: ServiceView, spec: ServiceSpec, opening: Opening, at_ms: int) -> bool:
    """Rule 2: a service with a volume is started only on a recorded client instance of its own epoch."""
    if not spec.volume or s.state not in _WRITES:
        return True
    return s.recorded and s.instance is not None and s.instance.epoch == s.epoch


def fenced_before_opening(s: ServiceView, spec: ServiceSpec, opening: Opening, at_ms: int) -> bool:
    """Rule 3: nothing in the way is left unfenced when the volume is opened."""
    return s.state in ("claiming", "fencing", "closing", "releasing") or not s.unfenced


def admitted_after_old_evidence(s: ServiceView, spec: ServiceSpec, opening: Opening, at_ms: int) -> bool:
    """Rule 5: clients are admitted only after the last holder's evidence has run out."""
    return s.state != "serving" or at_ms >= s.admit_at_ms


def serves_on_fresh_evidence(s: ServiceView, spec: ServiceSpec, opening: Opening, at_ms: int) -> bool:
    """Rule 5: a holder serves only while its evidence, counted from when it was asked for, is fresh."""
    if s.state != "serving":
        return True
    if spec.volume:
        return at_ms - max(s.coordination_asked_ms, s.storage_asked_ms) <= opening.timing.fresh_ms
    return at_ms - s.coordination_asked_ms <= opening.timing.coordination_ms


def fence_precedes_admission(s: ServiceView, spec: ServiceSpec, opening: Opening, at_ms: int) -> bool:
    """Rule 5: the admission wait counts from the last fence and is never shorter than fresh + withdraw."""
    return s.fenced_at_ms < 0 or s.admit_at_ms - s.fenced_at_ms >= opening.timing.fresh_ms + opening.timing.withdraw_ms


INVARIANTS: dict[str, Invariant] = {
    "epoch_is_set": epoch_is_set,
    "recorded_before_writing": recorded_before_writing,
    "fenced_before_opening": fenced_before_opening,
    "admitted_after_old_evidence": admitted_after_old_evidence,
    "serves_on_fresh_evidence": serves_on_fresh_evidence,
    "fence_precedes_admission": fence_precedes_admission,
}


def check(view: NodeView, opening: Opening) -> None:
    """Check every invariant on every singleton of a view.

    Raises: InvariantViolation naming the rule, the node and the service.
    """
    check_services(view.services, view.node, view.at_ms, opening)


def check_services(services: Iterable[ServiceView], node: NodeId, at_ms: int, opening: Opening) -> None:
    """Check every invariant on those of the services of ``node`` that are singletons.

    Raises: InvariantViolation naming the rule, the node and the service.
    """
    for service in services:
        spec = next(spec for spec in opening.services if spec.name == service.name)
        if spec.run != "singleton":
            continue
        for name, holds in INVARIANTS.items():
            if not holds(service, spec, opening, at_ms):
                raise InvariantViolation(f"{name}: {service.name} on {node} at {at_ms} ms: {service}")
