"""Can what was lost start again? Every loss is re-packed for real, next to what the survivors already run.

Survivors keep their machines where they are; only the lost ones look for a host. They are restarted the hardest first:
anti-affinity groups, then flavours by falling size.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from math import comb

import msgspec
import numpy as np
import numpy.typing as npt

from twin.packing.records import UNLIMITED, Apart, Hosts, Ints, Mix

LOSSES_MAX = 2_000
"""Of more combinations of lost domains than this, those of the fullest domains are tried; single ones are all tried."""


class Filled(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hosts with machines on them.

    ``counts``: int64 array, shape (hosts, flavours); ``free``: int64 array, shape (hosts, 3). Machines of anti-affinity
    groups once more: ``members``, (flavour, group) of those on each host that has any, and ``hosts_of`` each group.
    """

    counts: Ints
    free: Ints
    members: dict[int, list[tuple[int, int]]]
    hosts_of: dict[int, list[int]]


def filled(hosts: Hosts, mix: Mix, flavour_of: Ints, group_of: Ints, host_of: Ints) -> Filled:
    """Count up machines that are placed; each has a host."""
    counts = np.zeros((len(hosts), len(mix.flavours)), dtype=np.int64)
    np.add.at(counts, (host_of, flavour_of), 1)
    members: dict[int, list[tuple[int, int]]] = {}
    hosts_of: dict[int, list[int]] = {}
    for index in np.flatnonzero(group_of >= 0).tolist():
        group, host = int(group_of[index]), int(host_of[index])
        members.setdefault(host, []).append((int(flavour_of[index]), group))
        hosts_of.setdefault(group, []).append(host)
    return Filled(counts=counts, free=hosts.room - counts @ mix.demands, members=members, hosts_of=hosts_of)


def losses(domain: Ints, spare: int, weight: Ints) -> tuple[list[tuple[int, ...]], bool]:
    """List the combinations of ``spare`` domains to lose, the heaviest first, and say whether these are all.

    ``domain``: each host's, int64 array; ``weight``: int64 array, shape (hosts,), how heavy a loss each host is.
    """
    count = int(domain.max()) + 1
    heavy = np.zeros(count, dtype=np.int64)
    np.add.at(heavy, domain, weight)
    order = np.lexsort((np.arange(count), -heavy)).tolist()
    most = max(LOSSES_MAX, count)
    complete = comb(count, spare) <= most
    while comb(len(order), spare) > most:
        order.pop()
    return list(combinations(order, spare)), complete


class Restarts:
    """Judge losses of domains on one set of hosts; ``kind`` and ``spare`` say what must be survived."""

    def __init__(self, hosts: Hosts, mix: Mix, kind: Apart, spare: int) -> None:
        self.hosts, self.mix, self.spare = hosts, mix, spare
        self.domain = hosts.domains(kind)
        self.demands = mix.demands
        by_domain = np.argsort(self.domain, kind="stable")
        ends = np.searchsorted(self.domain[by_domain], np.arange(int(self.domain.max()) + 2))
        self._hosts_of = [by_domain[low:high] for low, high in pairwise(ends.tolist())]
        largest = np.maximum(hosts.room.max(axis=0), 1).astype(np.float64)
        size = (self.demands / largest).max(axis=1)
        self.order = np.lexsort((np.arange(len(size)), -size)).tolist()
        self._apart = [flavour.apart is not None and flavour.members > 1 for flavour in mix.flavours]
        self._types = np.unique(hosts.room, axis=0, return_inverse=True)[1].reshape(-1)
        self.tightest: tuple[int, ...] = ()
        self.checked = 0
        self.complete = True

    def survives(self, state: Filled) -> bool:
        """Re-pack every loss; stop at the first that cannot be. The one that failed last is tried first next time."""
        weight = (state.counts @ self.demands).sum(axis=1)
        found, self.complete = losses(self.domain, self.spare, weight)
        if self.tightest in found:
            found.remove(self.tightest)
            found.insert(0, self.tightest)
        seen: set[bytes] = set()
        self.checked = 0
        for lost in found:
            gone = np.concatenate([self._hosts_of[domain] for domain in lost])
            if not any(host in state.members for host in gone.tolist()):
                key = self._key(state, gone)
                if key in seen:
                    continue
                seen.add(key)
            self.checked += 1
            down = np.zeros(len(self.domain), dtype=bool)
            down[gone] = True
            if not self.restarts(state, down):
                self.tightest = lost
                return False
        self.checked = len(found)
        return True

    def _key(self, state: Filled, gone: Ints) -> bytes:
        """What is lost, host by host in a fixed order: losses with the same key leave the same survivors."""
        rows = np.column_stack((self._types[gone], state.counts[gone]))
        return rows[np.lexsort(rows.T[::-1])].tobytes() if len(gone) > 1 else rows.tobytes()

    def restarts(self, state: Filled, down: npt.NDArray[np.bool_]) -> bool:
        """Say whether everything on the hosts that are ``down`` (bool array) finds room on the others."""
        lost = state.counts[down].sum(axis=0)
        if not lost.any():
            return True
        if not any(self._apart) and self._images_fit(state, down):
            return True
        return any(self._repack(state, down, lost, tight) for tight in (True, False))

    def _images_fit(self, state: Filled, down: npt.NDArray[np.bool_]) -> bool:
        """Whether there is an empty host of the same type for each lost host that is not empty."""
        empty = ~state.counts.any(axis=1)
        kinds = int(self._types.max()) + 1
        needed = np.bincount(self._types[down & ~empty], minlength=kinds)
        spare = np.bincount(self._types[~down & empty], minlength=kinds)
        return bool((needed <= spare).all())

    def _repack(self, state: Filled, down: npt.NDArray[np.bool_], lost: Ints, tight: bool) -> bool:
        alive = np.flatnonzero(~down)
        free = state.free[alive]
        lost = lost.copy()
        for flavour, host in self._members(state, down, free, alive):
            if host < 0:
                return False
            free[host] -= self.demands[flavour]
            lost[flavour] -= 1
        return all(
            not lost[flavour] or _fill(free, self.demands[flavour], int(lost[flavour]), tight) for flavour in self.order
        )

    def _members(
        self, state: Filled, down: npt.NDArray[np.bool_], free: Ints, alive: Ints
    ) -> Iterator[tuple[int, int]]:
        """Choose a host among those alive (-1: none) for each lost member of a group, apart from the others of it."""
        gone = [one for host in np.flatnonzero(down).tolist() for one in state.members.get(host, ())]
        held: dict[int, list[int]] = {}
        for flavour, group in sorted(gone, key=lambda one: (self.order.index(one[0]), one[1])):
            apart = self.mix.flavours[flavour].apart
            domain = self.hosts.domains(apart) if apart else self.domain
            if group not in held:
                held[group] = [host for host in state.hosts_of[group] if not down[host]]
            room = slots(free, self.demands[flavour])
            for host in held[group]:
                room[domain[alive] == domain[host]] = 0
            host = _tightest(room)
            if host < 0:
                yield flavour, -1
                return
            held[group].append(int(alive[host]))
            yield flavour, host


def slots(free: Ints, demand: Ints) -> Ints:
    """Count how many machines of one flavour still fit on each host: int64 array, shape (hosts,)."""
    asked = np.flatnonzero(demand)
    if not asked.size:
        return np.full(len(free), UNLIMITED)
    room = free[:, asked[0]] // demand[asked[0]]
    for resource in asked[1:]:
        room = np.minimum(room, free[:, resource] // demand[resource])
    return np.asarray(room)


def _tightest(room: Ints) -> int:
    """The host with room for the fewest, but for one; the lowest of equals; -1 if there is none."""
    host = int(np.where(room > 0, room, np.iinfo(np.int64).max).argmin())
    return host if room[host] > 0 else -1


def _fill(free: Ints, demand: Ints, count: int, tight: bool) -> bool:
    """Take room for ``count`` machines of one flavour, on the fullest hosts first or (not ``tight``) the emptiest."""
    room = slots(free, demand)
    if int(room.sum()) < count:
        return False
    order = np.argsort(room if tight else -room, kind="stable")
    filled_before = np.cumsum(room[order]) - room[order]
    take = np.clip(count - filled_before, 0, room[order])
    free[order] -= take[:, None] * demand
    return True


def worst_names(names: Sequence[str], lost: tuple[int, ...]) -> tuple[str, ...]:
    """Name the domains of one loss."""
    return tuple(names[index] for index in sorted(lost))
