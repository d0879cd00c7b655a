"""Timers by name: which part of the machine each belongs to."""

from core import blocks, brake, discovery, drain, election, everywhere, membership, recovery, singleton, steward
from core.brain import Brain
from core.errors import InvariantViolation
from core.ids import DomainId, NodeId


def fire(b: Brain, timer: str) -> bool:
    """Give a timer that fired to the part that set it; True if the rest of the machine has to look around."""
    b.state.timers.pop(timer, None)
    kind, _, key = timer.partition("/")
    match kind:
        case "fresh":
            singleton.on_timer(b, kind, b.state.singletons[key])
            return False
        case "wait" | "admit" | "retry" | "stall":
            singleton.on_timer(b, kind, b.state.singletons[key])
        case "claim":
            election.on_timer(b, key)
        case "copy":
            everywhere.on_timer(b, b.state.copies[key])
        case "ward" | "look":
            b.look = 0
            steward.on_timer(b, kind, NodeId(key))
        case "silent":
            b.look = 0
            steward.on_silent_timer(b, NodeId(key))
        case "domain":
            b.look = 0
            recovery.on_domain_timer(b, DomainId(key))
        case _:
            _plain(b, kind)
    return True


def _plain(b: Brain, kind: str) -> None:
    match kind:
        case "join":
            membership.on_timer(b)
        case "refresh":
            membership.refresh(b)
        case "slot":
            membership.on_slot_timer(b)
        case "unfit":
            membership.lapse_unfit(b)
        case "brake":
            brake.on_timer(b)
            recovery.brake_released(b)
        case "blocks":
            blocks.on_timer(b)
        case "stable":
            drain.on_stable(b)
        case "scan":
            b.look = 0
            discovery.review(b)
        case "ensemble" | "reconfigure" | "drain" | "upgrade" | "restart":
            pass  # looking around is all
        case _:
            raise InvariantViolation(f"unknown timer {kind}")
