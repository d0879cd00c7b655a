"""N+1 capacity of mirrored pairs (DRBD): how many instances fit if each node must be able to lose any one other.

Every instance has a primary node, where it runs and takes memory, and a secondary with a copy of its disk. A node keeps
as much memory free as the largest sum of its secondaries that share one primary node: those start on it together.

The allocation is that of Ganeti's ``hspace`` with standard (fixed-size) instances: every instance goes to the pair of
nodes whose choice gives the cluster the lowest score, until no pair passes the checks. The arithmetic follows it
operation by operation, since among equal nodes the last bits of the score decide.

Source: Ganeti 3.0 (BSD-2), the sources of htools: Node (checks), Cluster.MetricsComponents (score and weights),
Utils.Statistics (running deviations), Cluster (iterateAlloc), Constants (default policy: vcpu ratio 4, spindle
ratio 32). Checked against the hspace of Debian 12 (Ganeti 3.0.2).
"""

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

VCPU_RATIO = 4.0
SPINDLE_RATIO = 32.0
"""Units of disk load for each spindle of a node; an instance takes one on its primary and one on its secondary."""
NODE_CORES_OWN = 1
"""A simulated node keeps one core for itself."""
INSTANCES_MAX = 1_000_000


class DrbdNode(msgspec.Struct, frozen=True, kw_only=True):
    """One of the equal nodes. Sizes in MiB, as in Ganeti."""

    memory_mib: int = 65_536
    cores: int = 16
    disk_mib: int = 2 << 20
    spindles: int = 1


class DrbdInstance(msgspec.Struct, frozen=True, kw_only=True):
    """One of the equal instances. Its disk is there twice, its memory and cores once."""

    memory_mib: int = 4_096
    cores: int = 1
    disk_mib: int = 10_240


class DrbdCapacity(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What fits. ``pairs``: primary and secondary node of each instance, in the order they were allocated.

    ``ideal``: how many would fit if primaries and secondaries could be chosen at will: an upper bound by counting.
    ``primaries``: int64 array, shape (nodes,); ``reserved_mib``: int64 array, shape (nodes,), memory kept free.
    """

    instances: int
    ideal: int
    pairs: tuple[tuple[int, int], ...]
    primaries: Ints
    reserved_mib: Ints


def drbd_capacity(nodes: int, node: DrbdNode | None = None, instance: DrbdInstance | None = None) -> DrbdCapacity:
    """Allocate equal instances on equal nodes as ``hspace --simulate`` does, until none fits any more.

    Costs O(instances x nodes^2). Raises: ValueError if there is less than a pair of nodes.
    """
    if nodes < 2:
        raise ValueError("a pair needs two nodes")
    state = _State(nodes, node or DrbdNode(), instance or DrbdInstance())
    pairs: list[tuple[int, int]] = []
    for _ in range(INSTANCES_MAX):
        pair = state.best_pair()
        if pair is None:
            break
        state.add(*pair)
        pairs.append(pair)
    return DrbdCapacity(
        instances=len(pairs),
        ideal=_ideal(nodes, state.node, state.instance),
        pairs=tuple(pairs),
        primaries=state.primaries,
        reserved_mib=state.reserved_mib,
    )


def _ideal(nodes: int, node: DrbdNode, instance: DrbdInstance) -> int:
    """Count what memory admits: with ``r_j`` places kept free on node ``j``, node ``i`` has at most the sum of all the
    others' ``r_j`` primaries, and at most its own places less ``r_i``. The best is ``(nodes - 1) x places``, as if the
    storage were shared. A place only counts if more than it is free: Ganeti wants more free than it must reserve.
    """
    places = (node.memory_mib - 1) // instance.memory_mib
    cores = max(0, (int(node.cores * VCPU_RATIO) - NODE_CORES_OWN) // instance.cores)
    copies = int(SPINDLE_RATIO * node.spindles)
    if instance.disk_mib:
        copies = min(copies, (node.disk_mib - 1) // instance.disk_mib)
    return max(0, min((nodes - 1) * places, cores * nodes, copies * nodes // 2))


def evenly(nodes: int, node: DrbdNode | None = None, instance: DrbdInstance | None = None) -> int:
    """Count what fits if every node holds as many primaries as the next and spreads their secondaries evenly.

    That is where a balancing allocation steers to: ``p`` primaries and ``ceil(p / (nodes - 1))`` places kept free.
    Only memory is counted.
    """
    node, instance = node or DrbdNode(), instance or DrbdInstance()
    places = (node.memory_mib - 1) // instance.memory_mib
    return nodes * max(p for p in range(places + 1) if p + -(-p // (nodes - 1)) <= places)


class _State:
    """The nodes while instances are added. ``peers_mib[s, p]``: memory of secondaries on ``s`` with primary ``p``."""

    def __init__(self, nodes: int, node: DrbdNode, instance: DrbdInstance) -> None:
        self.nodes, self.node, self.instance = nodes, node, instance
        self.primaries = np.zeros(nodes, dtype=np.int64)
        self.secondaries = np.zeros(nodes, dtype=np.int64)
        self.peers_mib = np.zeros((nodes, nodes), dtype=np.int64)
        self.reserved_mib = np.zeros(nodes, dtype=np.int64)

    def add(self, primary: int, secondary: int) -> None:
        self.primaries[primary] += 1
        self.secondaries[secondary] += 1
        self.peers_mib[secondary, primary] += self.instance.memory_mib
        self.reserved_mib[secondary] = max(self.reserved_mib[secondary], self.peers_mib[secondary, primary])

    def best_pair(self) -> tuple[int, int] | None:
        """The allowed pair of the lowest score; of equal ones the last, as the fold over the pairs leaves it."""
        reserve = np.maximum(self.reserved_mib[None, :], self.peers_mib.T + self.instance.memory_mib)
        allowed = self._primary_allowed()[:, None] & self._secondary_allowed(reserve)
        np.fill_diagonal(allowed, False)
        if not allowed.any():
            return None
        score = np.where(allowed, self._scores(reserve), np.inf)
        last = score.size - 1 - int(np.argmin(score.ravel()[::-1]))
        return last // self.nodes, last % self.nodes

    def _free_mib(self, more: int = 0) -> Ints:
        return self.node.memory_mib - (self.primaries + more) * self.instance.memory_mib

    def _room_for_disk(self) -> npt.NDArray[np.bool_]:
        copies = self.primaries + self.secondaries + 1
        disk = self.node.disk_mib - copies * self.instance.disk_mib > 0
        spindles: npt.NDArray[np.bool_] = copies <= SPINDLE_RATIO * self.node.spindles
        return disk & spindles

    def _primary_allowed(self) -> npt.NDArray[np.bool_]:
        cores = NODE_CORES_OWN + (self.primaries + 1) * self.instance.cores
        memory = self._free_mib(1) > self.reserved_mib  # free memory that only equals the reserve is a failed N+1
        return memory & (cores / self.node.cores <= VCPU_RATIO) & self._room_for_disk()

    def _secondary_allowed(self, reserve: Ints) -> npt.NDArray[np.bool_]:
        """By pair [p, s]. ``reserve``: what each secondary would have to keep free then."""
        free = self._free_mib()
        allowed: npt.NDArray[np.bool_] = (free[None, :] > reserve) & (free > self.instance.memory_mib)
        return allowed & self._room_for_disk()[None, :]

    def _scores(self, reserve: Ints) -> Floats:
        """The score of the cluster by pair [p, s]; the terms in the order in which Ganeti adds them up."""
        node, copies = self.node, self.primaries + self.secondaries
        memory = _deviation(self._free_mib() / node.memory_mib, self._free_mib(1) / node.memory_mib, None)
        disks = [(node.disk_mib - (copies + more) * self.instance.disk_mib) / node.disk_mib for more in (0, 1)]
        disk = _deviation(disks[0], disks[1], disks[1])
        cores = [(NODE_CORES_OWN + (self.primaries + m) * self.instance.cores) / node.cores for m in (0, 1)]
        vcpus = _deviation(cores[0], cores[1], None)
        spindles = _total(*[(copies + more) / (SPINDLE_RATIO * node.spindles) for more in (0, 1)])
        load = _deviation(self.primaries / 1, (self.primaries + 1) / 1, None)
        disk_load = _deviation(copies / 1, (copies + 1) / 1, (copies + 1) / 1)
        before, after = self.reserved_mib / node.memory_mib, reserve / node.memory_mib
        count, whole, variance = _moments(before)
        reserved = np.sqrt(_updated(count, whole, variance, before[None, :], after)[1])
        reserved_total = whole + after - before[None, :]
        score = memory * 0.5 + disk * 0.5 + vcpus * 0.5 + spindles * 0.5 + reserved * 1.0 + load * 1.0 + load * 1.0
        score = score + disk_load * 1.0 + load * 1.0 + reserved_total * 0.25
        return score + memory * 0.5 + disk * 0.5 + vcpus * 0.5 + spindles * 0.5


def _moments(values: Floats) -> tuple[float, float, float]:
    """Count, sum and variance, added up one by one from the first node on."""
    count = float(len(values))
    whole = float(np.cumsum(values)[-1])
    centred = values - whole / count
    return count, whole, float(np.cumsum(centred * centred)[-1]) / count


def _updated(
    count: float, whole: Floats | float, variance: Floats | float, old: Floats, new: Floats
) -> tuple[Floats, Floats]:
    """Sum and variance after one value has changed, by Ganeti's update formula."""
    step = new - old
    squares = new * new - old * old
    change = (count * squares - 2 * whole * step) - step * step
    return whole + step, np.maximum(0.0, variance + change / (count * count))


def _deviation(values: Floats, as_primary: Floats, as_secondary: Floats | None) -> Floats:
    """The deviation over the nodes by pair [p, s], once node p, then (unless None) node s has its new value."""
    count, whole, variance = _moments(values)
    sums, variances = _updated(count, whole, variance, values, as_primary)
    if as_secondary is None:
        return np.asarray(np.sqrt(variances)[:, None])
    return np.sqrt(_updated(count, sums[:, None], variances[:, None], values[None, :], as_secondary[None, :])[1])


def _total(values: Floats, after: Floats) -> Floats:
    """The sum over the nodes by pair [p, s], once both have their new value."""
    first = float(np.cumsum(values)[-1]) + after - values
    return np.asarray(first[:, None] + after[None, :] - values[None, :])
