"""The storm brake (rule 8): when many nodes disappear at once, the network is a likelier cause than the nodes."""

from core.brain import Brain
from core.ids import NodeId
from core.state import Loss

SHARE = 3
"""The brake engages when more than one in this many members disappear within one session timeout."""


def on_loss(b: Brain, node: NodeId) -> None:
    """Count a member that disappeared, however its session ended (early closes too)."""
    brake = b.state.brake
    brake.losses = [loss for loss in brake.losses if b.now - loss.at_ms <= b.timing.session_timeout_ms]
    brake.losses.append(Loss(b.now, node))
    before = len(b.members) + len(brake.losses)
    if brake.engaged:
        brake.missing[node] = b.now
        b.timer_in("brake", b.timing.brake_hold_ms)
    elif len(brake.losses) * SHARE > before:
        brake.engaged = True
        brake.missing = {loss.node: loss.at_ms for loss in brake.losses}
        b.note("brake_engaged", detail=f"{len(brake.losses)} of {before} members disappeared at once")
        b.timer_in("brake", b.timing.brake_hold_ms)


def on_return(b: Brain, node: NodeId) -> None:
    """A member is back, or was proved off: it is no part of the storm any more."""
    b.state.brake.missing.pop(node, None)
    if b.state.brake.losses:
        b.state.brake.losses = [loss for loss in b.state.brake.losses if loss.node != node]
    if b.state.brake.engaged and "brake" not in b.state.timers:
        b.timer_in("brake", b.timing.brake_hold_ms)


def on_timer(b: Brain) -> None:
    """Release after a calm time, but never while the missing may be the healthy majority: then after a return."""
    brake = b.state.brake
    if not brake.engaged:
        return
    if 2 * len(brake.missing) < len(b.members) + len(brake.missing):
        brake.engaged = False
        brake.missing = {}
        b.note("brake_released")
