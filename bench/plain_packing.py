"""A plain filter-and-weigh loop: the dumb model that the fast schedulers must agree with, and are timed by."""

from collections.abc import Iterable

from twin.packing.place import NOWHERE, SHARE_BITS, Policy
from twin.packing.records import UNLIMITED, Hosts, Mix

Row = tuple[int, int, int]


class PlainHosts:
    """Hosts as lists of what is left."""

    def __init__(self, hosts: Hosts, mix: Mix, policy: Policy) -> None:
        self.free = [list(row) for row in hosts.room.tolist()]
        self.policy = policy
        largest = [max(row[d] for row in self.free) for d in range(3)]
        asked = [any(flavour.demand[d] for flavour in mix.flavours) for d in range(3)]
        self.counted = [d for d in range(3) if asked[d] and 0 < largest[d] < UNLIMITED]
        self.scales = [(d, max(0, largest[d].bit_length() - 40)) for d in self.counted]
        self.largest = [largest[d] >> shift for d, shift in self.scales]

    def shares(self, amounts: list[int] | Row) -> list[int]:
        """Each counted amount as a share of the largest host's."""
        return [
            ((amounts[d] >> shift) << SHARE_BITS) // most
            for (d, shift), most in zip(self.scales, self.largest, strict=True)
        ]

    def score(self, free: list[int], demand: Row) -> int:
        """The lower, the better."""
        if self.policy == "spread":
            return -sum(self.shares(free))
        if self.policy == "pack":
            return sum(self.shares(free))
        if self.policy == "best_fit":
            return sum(share * share for share in self.shares([free[d] - demand[d] for d in range(3)]))
        if self.policy == "dot":
            return -sum(a * b for a, b in zip(self.shares(free), self.shares(demand), strict=True))
        return 0

    def choose(self, demand: Row) -> int:
        """The best host, the lowest of equals; ``NOWHERE`` if none has room."""
        best, chosen = 0, NOWHERE
        cores, memory, disk = demand
        for host, free in enumerate(self.free):
            if free[0] >= cores and free[1] >= memory and free[2] >= disk:
                score = self.score(free, demand)
                if chosen == NOWHERE or score < best:
                    best, chosen = score, host
        return chosen

    def add(self, host: int, demand: Row, sign: int) -> None:
        """Give (1) or take (-1) the room of one machine."""
        for d in range(3):
            self.free[host][d] += sign * demand[d]


def plain_replay(
    hosts: Hosts, mix: Mix, policy: Policy, flavour_of: list[int], events: Iterable[int] | None = None
) -> list[int]:
    """The host of each machine; without ``events`` they all come in order and stay."""
    plain = PlainHosts(hosts, mix, policy)
    demands: list[Row] = [flavour.demand for flavour in mix.flavours]
    placed = [NOWHERE] * len(flavour_of)
    for event in range(len(flavour_of)) if events is None else events:
        demand = demands[flavour_of[event if event >= 0 else ~event]]
        if event >= 0:
            placed[event] = plain.choose(demand)
            if placed[event] != NOWHERE:
                plain.add(placed[event], demand, -1)
        elif placed[~event] != NOWHERE:
            plain.add(placed[~event], demand, 1)
    return placed
