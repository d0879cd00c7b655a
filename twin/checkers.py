"""Checkers know the truth of a whole run; each finds nothing, or says in one sentence what was broken."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from core.specs import NodeSpec, ServiceSpec, Timing
from trial.verdict import Check
from twin import checkers_history as history
from twin import checkers_join as join
from twin import checkers_power as power
from twin import checkers_progress as progress
from twin import checkers_rights as rights
from twin import checkers_serving as serving
from twin import checkers_upgrade as upgrade
from twin.truth import Truth


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was made from, as far as checkers need it."""

    nodes: tuple[NodeSpec, ...]
    services: tuple[ServiceSpec, ...]
    timing: Timing


class Checker(msgspec.Struct, frozen=True, kw_only=True):
    """``find`` returns what was broken, or an empty string. ``rule`` is the rule of the design it watches."""

    name: str
    rule: str
    text: str
    find: Callable[[Truth, Setup], str]


def _plain(find: Callable[[Truth], str]) -> Callable[[Truth, Setup], str]:
    """A checker that needs nothing but the truth."""
    return lambda truth, _setup: find(truth)


CHECKERS: tuple[Checker, ...] = (
    Checker(
        name="single_writer",
        rule="3",
        text="after an instance has written a volume, the storage accepts no write of an earlier one",
        find=lambda truth, _setup: truth.volumes.single_writer(),
    ),
    Checker(
        name="identity_before_writing",
        rule="2",
        text="the first write of a client instance comes after it was recorded in the term",
        find=_plain(history.identity_before_writing),
    ),
    Checker(
        name="fenced_before_opening",
        rule="3",
        text="a volume is opened only when every recorded instance of earlier epochs was closed or its fence confirmed",
        find=_plain(history.fenced_before_opening),
    ),
    Checker(
        name="fence_holds",
        rule="6",
        text="once a fence is confirmed, no write of the fenced instance is accepted while its entry stands",
        find=lambda truth, _setup: truth.volumes.fence_holds(),
    ),
    Checker(
        name="acknowledged_writes_survive",
        rule="3",
        text="an acknowledged write is in the volume and is overwritten only by later ones",
        find=_plain(history.acknowledged_writes_survive),
    ),
    Checker(
        name="linearizable",
        rule="5",
        text="what clients wrote and read fits one order of a single register: no stale read",
        find=lambda truth, _setup: truth.clients.linearizable(),
    ),
    Checker(
        name="no_two_serving",
        rule="5",
        text="no two nodes act for one singleton at the same time",
        find=_plain(serving.no_two_serving),
    ),
    Checker(
        name="epochs_grow",
        rule="1",
        text="an epoch is claimed once, and nobody serves under an older one than was seen",
        find=_plain(serving.epochs_grow),
    ),
    Checker(
        name="admission_waits",
        rule="5",
        text="a new holder admits clients only when the fenced one's evidence must have run out",
        find=lambda truth, setup: serving.admission_waits(truth, setup.services, setup.timing),
    ),
    Checker(
        name="everywhere_running",
        rule="",
        text="a healthy node runs every everywhere-service within its bound",
        find=lambda truth, setup: serving.everywhere_running(truth, setup.services, setup.nodes),
    ),
    Checker(
        name="power_dated",
        rule="9",
        text="no power order is carried out after its deadline, out of order, or on a node that has come back",
        find=_plain(power.power_dated),
    ),
    Checker(
        name="power_committed",
        rule="9",
        text="a power order is committed before it is sent, and carried out once",
        find=_plain(power.power_committed),
    ),
    Checker(
        name="no_majority_fenced",
        rule="8",
        text="a healthy majority is never power-fenced",
        find=lambda truth, setup: power.no_majority_fenced(truth, setup.nodes, setup.timing),
    ),
    Checker(
        name="brake_respected",
        rule="8",
        text="no power fence by a node whose storm brake is engaged",
        find=lambda truth, setup: power.brake_respected(truth, setup.timing),
    ),
    Checker(
        name="one_fence_per_domain",
        rule="8",
        text="at most one power fence is under way in a power domain",
        find=lambda truth, setup: power.one_fence_per_domain(truth, setup.nodes),
    ),
    Checker(
        name="identity_is_own",
        rule="",
        text="no machine is admitted as a node that it is not",
        find=_plain(join.identity_is_own),
    ),
    Checker(
        name="token_joins_one",
        rule="",
        text="a boot token admits the machine that it was given to, once",
        find=_plain(join.token_joins_one),
    ),
    Checker(
        name="members_were_admitted",
        rule="",
        text="where machines are found, nobody becomes a member who was not admitted",
        find=_plain(join.members_were_admitted),
    ),
    Checker(
        name="blocked_kept",
        rule="6",
        text="a fenced instance stays blocked while the boot it belongs to is alive",
        find=_plain(power.blocked_kept),
    ),
    Checker(
        name="served_when_possible",
        rule="12",
        text="while all nodes but one are well and nothing changes, every singleton is served within its bound",
        find=lambda truth, setup: progress.served_when_possible(truth, setup.services, setup.nodes, setup.timing),
    ),
    Checker(
        name="agent_is_not_its_services",
        rule="11",
        text="a short absence of nothing but the agent interrupts no service",
        find=lambda truth, setup: progress.agent_is_not_its_services(truth, setup.services, setup.timing),
    ),
    Checker(
        name="unfit_stays_away",
        rule="12",
        text="who gave a service up does not claim it again while its mark lasts",
        find=lambda truth, setup: progress.unfit_stays_away(truth, setup.timing),
    ),
    Checker(
        name="gave_up_for_somebody",
        rule="12",
        text="nobody gives up for want of progress while no other node reaches the storage",
        find=_plain(progress.gave_up_for_somebody),
    ),
    Checker(
        name="rights_have_evidence",
        rule="5",
        text="no right outlasts what was asked and answered with yes, and nothing is started without a right",
        find=_plain(rights.no_wrong("rights_have_evidence")),
    ),
    Checker(
        name="closed_after_mark",
        rule="10",
        text="a session is closed early only after that was committed to the power record",
        find=_plain(rights.no_wrong("closed_after_mark")),
    ),
    Checker(
        name="stopped_before_new_session",
        rule="5",
        text="nothing that was started under an old session runs when the first write on a new one goes out",
        find=_plain(rights.no_wrong("stopped_before_new_session")),
    ),
    Checker(
        name="orders_dated_from_commit",
        rule="9",
        text="the deadline of a power order counts from the question for its commit",
        find=_plain(rights.no_wrong("orders_dated_from_commit")),
    ),
    Checker(
        name="early_close_has_proof",
        rule="10",
        text="a session is closed early only on a BMC's word, and never one that was opened since",
        find=_plain(rights.early_close_has_proof),
    ),
    Checker(
        name="waits_after_early_close",
        rule="7",
        text="a service without a volume whose holder's session was closed early starts after the session timeout",
        find=lambda truth, setup: rights.waits_after_early_close(truth, setup.services, setup.timing),
    ),
    Checker(
        name="brake_has_reason",
        rule="8",
        text="the storm brake engages only when more than a third of the members disappeared",
        find=_plain(progress.brake_has_reason),
    ),
    Checker(
        name="no_needless_wait",
        rule="7",
        text="a service without a volume starts at once after a plain expiry",
        find=lambda truth, setup: rights.no_needless_wait(truth, setup.services, setup.timing),
    ),
    Checker(
        name="upgrade_one_domain",
        rule="8",
        text="an upgrade restarts nodes of one power domain at a time, and no more of them than it was told",
        find=_plain(upgrade.one_domain),
    ),
    Checker(
        name="upgrade_stops_at_halt",
        rule="",
        text="no node restarts into a new image once the upgrade is halted",
        find=_plain(upgrade.stops_at_halt),
    ),
    Checker(
        name="upgrade_keeps_quorum",
        rule="",
        text="no restart for an upgrade takes the ZooKeeper ensemble its majority",
        find=_plain(upgrade.keeps_quorum),
    ),
    Checker(
        name="upgrade_is_gentle",
        rule="",
        text="an upgrade alone keeps no singleton from its clients for longer than one failover",
        find=lambda truth, setup: upgrade.is_gentle(truth, setup.services, setup.timing),
    ),
)


class Checked(Protocol):
    """A world after its run."""

    @property
    def truth(self) -> Truth: ...

    @property
    def setup(self) -> Setup: ...


def check_all(world: Checked) -> tuple[Check, ...]:
    """Run every checker over a whole run, in the order of ``CHECKERS``."""
    found = [(checker.name, checker.find(world.truth, world.setup)) for checker in CHECKERS]
    return tuple(Check(name=name, ok=not detail, detail=detail) for name, detail in found)
