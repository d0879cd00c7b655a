"""What no plan can beat, and a plan close to it: the configuration LP by column generation, and whole numbers on it.

A pattern is a set of machines that one host of a type holds. The LP chooses how many hosts take each pattern; new
patterns come from an integer knapsack on the LP's prices until none improves it (Gilmore and Gomory, 1961). Any prices
give a valid bound, so a bound is also one if the generation is stopped early. HiGHS solves both, through scipy.
"""

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from twin.packing.place import NOWHERE, Scheduler, arrivals
from twin.packing.quiet import quiet_stdout
from twin.packing.records import UNLIMITED, Hosts, Ints, Mix, Survive
from twin.packing.restart import losses, slots

Floats = npt.NDArray[np.float64]

ROUNDS_MAX = 200
"""Rounds of column generation; a few dozen are usual."""
NODES_MAX = 3_000
"""Branch-and-bound nodes for a whole-number plan. A limit on time would make the plan depend on the computer."""
GAP = 0.002
"""A plan this near to the best on the patterns at hand is good enough."""
LOOSE = 0.03
"""A pattern this near to the best one is good enough while it still improves the LP."""
NEAR = 2e-4
"""How near the generation comes to the LP's own optimum before it stops: what is left only loosens the bound."""
UNITS_MAX = 1 << 24
"""A host is counted in no more units than these of each resource; the solver's tolerance is of that order."""
IMPROVES = 1e-7
BOUNDED_LOSSES_MAX = 20
"""The heaviest losses that the bound looks at; every loss must be survived, so any of them bound the whole."""


class Types(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hosts by type: ``room``, int64 array (types, 3), and ``counts``, int64 array (types,)."""

    room: Ints
    counts: Ints


class Priced(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The end of a column generation for the most machines of a mix on hosts by type.

    ``patterns``: int64 array (columns, flavours), each on ``times`` hosts, float64 array (columns,), of the type
    ``type_of``, int64 array (columns,); ``prices``: float64 array (flavours,), and ``worth``: float64 array (types,),
    no pattern of that type is worth more at those prices.
    """

    patterns: Ints
    times: Floats
    type_of: Ints
    prices: Floats
    worth: Floats


class Fewest(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The fewest hosts of one type for given machines.

    ``volume``: all demands added up; ``bound``: by the configuration LP, no plan has fewer; ``first_fit``: in arrival
    order; ``hosts``: the better of the plan and first fit. ``patterns``: int64 array (kinds, flavours), and ``times``:
    int64 array (kinds,), how many hosts hold each; empty if first fit was better.
    """

    volume: int
    bound: int
    first_fit: int
    hosts: int
    patterns: Ints
    times: Ints


def types_of(hosts: Hosts, alive: npt.NDArray[np.bool_] | None = None) -> Types:
    """Group hosts by their room; with ``alive`` (bool array), count only those, but name all types."""
    room, kind = np.unique(hosts.room, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    return Types(room=room, counts=np.bincount(kind if alive is None else kind[alive], minlength=len(room)))


def knapsack(room: Ints, demands: Ints, prices: Floats, most: Ints, enough: float) -> tuple[Ints, float]:
    """Find a pattern for one host that is worth more than ``enough``, or else the one worth most; and a bound on any.

    ``most``: int64 array (flavours,), no pattern needs more of one. Proving the best pattern takes most of the time, so
    it is only done where a good one does not do.
    """
    limited = [d for d in range(3) if room[d] < UNLIMITED // 2 and demands[:, d].any()]
    ceiling = np.minimum(most, _alone(room, demands))
    if not limited or not (ceiling > 0).any():
        return ceiling * 0, 0.0
    units = [_unit(int(room[d]), demands[:, d]) for d in limited]
    rows = np.array([demands[:, d] // unit for d, unit in zip(limited, units, strict=True)], dtype=np.float64)
    tops = np.array([int(room[d]) // unit for d, unit in zip(limited, units, strict=True)], dtype=np.float64)
    held, bounds = LinearConstraint(rows, -np.inf, tops), Bounds(0, ceiling)
    chosen, least = _whole(-prices, held, bounds, LOOSE)
    if chosen is None or prices @ chosen <= enough:
        chosen, least = _whole(-prices, held, bounds, 0.0)
    if chosen is None:
        return ceiling * 0, float(prices @ ceiling)
    return chosen, max(-least, float(prices @ chosen))


def _unit(room: int, demands: Ints) -> int:
    """The unit to count a resource in: exact if its demands have one in common, else so small that it hardly matters.

    Demands are rounded down then: a pattern may exceed the host by a trace, which raises the bound and is not planned.
    """
    common = int(np.gcd.reduce(demands[demands > 0]))
    return max(common, room // UNITS_MAX, 1)


def _alone(room: Ints, demands: Ints) -> Ints:
    """How many of each flavour a host holds if it holds nothing else."""
    return np.array([int(slots(room[None, :], demand)[0]) for demand in demands], dtype=np.int64)


def _columns(types: Types, demands: Ints, most: Ints) -> Iterator[tuple[int, Ints]]:
    """The patterns to start with: each type filled with each flavour alone."""
    for kind, room in enumerate(types.room):
        for flavour, count in enumerate(np.minimum(_alone(room, demands), most).tolist()):
            if count > 0:
                pattern = np.zeros(len(demands), dtype=np.int64)
                pattern[flavour] = count
                yield kind, pattern


def priced(types: Types, demands: Ints, shares: Floats) -> Priced:
    """Generate patterns for the most machines in proportion to ``shares`` (float64 array (flavours,), adds up to 1)."""
    most = np.full(len(demands), np.iinfo(np.int32).max, dtype=np.int64)
    found = list(_columns(types, demands, most))
    kinds, patterns = [kind for kind, _ in found], [pattern for _, pattern in found]
    worth = np.zeros(len(types.room))
    prices, times = np.zeros(len(demands)), np.zeros(len(kinds))
    for _ in range(ROUNDS_MAX):
        prices, values, times = _most_master(types, np.array(patterns), np.array(kinds), shares)
        fresh = False
        for kind, room in enumerate(types.room):
            enough = float(values[kind]) + IMPROVES * max(1.0, float(values[kind]))
            pattern, worth[kind] = knapsack(room, demands, prices, most, enough)
            if prices @ pattern > enough:
                kinds.append(kind)
                patterns.append(pattern)
                fresh = True
        if not fresh or worth @ types.counts <= (values @ types.counts) * (1 + NEAR):
            break
    solved = len(times)
    return Priced(
        patterns=np.array(patterns[:solved]),
        times=times,
        type_of=np.array(kinds[:solved]),
        prices=prices,
        worth=worth,
    )


def _most_master(types: Types, patterns: Ints, kinds: Ints, shares: Floats) -> tuple[Floats, Floats, Floats]:
    """Solve the LP on the patterns at hand: prices of flavours, what a host of each type is worth, hosts by pattern."""
    columns, flavours = patterns.shape
    supply = np.hstack((-patterns.T.astype(np.float64), shares[:, None]))
    of_type = (kinds[None, :] == np.arange(len(types.room))[:, None]).astype(np.float64)
    used = np.hstack((of_type, np.zeros((len(types.room), 1))))
    cost = np.zeros(columns + 1)
    cost[-1] = -1.0
    limits = np.concatenate((np.zeros(flavours), types.counts.astype(np.float64)))
    chosen, duals = _linear(cost, np.vstack((supply, used)), limits)
    return duals[:flavours], duals[flavours:], chosen[:-1]


def _linear(cost: Floats, rows: Floats, limits: Floats) -> tuple[Floats, Floats]:
    """Minimise ``cost`` with ``rows @ x <= limits`` and x >= 0; return x and the prices of the rows, at least 0."""
    solved = linprog(cost, A_ub=rows, b_ub=limits, method="highs")
    return np.asarray(solved.x, dtype=np.float64), -np.asarray(solved.ineqlin.marginals, dtype=np.float64)


def bound_vms(hosts: Hosts, mix: Mix, survive: Survive, spare: int, upper: int) -> int:
    """Bound how many machines of a mix any plan can have, if what is left after each loss must hold them all.

    ``upper``: another bound, not exceeded. Groups are ignored, which only raises the bound.
    """
    shares = np.array([max(flavour.share, 0.0) for flavour in mix.flavours])
    found = priced(types_of(hosts), mix.demands, shares / shares.sum())
    flavour_of, _ = arrivals(mix, upper)
    value = np.cumsum(found.prices[flavour_of])
    alive: list[npt.NDArray[np.bool_]] = [np.ones(len(hosts), dtype=bool)]
    if survive != "none":
        domain = hosts.domains(survive)
        weight = (found.worth[np.unique(hosts.room, axis=0, return_inverse=True)[1].reshape(-1)] * 2**20).astype(
            np.int64
        )
        combinations, _ = losses(domain, spare, weight)
        alive += [~np.isin(domain, lost) for lost in combinations[:BOUNDED_LOSSES_MAX]]
    least = min(float(found.worth @ types_of(hosts, left).counts) for left in alive)
    return int((value <= least * (1 + 1e-9)).sum())


def planned(hosts: Hosts, mix: Mix) -> Ints:
    """Place as many machines of a mix, in order, as the LP's plan has room for once it is rounded down to whole hosts.

    Returns the host of each, int64 array. The few hosts that are left over are filled by first fit: there are at most
    as many as flavours and types. Groups are not kept apart.
    """
    shares = np.array([max(flavour.share, 0.0) for flavour in mix.flavours])
    types = types_of(hosts)
    found = priced(types, mix.demands, shares / shares.sum())
    fits = (found.patterns @ mix.demands <= types.room[found.type_of]).all(axis=1)
    times = np.where(fits, np.floor(found.times + IMPROVES), 0).astype(np.int64)
    kind_of = np.unique(hosts.room, axis=0, return_inverse=True)[1].reshape(-1)
    holds = np.zeros((len(hosts), len(mix.flavours)), dtype=np.int64)
    for kind in range(len(types.room)):
        mine = np.flatnonzero(kind_of == kind)
        columns = np.flatnonzero(found.type_of == kind)
        chosen = np.repeat(columns, times[columns])[: len(mine)]
        holds[mine[: len(chosen)]] = found.patterns[chosen]
    free = hosts.room - holds @ mix.demands
    return _in_order(msgspec.structs.replace(hosts, room=free), mix, holds)


def _in_order(hosts: Hosts, mix: Mix, holds: Ints) -> Ints:
    """Give machines in arrival order the places that are held for their flavour, then what first fit finds."""
    places = [
        np.repeat(np.arange(len(hosts)), holds[:, flavour]).tolist()[::-1] for flavour in range(len(mix.flavours))
    ]
    flavour_of, _ = arrivals(mix, int(holds.sum()) * 2 + len(hosts) + len(mix.flavours))
    scheduler = Scheduler(hosts, mix.demands, "first_fit")
    host_of = []
    for flavour in flavour_of.tolist():
        if places[flavour]:
            host_of.append(places[flavour].pop())
            continue
        host = scheduler.choose(flavour)
        if host == NOWHERE:
            break
        scheduler.put(flavour, host)
        host_of.append(host)
    return np.array(host_of, dtype=np.int64)


def fewest(room: Ints, demands: Ints, counts: Ints, first_fit: int) -> Fewest:
    """Find the fewest hosts of one type that hold ``counts`` machines (int64 array (flavours,)) of each flavour.

    ``room``: int64 array (3,); ``first_fit``: how many first fit takes, an upper bound. Raises: ValueError if a wanted
    machine is larger than a host.
    """
    if ((_alone(room, demands) < 1) & (counts > 0)).any():
        raise ValueError("a machine is larger than a host")
    types = Types(room=room[None, :], counts=np.array([first_fit]))
    patterns = [pattern for _, pattern in _columns(types, demands, counts)]
    used = counts @ demands
    volume = max(-(-int(used[d]) // int(room[d])) for d in range(3) if used[d] and room[d] < UNLIMITED)
    bound = volume
    for _ in range(ROUNDS_MAX):
        matrix = np.array(patterns)
        _, prices = _linear(np.ones(len(matrix)), -matrix.T.astype(np.float64), -counts.astype(np.float64))
        pattern, worth = knapsack(room, demands, prices, counts, 1 + IMPROVES)
        whole = float(prices @ counts)
        bound = max(bound, int(np.ceil(whole / max(1.0, worth) - 1e-6)))
        if prices @ pattern <= 1 + IMPROVES or bound >= int(np.ceil(whole - 1e-6)):
            break
        patterns.append(pattern)
    chosen, times = _whole_cover(room, demands, np.array(patterns), counts)
    best = min(first_fit, int(times.sum())) if times.size else first_fit
    if not times.size or int(times.sum()) > first_fit:
        chosen, times = chosen[:0], times[:0]
    return Fewest(volume=volume, bound=bound, first_fit=first_fit, hosts=best, patterns=chosen, times=times)


def _whole_cover(room: Ints, demands: Ints, patterns: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """The fewest patterns in whole numbers that hold all machines; nothing if no plan was found within the limit."""
    patterns = patterns[(patterns @ demands <= room).all(axis=1)]
    rows = LinearConstraint(patterns.T.astype(np.float64), counts, np.inf)
    times, _ = _whole(np.ones(len(patterns)), rows, Bounds(0, np.inf), GAP)
    if times is None or (patterns.T @ times < counts).any():
        return patterns[:0], np.empty(0, dtype=np.int64)
    return patterns[times > 0], times[times > 0]


def _whole(cost: Floats, rows: LinearConstraint, bounds: Bounds, gap: float) -> tuple[Ints | None, float]:
    """Minimise ``cost`` over whole numbers: what was found (None within the limit), and what no solution is below."""
    with quiet_stdout():
        solved = milp(
            cost,
            constraints=rows,
            bounds=bounds,
            integrality=np.ones(len(cost), dtype=np.int64),
            options={"mip_rel_gap": gap, "node_limit": NODES_MAX},
        )
    if solved.x is None:
        return None, -np.inf
    return np.rint(solved.x).astype(np.int64), float(solved.mip_dual_bound)
