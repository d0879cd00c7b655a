"""A plain filter-and-weigh loop: the dumb model that the fast schedulers must agree with, and are timed by."""

from collections.abc import Iterable

from twin.packing.place import NOWHERE, SHARE_BITS, Policy
from twin.packing.records import UNLIMITED, Hosts, Mix

Row = tuple[int, int, int]


class PlainHosts:
    """Hosts as lists of what is left. ``weight``: what spreading and packing weigh, kept for each host."""

    def __init__(self, hosts: Hosts, mix: Mix, policy: Policy) -> None:
        self.free: list[Row] = [(row[0], row[1], row[2]) for row in hosts.room.tolist()]
        self.policy = policy
        largest = [max(row[d] for row in self.free) for d in range(3)]
        asked = [any(flavour.demand[d] for flavour in mix.flavours) for d in range(3)]
        counted = [d for d in range(3) if asked[d] and 0 < largest[d] < UNLIMITED]
        self.scales = [(d, max(0, largest[d].bit_length() - 40)) for d in counted]
        self.largest = [largest[d] >> shift for d, shift in self.scales]
        self.weight = [self._weight(row) for row in self.free]

    def _weight(self, free: Row) -> int:
        match self.policy:
            case "spread":
                return -sum(self.shares(free))
            case "pack":
                return sum(self.shares(free))
            case "best_fit" | "dot" | "first_fit":
                return 0

    def shares(self, amounts: Row) -> list[int]:
        """Each counted amount as a share of the largest host's."""
        return [
            ((amounts[d] >> shift) << SHARE_BITS) // most
            for (d, shift), most in zip(self.scales, self.largest, strict=True)
        ]

    def choose(self, demand: Row) -> int:
        """Filter the hosts, weigh the others, take the best, the lowest of equals; ``NOWHERE`` if none has room."""
        cores, memory, disk = demand
        passed = [
            host for host, free in enumerate(self.free) if free[0] >= cores and free[1] >= memory and free[2] >= disk
        ]
        if not passed:
            return NOWHERE
        match self.policy:
            case "spread" | "pack":
                return min(passed, key=self.weight.__getitem__)
            case "first_fit":
                return passed[0]
            case "best_fit":
                return min(passed, key=lambda host: self._left_over(self.free[host], demand))
            case "dot":
                wanted = self.shares(demand)
                return min(passed, key=lambda host: -_product(self.shares(self.free[host]), wanted))

    def _left_over(self, free: Row, demand: Row) -> int:
        after = (free[0] - demand[0], free[1] - demand[1], free[2] - demand[2])
        return sum(share * share for share in self.shares(after))

    def add(self, host: int, demand: Row, sign: int) -> None:
        """Give (1) or take (-1) the room of one machine."""
        free = self.free[host]
        after = (free[0] + sign * demand[0], free[1] + sign * demand[1], free[2] + sign * demand[2])
        self.free[host], self.weight[host] = after, self._weight(after)


def _product(one: list[int], other: list[int]) -> int:
    return sum(a * b for a, b in zip(one, other, strict=True))


def plain_replay(
    hosts: Hosts, mix: Mix, policy: Policy, flavour_of: list[int], events: Iterable[int] | None = None
) -> list[int]:
    """Return the host of each machine; without ``events`` they all come in order and stay."""
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
