"""Placing virtual machines one after the other, as a scheduler does: filter hosts with room, weigh, take the best.

The weigher is absolute: a host's score depends on that host alone, not on which others passed the filter. Hosts in the
same state have the same scores, so a score is worked out once for each state that occurs and looked up from then on.
Every score is an integer and ties go to the lowest host: a plain loop over all hosts makes the same decisions.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np

from twin.packing.records import UNLIMITED, Hosts, Ints, Mix

Policy = Literal["spread", "pack", "best_fit", "dot", "first_fit"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

SHARE_BITS = 20
"""A score counts resources in 2^-20 of the largest host's."""
NEVER = np.iinfo(np.int64).max
NOWHERE = -1
CACHE_MAX = 1 << 25
"""More scores (flavours x hosts) than this are worked out anew for every machine instead of being kept: 256 MiB."""
KEY_BITS = 29

Groups = Sequence[int] | Ints


def arrivals(mix: Mix, count: int) -> tuple[Ints, Ints]:
    """Return the first ``count`` machines of a mix in the order they come: flavours interleaved by their shares.

    Two int64 arrays, shape (count,): the flavour of each machine, and the number of its anti-affinity group (-1: none).
    The members of a group follow one another; a group that is cut off at the end is left out, so there may be fewer.
    Any prefix has the shares of the mix as nearly as whole machines can. Source: Webster's (Sainte-Lague) method.
    """
    shares = [max(0, round(flavour.share * 10**6)) for flavour in mix.flavours]
    keys, flavours, members = [], [], []
    for index, (flavour, share) in enumerate(zip(mix.flavours, shares, strict=True)):
        if not share:
            continue
        units = min(count, count * share // sum(shares) // flavour.members + 2)
        steps = 2 * np.arange(units, dtype=np.int64) + 1
        keys.append(steps * flavour.members * (1 << KEY_BITS) // share)
        flavours.append(np.full(units, index, dtype=np.int64))
        members.append(np.full(units, flavour.members, dtype=np.int64))
    if not keys:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    flavour_of, size = np.concatenate(flavours), np.concatenate(members)
    order = np.lexsort((flavour_of, np.concatenate(keys)))
    flavour_of, size = flavour_of[order], size[order]
    whole = np.cumsum(size) <= count
    flavour_of, size = flavour_of[whole], size[whole]
    apart = np.array([flavour.apart is not None and flavour.members > 1 for flavour in mix.flavours])
    group = np.where(apart[flavour_of], np.arange(len(size), dtype=np.int64), -1)
    return np.repeat(flavour_of, size), np.repeat(group, size)


class Weigher:
    """What a policy makes of a host's free room: the lower the score, the better; NEVER without room.

    ``demands``: int64 array, shape (flavours, 3). Resources that nobody asks for, or that are unlimited, do not count.
    """

    def __init__(self, policy: Policy, room: Ints, demands: Ints) -> None:
        self.policy, self.demands = policy, demands
        largest = room.max(axis=0)
        self.counted = tuple(int(d) for d in range(3) if demands[:, d].any() and 0 < largest[d] < UNLIMITED)
        self.shifts = tuple(max(0, int(largest[d]).bit_length() - 40) for d in self.counted)
        self.largest = tuple(int(largest[d]) >> shift for d, shift in zip(self.counted, self.shifts, strict=True))

    def shares(self, amounts: Ints) -> Ints:
        """Turn amounts, shape (..., 3), into shares of the largest host in 2^-20, shape (..., counted resources)."""
        parts = [
            ((amounts[..., d] >> shift) << SHARE_BITS) // most
            for d, shift, most in zip(self.counted, self.shifts, self.largest, strict=True)
        ]
        return np.stack(parts, axis=-1) if parts else np.zeros((*amounts.shape[:-1], 1), dtype=np.int64)

    def scores(self, free: Ints, demands: Ints) -> Ints:
        """Score machines on hosts. ``free`` and ``demands`` are arrays (..., 3) that broadcast to one another."""
        after = free - demands
        fits = (after >= 0).all(axis=-1)
        match self.policy:
            case "spread":
                score = -self.shares(free).sum(axis=-1)
            case "pack":
                score = self.shares(free).sum(axis=-1)
            case "best_fit":
                score = (self.shares(np.maximum(after, 0)) ** 2).sum(axis=-1)
            case "dot":
                score = -(self.shares(free) * self.shares(demands)).sum(axis=-1)
            case "first_fit":
                score = np.zeros(fits.shape, dtype=np.int64)
        return np.asarray(np.where(fits, score, NEVER))


class Scheduler:
    """Hosts that are being filled. ``free``: int64 array, shape (hosts, 3), what each has left (see ``left``).

    Costs one ``argmin`` over the hosts for each machine, and one scoring for each new state of a host.
    """

    def __init__(self, hosts: Hosts, demands: Ints, policy: Policy) -> None:
        self.weigher = Weigher(policy, hosts.room, demands)
        self.demands = demands
        self._demand_of = [tuple(row) for row in demands.tolist()]
        self._kept = len(demands) * len(hosts) <= CACHE_MAX
        self._free = [tuple(row) for row in hosts.room.tolist()]
        self._state: dict[tuple[int, ...], int] = {}
        self._columns: list[Ints] = []
        self._after: list[list[int]] = []
        self._frees: list[tuple[int, ...]] = []
        self._at = [self._intern(free) for free in self._free] if self._kept else []
        if self._kept:
            states = np.array(self._at)
            self._scores = np.ascontiguousarray(np.stack(self._columns, axis=1)[:, states])
        else:
            self._room = hosts.room.copy()

    def _intern(self, free: tuple[int, ...]) -> int:
        """The number of a host's state, with its scores worked out."""
        state = self._state.get(free)
        if state is None:
            state = self._state[free] = len(self._columns)
            self._columns.append(self.weigher.scores(np.array(free, dtype=np.int64)[None, :], self.demands))
            self._after.append([NOWHERE] * len(self.demands))
            self._frees.append(free)
        return state

    def left(self) -> Ints:
        """What each host has left now."""
        if not self._kept:
            return self._room.copy()
        return np.array([self._frees[state] for state in self._at], dtype=np.int64)

    def choose(self, flavour: int, barred: Ints | None = None) -> int:
        """Find the best host for one more machine, ``NOWHERE`` if none has room. ``barred``: bool array, not these."""
        if self._kept:
            row = self._scores[flavour]
        else:
            row = self.weigher.scores(self._room, self.demands[flavour])
        if barred is not None:
            row = np.where(barred, NEVER, row)
        host = int(row.argmin())
        return host if row[host] != NEVER else NOWHERE

    def put(self, flavour: int, host: int) -> None:
        """Take the room of one machine."""
        if not self._kept:
            self._room[host] -= self.demands[flavour]
            return
        state = self._at[host]
        after = self._after[state][flavour]
        if after < 0:
            free = self._frees[state]
            demand = self._demand_of[flavour]
            after = self._intern((free[0] - demand[0], free[1] - demand[1], free[2] - demand[2]))
            self._after[state][flavour] = after
        self._at[host] = after
        self._scores[:, host] = self._columns[after]

    def take_back(self, flavour: int, host: int) -> None:
        """Give back the room of one machine that has gone."""
        if not self._kept:
            self._room[host] += self.demands[flavour]
            return
        free, demand = self._frees[self._at[host]], self._demand_of[flavour]
        before = self._intern((free[0] + demand[0], free[1] + demand[1], free[2] + demand[2]))
        self._at[host] = before
        self._scores[:, host] = self._columns[before]


def place(
    hosts: Hosts, mix: Mix, policy: Policy, flavour_of: Ints, group_of: Groups | None = None, stop: bool = False
) -> Ints:
    """Place machines in order; return the host of each: int64 array, shape (machines,), ``NOWHERE`` if none had room.

    ``flavour_of``: indexes into the mix's flavours; ``group_of``: the anti-affinity group of each, or -1. ``stop``: end
    at the first that finds no host.
    """
    scheduler = Scheduler(hosts, mix.demands, policy)
    domains = [hosts.domains(flavour.apart) if flavour.apart else None for flavour in mix.flavours]
    placed = np.full(len(flavour_of), NOWHERE, dtype=np.int64)
    choose, put = scheduler.choose, scheduler.put
    groups = np.full(len(flavour_of), -1, dtype=np.int64) if group_of is None else np.asarray(group_of)
    held: dict[int, Ints] = {}
    for index, (flavour, group) in enumerate(zip(flavour_of.tolist(), groups.tolist(), strict=True)):
        domain = domains[flavour] if group >= 0 else None
        host = choose(flavour) if domain is None else choose(flavour, held.get(group))
        if host == NOWHERE:
            if stop:
                break
            continue
        put(flavour, host)
        placed[index] = host
        if domain is not None:
            mine = domain == domain[host]
            held[group] = mine | held[group] if group in held else mine
    return placed


def replay(hosts: Hosts, mix: Mix, policy: Policy, flavour_of: Ints, events: Iterable[int]) -> Ints:
    """Place machines that come and go; return the host that each got, ``NOWHERE`` if none had room when it came.

    ``events``: in order of time, ``i`` for the arrival of machine i and ``~i`` for its departure.
    """
    scheduler = Scheduler(hosts, mix.demands, policy)
    flavours = flavour_of.tolist()
    placed = [NOWHERE] * len(flavours)
    for event in events:
        if event >= 0:
            host = placed[event] = scheduler.choose(flavours[event])
            if host != NOWHERE:
                scheduler.put(flavours[event], host)
        elif placed[~event] != NOWHERE:
            scheduler.take_back(flavours[~event], placed[~event])
    return np.array(placed, dtype=np.int64)
