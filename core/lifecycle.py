"""The life of a node as a table (design 2.2); the docs' diagram is drawn from it."""

from core.errors import InvariantViolation
from core.records import Lifecycle

L = Lifecycle

TRANSITIONS: dict[tuple[Lifecycle, str], Lifecycle] = {
    (L.DISCOVERED, "power_ordered"): L.POWERING,
    (L.POWERING, "powered"): L.BOOTING,
    (L.POWERING, "power_ordered"): L.POWERING,
    (L.BOOTING, "power_ordered"): L.POWERING,
    (L.JOINED, "silent"): L.SUSPECT,
    (L.SUSPECT, "heard"): L.JOINED,
    (L.JOINED, "session_gone"): L.LOST,
    (L.SUSPECT, "session_gone"): L.LOST,
    (L.LOST, "power_ordered"): L.RECOVERING,
    (L.RECOVERING, "powered"): L.BOOTING,
    (L.RECOVERING, "power_ordered"): L.RECOVERING,
    (L.JOINED, "operator_drains"): L.DRAINING,
    (L.DRAINING, "drained"): L.MAINTENANCE,
    (L.DRAINING, "operator_undrains"): L.JOINED,
    (L.MAINTENANCE, "operator_undrains"): L.JOINED,
    (L.MAINTENANCE, "operator_retires"): L.RETIRED,
    (L.DRAINING, "session_gone"): L.MAINTENANCE,
    (L.MAINTENANCE, "restart_failed"): L.LOST,
    (L.QUARANTINED, "operator_releases"): L.DISCOVERED,
    (L.RETIRED, "operator_releases"): L.DISCOVERED,
    (L.DRAINING, "joins"): L.DRAINING,
    (L.MAINTENANCE, "joins"): L.MAINTENANCE,
}
for _state in (L.DISCOVERED, L.POWERING, L.BOOTING, L.JOINED, L.SUSPECT, L.LOST, L.RECOVERING):
    TRANSITIONS[(_state, "joins")] = L.JOINED
for _state in (L.DISCOVERED, L.POWERING, L.BOOTING, L.LOST, L.RECOVERING):
    TRANSITIONS[(_state, "fails_too_often")] = L.QUARANTINED


def after(state: Lifecycle, trigger: str) -> Lifecycle:
    """State that follows.

    Raises: InvariantViolation if the table does not hold the transition.
    """
    found = TRANSITIONS.get((state, trigger))
    if found is None:
        raise InvariantViolation(f"node: no transition from {state} by {trigger}")
    return found
