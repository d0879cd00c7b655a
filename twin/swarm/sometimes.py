"""Rare situations that a good campaign must reach: each is found in the truth of a run, or not."""

from collections.abc import Callable
from functools import partial

import msgspec

from twin.scenario import Scenario
from twin.swarm import situations
from twin.swarm.sight import Sight
from twin.truth import Truth


class Sometimes(msgspec.Struct, frozen=True, kw_only=True):
    """``find`` says whether the situation occurred in a run. ``rule``: the number of the rule that meets it, or "-"."""

    name: str
    rule: str
    text: str
    find: Callable[[Sight], bool]


def _noted(kind: str, sight: Sight) -> bool:
    return bool(sight.notes(kind))


def _by_note(name: str, rule: str, text: str, kind: str = "") -> Sometimes:
    """A situation that machines state themselves with a note."""
    return Sometimes(name=name, rule=rule, text=text, find=partial(_noted, kind or name))


def _seen(rule: str, text: str, find: Callable[[Sight], bool]) -> Sometimes:
    """A situation that nobody in the rack can see as a whole; its name is that of the function that finds it."""
    return Sometimes(name=find.__name__, rule=rule, text=text, find=find)


SOMETIMES: tuple[Sometimes, ...] = (
    _by_note("claim_race", "1", "two nodes claimed one epoch of a singleton, and one of them lost", "claim_lost"),
    _by_note("claim_unanswered", "12", "the outcome of a claim was unknown and had to be read back"),
    _seen("3", "a claimer was lost before it served, and another one claimed", situations.failover_during_failover),
    _seen("3", "a claimer was lost between its fence and the start of its service", situations.claimer_died_fencing),
    _seen("3", "a singleton was claimed three times within a minute", situations.three_epochs_in_a_minute),
    _seen("6", "a node that had been fenced served the same singleton again", situations.came_back),
    _seen("4", "a node began to drain while a failover was under way", situations.drain_during_failover),
    _seen("5", "a frozen node woke up when its successor had claimed", situations.woke_up_behind),
    _seen("3", "a fence failed and was confirmed when it was done again", situations.fence_done_again),
    _seen("5", "the storage refused an instance, which was stopped at once", situations.refused_at_once),
    _by_note("resumed", "5", "a service was withdrawn and went on with the same instance"),
    _by_note("unblocked", "6", "a blocklist entry was lifted after its node had booted anew"),
    _by_note("gave_up", "12", "a holder without progress let another node do it"),
    _by_note("stayed", "12", "a holder without progress stayed, for nobody could do better"),
    _by_note("early_close", "10", "a session was closed early on the word of a BMC"),
    _seen("10", "a BMC lied: the node still ran when its session was closed early", situations.bmc_lied),
    _seen("9", "a power order came too late and was not sent", situations.stale_order_refused),
    _by_note("power_fenced", "7", "a lost node lost its power by order", "power_fence_confirmed"),
    _by_note("brake_engaged", "8", "so many nodes disappeared at once that power fencing was paused"),
    _by_note("boot_timeout", "-", "a node that had been powered did not join in time"),
    _by_note("quarantined", "-", "a node failed so often that it was left to the operator"),
    _seen("11", "an agent died, and its successor adopted a service that served on", situations.adopted_unnoticed),
    _seen("11", "an agent died, and its successor stopped a service no longer its own", situations.adoption_refused),
    _by_note("handed_over", "11", "a spare agent handed over what an agent that cannot come back had left"),
    _seen(
        "5",
        "no quorum for longer than a session lasts, and a singleton with a volume served on",
        situations.served_without_quorum,
    ),
    _seen("5", "the ZooKeeper leader and a holder were lost together", situations.leader_and_holder_lost),
    _seen("-", "a voter died while a change of the ensemble was under way", situations.voter_died_in_change),
    _by_note("nowhere", "-", "no node that was fit had room for a service"),
)


def reached_in(truth: Truth, scenario: Scenario) -> tuple[str, ...]:
    """The names of the situations that occurred in a run, in the order of ``SOMETIMES``."""
    sight = Sight(truth, scenario)
    return tuple(one.name for one in SOMETIMES if one.find(sight))
