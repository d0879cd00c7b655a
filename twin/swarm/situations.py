"""Situations that nobody in the rack can see as a whole: each function finds one in a run."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from core.ids import NO_NODE, NodeId
from twin.swarm.sight import Sight

TOGETHER_MS = 2_000
"""Two things are lost together if so little time lies between them that nobody has acted on the first."""

CHANGE_MS_MAX = 60_000
"""A change of the ensemble that has not ended by then was given up by whoever began it."""

PLANNED = ("operator_drain", "operator_undrain", "operator_retire", "rolling_restart")
"""What people do on purpose is no loss."""

ZOOKEEPER_FAULTS = ("zookeeper_crash", "zookeeper_leader_crash", "quorum_loss")
"""Faults that take ZooKeeper servers away from nodes that live on."""


# -- failovers ---------------------------------------------------------------------------------------------------------


def failover_during_failover(sight: Sight) -> bool:
    """A claimer was lost before it served, and another node claimed after it."""
    return any(
        claim.served_ms < 0
        and claim.next_by not in (NO_NODE, claim.by)
        and sight.lost(claim.by, claim.at_ms, claim.next_ms)
        for claim in sight.claims
    )


def claimer_died_fencing(sight: Sight) -> bool:
    """A claimer was lost after a fence of its epoch was confirmed and before its service was started."""
    for claim in sight.claims:
        fenced = list(sight.said("fenced", claim.by, claim.service, claim.epoch))
        started = any(sight.said("started", claim.by, claim.service, claim.epoch))
        if fenced and not started and sight.lost(claim.by, fenced[0].at_ms, claim.next_ms):
            return True
    return False


def three_epochs_in_a_minute(sight: Sight) -> bool:
    """A singleton was claimed three times within a minute."""
    for service in dict.fromkeys(claim.service for claim in sight.claims):
        times = [claim.at_ms for claim in sight.claims if claim.service == service]
        if any(late - early <= 60_000 for early, late in zip(times, times[2:], strict=False)):
            return True
    return False


def came_back(sight: Sight) -> bool:
    """A node serves again after an instance of its own was fenced by a successor."""
    return any(
        note.node == claim.by and note.at_ms < claim.at_ms
        for claim in sight.claims
        if claim.served_ms >= 0
        for note in sight.notes("fenced")
        if note.service == claim.service
    )


def drain_during_failover(sight: Sight) -> bool:
    """A node began to drain while a singleton that had been held before was claimed and did not serve yet."""
    open_ms = [(c.at_ms, c.served_ms if c.served_ms >= 0 else c.next_ms) for c in sight.claims if c.epoch > 1]
    return any(from_ms <= note.at_ms <= to_ms for note in sight.notes("draining") for from_ms, to_ms in open_ms)


def woke_up_behind(sight: Sight) -> bool:
    """A frozen node went on when a successor had already claimed what it held."""
    frozen: dict[NodeId, int] = {}
    for change in sight.truth.nodes:
        if change.axis != "power":
            continue
        since_ms = frozen.pop(change.node, -1)
        if change.state == "frozen":
            frozen[change.node] = change.at_ms
        elif change.state == "up" and since_ms >= 0:
            taken = (c for c in sight.claims if c.by == change.node and c.next_by not in (NO_NODE, change.node))
            if any(c.at_ms <= since_ms <= c.next_ms <= change.at_ms for c in taken):
                return True
    return False


# -- storage -----------------------------------------------------------------------------------------------------------


def fence_done_again(sight: Sight) -> bool:
    """A fence was not confirmed, and was in a later attempt of the same claimer."""
    return any(
        note.node == failed.node and note.at_ms > failed.at_ms
        for failed in sight.notes("fence_failed")
        for note in sight.said("fenced", failed.by, failed.service, failed.epoch)
    )


def refused_at_once(sight: Sight) -> bool:
    """The storage refused an instance, and its service was stopped."""
    refused = ((n.by, n.service, n.epoch) for n in sight.notes("refused") if "storage" in n.detail)
    ended = [(c.node, c.service, c.epoch) for c in sight.truth.services if c.action in ("killed", "stopped", "refused")]
    return any(one in ended for one in refused)


# -- power -------------------------------------------------------------------------------------------------------------


def bmc_lied(sight: Sight) -> bool:
    """A session was closed on a BMC's word while the node ran."""
    return any(sight.power_of(note.node, note.at_ms) in ("up", "frozen") for note in sight.notes("early_close"))


def stale_order_refused(sight: Sight) -> bool:
    """An agent was paused between the commit of a power order and its sending, for longer than the order was good."""
    if any(note.detail.startswith("too late to send") for note in sight.notes("power_failed")):
        return True
    good_ms = sight.scenario.timing.power_ms_max
    return any(
        sight.paused_ms(note.by, note.at_ms) > good_ms
        and not any(a.node == note.node and note.detail.endswith(f" {a.generation}") for a in sight.truth.power)
        for note in sight.notes("power_ordered")
    )


# -- agents ------------------------------------------------------------------------------------------------------------


def adopted_unnoticed(sight: Sight) -> bool:
    """An agent died and its successor adopted a singleton that served all the while."""
    for note in sight.notes("adopted"):
        died_ms = sight.agent_died_ms(note.by, note.at_ms)
        if died_ms >= 0 and any(span.node == note.by for span in sight.holds(note.service, died_ms, note.at_ms)):
            return True
    return False


def adoption_refused(sight: Sight) -> bool:
    """An agent died, its session ended, and its successor stopped what was no longer its own to run."""
    if sight.notes("adoption_refused"):
        return True
    for note in sight.notes("refused"):
        died_ms = sight.agent_died_ms(note.by, note.at_ms)
        claim = next((c for c in sight.claims if c.service == note.service and c.epoch == note.epoch), None)
        adopted = any(n.at_ms > died_ms for n in sight.said("adopted", note.by, note.service, note.epoch))
        if claim is not None and claim.at_ms < died_ms and not adopted:
            return True
    return False


# -- ZooKeeper ---------------------------------------------------------------------------------------------------------


def served_without_quorum(sight: Sight) -> bool:
    """Nobody could commit for longer than a session lasts, and a singleton with a volume served all the while."""
    leaders = sight.truth.leaders
    for index, change in enumerate(leaders):
        to_ms = leaders[index + 1].at_ms if index + 1 < len(leaders) else sight.truth.end_ms
        if change.leader == NO_NODE and to_ms - change.at_ms > sight.scenario.timing.session_timeout_ms:
            if any(True for service in sight.volumes for _ in sight.holds(service, change.at_ms, to_ms)):
                return True
    return False


def leader_and_holder_lost(sight: Sight) -> bool:
    """The ZooKeeper leader stopped leading and the holder of a singleton was struck at about the same time."""
    leaders = sight.truth.leaders
    for before, change in pairwise(leaders):
        if before.leader == NO_NODE or change.leader == before.leader:
            continue
        for fault in sight.truth.faults:
            if fault.fault in (*PLANNED, *ZOOKEEPER_FAULTS):
                continue
            if abs(fault.from_ms - change.at_ms) <= TOGETHER_MS and _struck_holder(sight, fault.nodes, fault.from_ms):
                return True
    return False


def _struck_holder(sight: Sight, nodes: Iterable[NodeId], at_ms: int) -> bool:
    """Whether one of these nodes served a singleton then, and another one took it over."""
    struck = tuple(nodes)
    return any(
        claim.by in struck and claim.next_by not in (NO_NODE, claim.by)
        for claim in sight.claims
        if 0 <= claim.served_ms <= at_ms <= claim.next_ms
    )


def voter_died_in_change(sight: Sight) -> bool:
    """A voter died while a change of the ensemble was under way."""
    for intent in sight.notes("ensemble_intent"):
        latest_ms = min(sight.truth.end_ms, intent.at_ms + CHANGE_MS_MAX)
        to_ms = min([n.at_ms for n in sight.notes("ensemble_changed") if n.at_ms >= intent.at_ms], default=latest_ms)
        if any(node in sight.voters_at(at_ms) for node, at_ms in _servers_lost(sight, intent.at_ms, to_ms)):
            return True
    return False


def _servers_lost(sight: Sight, from_ms: int, to_ms: int) -> Iterator[tuple[NodeId, int]]:
    """The ZooKeeper servers that died between two times, alone or with their nodes."""
    for change in sight.truth.nodes:
        if change.axis == "power" and change.state != "up" and from_ms <= change.at_ms <= to_ms:
            yield change.node, change.at_ms
    for fault in sight.truth.faults:
        if fault.fault in ZOOKEEPER_FAULTS and from_ms <= fault.from_ms <= to_ms:
            yield from ((node, fault.from_ms) for node in fault.nodes)
