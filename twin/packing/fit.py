"""How many machines of a mix fit on hosts, so that all of them run on after the loss of a node, a rack or a PDU."""

from typing import Literal

import msgspec
import numpy as np

from twin.packing.place import NOWHERE, Policy, arrivals, place
from twin.packing.records import UNLIMITED, Apart, Hosts, Ints, Mix, Survive
from twin.packing.restart import Restarts, filled, losses, slots, worst_names

FitPolicy = Literal["best", "reserved", "spread", "pack", "best_fit", "dot", "first_fit"]
RESOURCES = ("cores", "memory", "disk")
MACHINES_MAX = 10_000_000
"""More machines than this are not placed one by one; the demand is too small for the hosts."""
TRIED: tuple[FitPolicy, ...] = ("reserved", "pack", "best_fit", "first_fit", "spread", "dot")
"""What ``best`` tries, the likeliest winner first: the others only have to show that they do not reach one more."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """How many fit, and where the rest of the room went.

    ``vms``: machines that fit and survive; ``policy``: how they were placed. ``volume_vms``: as many as if all hosts were
    one, nothing kept free. ``whole_vms``: fit on the hosts if nothing need be survived. ``volume_survivors_vms``: as
    many as if the survivors of the worst loss were one host: no plan can have more. ``bound_vms``: no plan can have more,
    by the configuration LP over the survivors (None if not asked for). ``binding``: the resource that runs out first.
    ``why``: what rules out any machine at all, empty otherwise.
    ``worst``: the domains whose loss decides; ``checked``: losses that were re-packed; ``complete``: these were all.
    """

    vms: int
    by_flavour: dict[str, int]
    policy: str
    volume_vms: int
    whole_vms: int
    volume_survivors_vms: int
    binding: str
    worst: tuple[str, ...] = ()
    checked: int = 0
    complete: bool = True
    bound_vms: int | None = None
    why: str = ""

    @property
    def lost_to_headroom_vms(self) -> int:
        """What is kept free for the loss to be survived."""
        return self.volume_vms - self.volume_survivors_vms

    @property
    def lost_to_fragmentation_vms(self) -> int:
        """Room that is there but in pieces too small, on the hosts as they are and after the loss."""
        return self.volume_survivors_vms - self.vms


def fits(
    hosts: Hosts,
    mix: Mix,
    survive: Survive = "none",
    spare: int = 1,
    policy: FitPolicy = "best",
    bound: bool = False,
) -> Fit:
    """Find how many machines of the mix fit, if any ``spare`` nodes, racks or PDUs may be lost at once.

    After every loss the lost machines are started again next to those of the survivors, which stay where they are;
    groups stay apart. A policy (see ``twin.packing.place``) places in the order of ``arrivals``. ``reserved`` keeps
    whole hosts empty, as many as the largest domains have, and fills the rest; ``best`` takes the policy that reaches
    most. One flavour without groups is exact by counting: any policy that spreads or packs reaches it.

    Raises: ValueError if ``spare`` is below 1 or the demands are too small to count.
    """
    if spare < 1:
        raise ValueError("spare must be at least 1")
    volume = _volume(_pooled(hosts), mix)
    if volume > MACHINES_MAX:
        raise ValueError(f"more than {MACHINES_MAX} machines; the flavours are too small for these hosts")
    survivors = _pooled(hosts) if survive == "none" else _survivors(hosts, survive, spare)
    upper = _volume(survivors, mix)
    known = {"volume_vms": volume, "volume_survivors_vms": upper, "binding": _binding(survivors, mix, upper)}
    if why := _impossible(hosts, mix, survive, spare):
        return msgspec.convert({"vms": 0, "by_flavour": {}, "policy": "none", "whole_vms": 0, "why": why, **known}, Fit)
    if len(mix.flavours) == 1 and (mix.flavours[0].members == 1 or mix.flavours[0].apart is None):
        fit = _uniform(hosts, mix, survive, spare, known)
    else:
        fit = _mixed(hosts, mix, survive, spare, policy, known)
    if not bound:
        return fit
    from twin.packing.bound import bound_vms  # scipy takes longer to import than all else here

    return msgspec.structs.replace(fit, bound_vms=bound_vms(hosts, mix, survive, spare, upper))


def _volume(room: Ints, mix: Mix) -> int:
    """The longest prefix of arrivals whose demands, added up, are within ``room`` (3 amounts)."""
    demands = mix.demands
    share = np.array([max(0.0, flavour.share) for flavour in mix.flavours])
    mean = (demands * share[:, None]).sum(axis=0) / share.sum()
    guess = min((float(room[d]) / mean[d] for d in range(3) if mean[d] > 0), default=0.0)
    if guess > MACHINES_MAX:
        return MACHINES_MAX + 1
    spare = sum(flavour.members for flavour in mix.flavours) * 2
    flavour_of, _ = arrivals(mix, int(guess * 1.02) + spare)
    taken = np.cumsum(demands[flavour_of], axis=0)
    return int((taken <= room).all(axis=1).sum())


def _pooled(hosts: Hosts) -> Ints:
    """The room of all hosts together."""
    return np.asarray(_countable(hosts).sum(axis=0))


def _countable(hosts: Hosts) -> Ints:
    """The room of each host, with what is unlimited made small enough to be added up."""
    return np.minimum(hosts.room, UNLIMITED // len(hosts))


def _survivors(hosts: Hosts, kind: Apart, spare: int) -> Ints:
    """What is left of each resource after the loss that takes most of it; every loss must be survived."""
    domain = hosts.domains(kind)
    of_domain = np.zeros((int(domain.max()) + 1, 3), dtype=np.int64)
    np.add.at(of_domain, domain, _countable(hosts))
    total = of_domain.sum(axis=0)
    return np.asarray(total - np.sort(of_domain, axis=0)[::-1][:spare].sum(axis=0))


def _binding(room: Ints, mix: Mix, vms: int) -> str:
    """The resource of which least is left."""
    flavour_of, _ = arrivals(mix, max(vms, 1))
    taken = mix.demands[flavour_of].sum(axis=0)
    used = [taken[d] / room[d] if room[d] > 0 else float(taken[d] > 0) * 2 for d in range(3)]
    return RESOURCES[int(np.argmax(used))]


def _impossible(hosts: Hosts, mix: Mix, survive: Survive, spare: int) -> str:
    """Say which group cannot stay apart, or not once something is lost."""
    if survive != "none" and int(hosts.domains(survive).max()) + 1 <= spare:
        return f"there is no {survive} left if {spare} of them are lost"
    for flavour in mix.flavours:
        if flavour.apart is None or flavour.members == 1:
            continue
        apart = hosts.domains(flavour.apart)
        there = len(np.unique(apart))
        if there < flavour.members:
            return f"{flavour.name}: {flavour.members} members on different {flavour.apart}s, but there are {there}"
        left = there if survive == "none" else _left_at_least(apart, hosts.domains(survive), spare)
        if left < flavour.members:
            return (
                f"{flavour.name}: {flavour.members} members on different {flavour.apart}s cannot all start again on the "
                f"{left} that are left"
            )
    return ""


def _left_at_least(apart: Ints, domain: Ints, spare: int) -> int:
    """How many domains of one kind are left after the worst loss of ``spare`` domains of another, at the least."""
    found, _ = losses(domain, spare, np.ones(len(domain), dtype=np.int64))
    return min(len(np.unique(apart[~np.isin(domain, lost)])) for lost in found)


def _uniform(hosts: Hosts, mix: Mix, survive: Survive, spare: int, known: dict[str, object]) -> Fit:
    """One flavour: places are all alike, so what the survivors have room for can be reached and never exceeded."""
    places = np.maximum(slots(hosts.room, mix.demands[0]), 0)
    whole = int(places.sum())
    lost, worst, names = 0, (), hosts.names
    if survive != "none":
        domain = hosts.domains(survive)
        heavy = np.bincount(domain, weights=places, minlength=int(domain.max()) + 1).astype(np.int64)
        order = np.lexsort((np.arange(len(heavy)), -heavy))[:spare]
        lost, worst, names = int(heavy[order].sum()), tuple(order.tolist()), hosts.domain_names(survive)
    vms = whole - lost
    return msgspec.convert(
        {
            "vms": vms,
            "by_flavour": {mix.flavours[0].name: vms},
            "policy": "counted",
            "whole_vms": whole,
            "worst": worst_names(names, worst),
            **known,
        },
        Fit,
    )



class _Search(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The machines in order, where they may be cut off (between groups), and who judges losses (None: nobody)."""

    flavour_of: Ints
    group_of: Ints
    cuts: Ints
    judge: Restarts | None


def _mixed(hosts: Hosts, mix: Mix, survive: Survive, spare: int, policy: FitPolicy, known: dict[str, object]) -> Fit:
    """Several flavours, or groups: try the policies, each up to the most it can place and prove."""
    judge = None if survive == "none" else Restarts(hosts, mix, survive, spare)
    flavour_of, group_of = arrivals(mix, msgspec.convert(known["volume_vms"], int))
    ends = np.flatnonzero((group_of[1:] != group_of[:-1]) | (group_of[1:] < 0)) + 1
    cuts = np.concatenate(([0], ends, [len(flavour_of)]))
    search = _Search(flavour_of=flavour_of, group_of=group_of, cuts=cuts, judge=judge)
    upper = msgspec.convert(known["volume_survivors_vms"], int)
    whole = best = checked = 0
    name, worst, complete = "none", (), True
    for tried in TRIED if policy == "best" else (policy,):
        if tried == "reserved" and judge is None:
            tried = "first_fit"
        host_of = _placed(hosts, mix, tried, search, survive, spare)
        whole = max(whole, len(host_of))
        reached = _reach(hosts, mix, search, host_of, min(upper, len(host_of)), best)
        if reached > best or name == "none":
            best, name = reached, tried
        if judge is not None and reached == best and name == tried:
            worst, checked, complete = judge.tightest, judge.checked, judge.complete
    return msgspec.convert(
        {
            "vms": best,
            "by_flavour": _by_flavour(mix, flavour_of[:best]),
            "policy": name,
            "whole_vms": whole,
            "worst": () if survive == "none" else worst_names(hosts.domain_names(survive), worst),
            "checked": checked,
            "complete": complete,
            **known,
        },
        Fit,
    )


def _by_flavour(mix: Mix, flavour_of: Ints) -> dict[str, int]:
    counts = np.bincount(flavour_of, minlength=len(mix.flavours)).tolist()
    return {flavour.name: count for flavour, count in zip(mix.flavours, counts, strict=True)}


def _placed(hosts: Hosts, mix: Mix, policy: FitPolicy, search: _Search, survive: Survive, spare: int) -> Ints:
    """The hosts of as many machines as find one, up to the first that does not."""
    match policy:
        case "reserved" | "best":
            used, by = _without_spares(hosts, survive, spare), "first_fit"
        case "spread" | "pack" | "best_fit" | "dot" | "first_fit":
            used, by = hosts, policy
    host_of = place(used, mix, by, search.flavour_of, search.group_of, stop=True)
    missing = np.flatnonzero(host_of == NOWHERE)
    return host_of[: int(missing[0])] if missing.size else host_of


def _without_spares(hosts: Hosts, survive: Survive, spare: int) -> Hosts:
    """The hosts with as many of each type emptied as the ``spare`` domains with most of that type have.

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
        sizes = np.bincount(domain[mine])
        needed = int(np.sort(sizes)[::-1][:spare].sum())
        turn = np.zeros(len(mine), dtype=np.int64)
        for of in np.unique(domain[mine]).tolist():
            here = np.flatnonzero(domain[mine] == of)
            turn[here] = np.arange(len(here))[::-1]
        order = np.lexsort((-mine, turn))
        room[mine[order[:needed]]] = 0
    return msgspec.structs.replace(hosts, room=room)


def _reach(hosts: Hosts, mix: Mix, search: _Search, host_of: Ints, most: int, known: int) -> int:
    """The longest prefix, up to ``most``, that survives; 0 if it is no longer than ``known``. Found by bisection."""
    cuts = search.cuts[search.cuts <= most]
    if search.judge is None:
        return int(cuts[-1])
    low = int(np.searchsorted(cuts, known, side="right")) - 1
    high = len(cuts) - 1
    if known and (low >= high or not _proven(hosts, mix, search, host_of, int(cuts[low + 1]))):
        return 0
    if _proven(hosts, mix, search, host_of, int(cuts[high])):
        return int(cuts[high])
    low = low + 1 if known else 0
    while high - low > 1:
        middle = (low + high) // 2
        if _proven(hosts, mix, search, host_of, int(cuts[middle])):
            low = middle
        else:
            high = middle
    return int(cuts[low]) if _proven(hosts, mix, search, host_of, int(cuts[low])) else 0


def _proven(hosts: Hosts, mix: Mix, search: _Search, host_of: Ints, count: int) -> bool:
    state = filled(hosts, mix, search.flavour_of[:count], search.group_of[:count], host_of[:count])
    return search.judge is None or search.judge.survives(state)
