"""How many machines of a mix fit on hosts, so that all of them run on after the loss of a node, a rack or a PDU."""

import msgspec
import numpy as np

from twin.packing.place import arrivals
from twin.packing.reach import TRIED, FitPolicy, Reached, reach_best
from twin.packing.records import UNLIMITED, Apart, Hosts, Ints, Mix, Survive
from twin.packing.restart import losses, slots, worst_names

RESOURCES = ("cores", "memory", "disk")
MACHINES_MAX = 10_000_000
"""More machines than this are not placed one by one; the demand is too small for the hosts."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """How many fit, and where the rest of the room went.

    ``vms``: machines that fit and survive; ``policy``: how they were placed. ``volume_vms``: as many as if all hosts
    were one, nothing kept free. ``whole_vms``: fit on the hosts if nothing need be survived. ``volume_survivors_vms``:
    as many as if the survivors of the worst loss were one host: no plan can have more. ``bound_vms``: no plan can have
    more, by the configuration LP over the survivors (None if not asked for). ``binding``: what runs out first.
    ``why``: what rules out any machine at all, empty otherwise. ``worst``: the domains whose loss stops one machine
    more; ``checked``: losses that were re-packed; ``complete``: these were all.
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
    room = Room(volume_vms=volume, survivors_vms=upper, binding=_binding(survivors, mix, upper))
    if why := _impossible(hosts, mix, survive, spare):
        fit = _fit(mix, Reached(vms=0, policy="none"), room, ())
        return msgspec.structs.replace(fit, why=why)
    if len(mix.flavours) == 1 and (mix.flavours[0].members == 1 or mix.flavours[0].apart is None):
        fit = _uniform(hosts, mix, survive, spare, room)
    else:
        tried = policies(mix, bound) if policy == "best" else (policy,)
        reached = reach_best(hosts, mix, survive, spare, tried, (volume, upper))
        fit = _fit(mix, reached, room, () if survive == "none" else hosts.domain_names(survive))
    if not bound:
        return fit
    from twin.packing.bound import bound_vms  # scipy takes longer to import than all else here

    return msgspec.structs.replace(fit, bound_vms=bound_vms(hosts, mix, survive, spare, upper))


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What counting says: machines in all hosts taken as one, in the survivors taken as one, and what runs out."""

    volume_vms: int
    survivors_vms: int
    binding: str


def policies(mix: Mix, planned: bool) -> tuple[FitPolicy, ...]:
    """Name the policies that ``best`` tries; a plan on patterns only if ``planned``, and never with groups."""
    grouped = any(flavour.apart is not None and flavour.members > 1 for flavour in mix.flavours)
    return tuple(policy for policy in TRIED if policy != "planned" or (planned and not grouped))


def _fit(mix: Mix, reached: Reached, room: Room, names: tuple[str, ...]) -> Fit:
    flavour_of, _ = arrivals(mix, reached.vms)
    counts = np.bincount(flavour_of, minlength=len(mix.flavours)).tolist()
    return Fit(
        vms=reached.vms,
        by_flavour={flavour.name: count for flavour, count in zip(mix.flavours, counts, strict=True)},
        policy=reached.policy,
        volume_vms=room.volume_vms,
        whole_vms=reached.whole_vms,
        volume_survivors_vms=room.survivors_vms,
        binding=room.binding,
        worst=worst_names(names, reached.worst),
        checked=reached.checked,
        complete=reached.complete,
    )


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
            wanted = f"{flavour.name}: {flavour.members} members on different {flavour.apart}s"
            return f"{wanted} cannot all start again on the {left} that are left"
    return ""


def _left_at_least(apart: Ints, domain: Ints, spare: int) -> int:
    """How many domains of one kind are left after the worst loss of ``spare`` domains of another."""
    found, _ = losses(domain, spare, np.ones(len(domain), dtype=np.int64))
    return min(len(np.unique(apart[~np.isin(domain, lost)])) for lost in found)


def _uniform(hosts: Hosts, mix: Mix, survive: Survive, spare: int, room: Room) -> Fit:
    """One flavour: places are all alike, so what the survivors have room for can be reached and never exceeded."""
    places = slots(hosts.room, mix.demands[0])
    whole = int(places.sum())
    if survive == "none":
        return _fit(mix, Reached(vms=whole, policy="counted", whole_vms=whole), room, ())
    domain = hosts.domains(survive)
    heavy = np.zeros(int(domain.max()) + 1, dtype=np.int64)
    np.add.at(heavy, domain, places)
    order = np.lexsort((np.arange(len(heavy)), -heavy))[:spare]
    reached = Reached(
        vms=whole - int(heavy[order].sum()),
        policy="counted",
        whole_vms=whole,
        worst=tuple(order.tolist()),
        checked=len(heavy),
    )
    return _fit(mix, reached, room, hosts.domain_names(survive))
