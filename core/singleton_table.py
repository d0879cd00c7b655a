"""What a singleton may do next, as data: the docs' diagram is drawn from it, and an illegal move is our bug."""

from core.errors import InvariantViolation
from core.state import Singleton, SingletonState

S = SingletonState

TRANSITIONS: dict[tuple[SingletonState, str], SingletonState] = {
    (S.IDLE, "claim"): S.CLAIMING,
    (S.IDLE, "found_running"): S.ADOPTING,
    (S.IDLE, "orphan"): S.STOPPING,
    (S.ADOPTING, "confirmed_serving"): S.SERVING,
    (S.ADOPTING, "confirmed"): S.ADMITTING,
    (S.ADOPTING, "confirmed_but_exited"): S.STARTING,
    (S.CLAIMING, "won"): S.FENCING,
    (S.CLAIMING, "won_without_volume"): S.WAITING,
    (S.CLAIMING, "lost"): S.IDLE,
    (S.FENCING, "all_fenced"): S.OPENING,
    (S.OPENING, "opened"): S.RECORDING,
    (S.RECORDING, "recorded"): S.STARTING,
    (S.WAITING, "waited"): S.STARTING,
    (S.STARTING, "started"): S.ADMITTING,
    (S.ADMITTING, "admitted"): S.SERVING,
    (S.ADMITTING, "exited"): S.STARTING,
    (S.SERVING, "exited"): S.STARTING,
    (S.SERVING, "stale"): S.WITHDRAWN,
    (S.WITHDRAWN, "fresh"): S.SERVING,
    (S.WITHDRAWN, "exited"): S.STARTING,
    (S.STOPPING, "stopped"): S.CLOSING,
    (S.STOPPING, "stopped_without_volume"): S.RELEASING,
    (S.STOPPING, "stopped_without_lease"): S.IDLE,
    (S.CLOSING, "closed"): S.RELEASING,
    (S.CLOSING, "closed_without_lease"): S.IDLE,
    (S.RELEASING, "gone"): S.IDLE,
}
for _state in (S.ADOPTING, S.STARTING, S.ADMITTING, S.SERVING, S.WITHDRAWN):
    TRANSITIONS[(_state, "end")] = S.STOPPING
for _state in (S.FENCING, S.OPENING, S.RECORDING):
    TRANSITIONS[(_state, "end")] = S.CLOSING
TRANSITIONS[(S.WAITING, "end")] = S.RELEASING
TRANSITIONS[(S.CLAIMING, "end")] = S.RELEASING


def move(single: Singleton, trigger: str, now_ms: int) -> None:
    """Take one transition and restart the stall clock.

    Raises: InvariantViolation if the table does not hold it.
    """
    after = TRANSITIONS.get((single.state, trigger))
    if after is None:
        raise InvariantViolation(f"{single.name}: no transition from {single.state} by {trigger}")
    single.state = after
    single.progress_at_ms = now_ms
