"""How far each policy gets: place machines in order, and find the longest prefix that survives every loss."""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from twin.packing.place import NOWHERE, Policy, arrivals, place
from twin.packing.records import Hosts, Ints, Mix, Survive
from twin.packing.restart import Restarts, filled

FitPolicy = Literal["best", "reserved", "planned", "spread", "pack", "best_fit", "dot", "first_fit"]
TRIED: tuple[FitPolicy, ...] = ("reserved", "planned", "pack", "best_fit", "first_fit", "spread", "dot")
"""What ``best`` tries, the likeliest winner first: the others only have to show that they do not reach one more."""


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """How far the best policy gets. ``whole_vms``: how far any gets if nothing need be survived."""

    vms: int
    policy: str
    whole_vms: int = 0
    worst: tuple[int, ...] = ()
    checked: int = 0
    complete: bool = True


class _Search(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Machines in order, where they may be cut off (``cuts``, between groups), and who judges losses (None: nobody)."""

    hosts: Hosts
    mix: Mix
    flavour_of: Ints
    group_of: Ints
    cuts: Ints
    judge: Restarts | None

    def proven(self, host_of: Ints, count: int) -> bool:
        """Say whether the first ``count`` machines survive every loss where they are."""
        if self.judge is None:
            return True
        state = filled(self.hosts, self.mix, self.flavour_of[:count], self.group_of[:count], host_of[:count])
        return self.judge.survives(state)


def reach_best(
    hosts: Hosts, mix: Mix, survive: Survive, spare: int, policies: Sequence[FitPolicy], limits: tuple[int, int]
) -> Reached:
    """Try policies in turn, each up to the most machines it can place and prove; return the best, the first of equals.

    ``limits``: how many machines there can be at all, and how many can survive, by counting.
    """
    judge = None if survive == "none" else Restarts(hosts, mix, survive, spare)
    flavour_of, group_of = arrivals(mix, limits[0])
    ends = np.flatnonzero((group_of[1:] != group_of[:-1]) | (group_of[1:] < 0)) + 1
    cuts = np.unique(np.concatenate(([0], ends, [len(flavour_of)])))
    search = _Search(hosts=hosts, mix=mix, flavour_of=flavour_of, group_of=group_of, cuts=cuts, judge=judge)
    first_fit = _placed(search, "first_fit", survive, spare)
    best, whole = Reached(vms=0, policy=policies[0]), len(first_fit)
    for policy in policies:
        host_of = first_fit if policy == "first_fit" else _placed(search, policy, survive, spare)
        whole = max(whole, len(host_of))
        reached = _longest(search, host_of, min(limits[1], len(host_of)), best.vms)
        if reached > best.vms:
            best = Reached(vms=reached, policy=policy)
            if judge is not None:
                best = msgspec.structs.replace(best, checked=judge.checked, complete=judge.complete)
        if best.vms >= min(limits):
            break
    worst = judge.tightest if judge is not None else ()
    return msgspec.structs.replace(best, whole_vms=whole, worst=worst)


def _placed(search: _Search, policy: FitPolicy, survive: Survive, spare: int) -> Ints:
    """The hosts of as many machines as find one, up to the first that does not."""
    used, by = search.hosts, policy
    match by:
        case "spread" | "pack" | "best_fit" | "dot" | "first_fit":
            order: Policy = by
        case "reserved" | "best":
            used, order = without_spares(search.hosts, survive, spare), "first_fit"
        case "planned":
            from twin.packing.bound import planned  # scipy takes longer to import than all else here

            return planned(without_spares(search.hosts, survive, spare), search.mix)[: len(search.flavour_of)]
    host_of = place(used, search.mix, order, search.flavour_of, search.group_of, stop=True)
    missing = np.flatnonzero(host_of == NOWHERE)
    return host_of[: int(missing[0])] if missing.size else host_of


def without_spares(hosts: Hosts, survive: Survive, spare: int) -> Hosts:
    """Empty as many hosts of each type as the ``spare`` domains that have most of that type have.

    Whatever is lost, there are then as many empty hosts of its types left: if a of a domain's hosts are in use and e
    are spare, the other domains have all spares but e, which are at least a. Spares are taken in turn from the domains.
    """
    if survive == "none":
        return hosts
    domain = hosts.domains(survive)
    kinds, kind_of = np.unique(hosts.room, axis=0, return_inverse=True)
    room = hosts.room.copy()
    for kind in range(len(kinds)):
        mine = np.flatnonzero(kind_of.reshape(-1) == kind)
        needed = int(np.sort(np.bincount(domain[mine]))[::-1][:spare].sum())
        turn = np.zeros(len(mine), dtype=np.int64)
        for of in np.unique(domain[mine]).tolist():
            here = np.flatnonzero(domain[mine] == of)
            turn[here] = np.arange(len(here))[::-1]
        order = np.lexsort((-mine, turn))
        room[mine[order[:needed]]] = 0
    return msgspec.structs.replace(hosts, room=room)


def _longest(search: _Search, host_of: Ints, most: int, known: int) -> int:
    """The longest prefix, up to ``most``, that survives; 0 if it is no longer than ``known``. Found by bisection.

    The next prefix after ``known`` is tried first: a policy that cannot beat it costs one look.
    """
    cuts = search.cuts[search.cuts <= most]
    low, high = int(np.searchsorted(cuts, known, side="right")), len(cuts) - 1
    if low > high or not search.proven(host_of, int(cuts[low])):
        return 0
    if search.proven(host_of, int(cuts[high])):
        return int(cuts[high])
    while high - low > 1:
        middle = (low + high) // 2
        if search.proven(host_of, int(cuts[middle])):
            low = middle
        else:
            high = middle
    search.proven(host_of, int(cuts[high]))
    return int(cuts[low]) if search.proven(host_of, int(cuts[low])) else 0
