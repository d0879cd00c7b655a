"""Placement: time from scratch and per change, and how many services move when a node or a rack is lost.

Peers in the same run: the textbook's rendezvous hashing in floats (one hash and one logarithm per pair), and the
optimum of movement (only the services of what was lost). CPU time; medians over several losses.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from statistics import median
from time import process_time

from bench.table import Row, show
from core.ids import DomainId, NodeId, RackId, ServiceName
from core.placement import Placement
from core.specs import NodeSpec, ServiceSpec

LOSSES = 9
UNBOUNDED = 1 << 20
MEAN = 20
"""Services per node in the table of movement."""


def node(i: int, racks: int, cores: int = UNBOUNDED) -> NodeSpec:
    """Return node ``i`` of a room with one power domain and ``racks`` racks."""
    return NodeSpec(id=NodeId(f"n{i}"), rack=RackId(f"r{i % racks}"), power_domain=DomainId("p"), cores=cores)


def build(services: int, nodes: list[NodeSpec], levels: int = 2) -> Placement:
    """Return a placement of singletons that take one core each, built from scratch."""
    placement = Placement(levels)
    for each in nodes:
        placement.set_node(each)
    for i in range(services):
        placement.set_service(ServiceSpec(name=ServiceName(f"s{i}"), run="singleton", cores=1))
    return placement


def textbook(name: str, nodes: list[NodeSpec]) -> str:
    """Return the node of one service by weighted rendezvous hashing as the textbook has it: floats, every pair."""
    best, chosen = -math.inf, ""
    for each in nodes:
        bits = int.from_bytes(blake2b(f"{name}/{each.id}".encode(), digest_size=8).digest(), "big")
        score = -each.weight / math.log((bits + 0.5) / 2**64)
        if score > best:
            best, chosen = score, each.id
    return chosen


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """Return the least CPU time of several runs."""
    times = []
    for _ in range(repeats):
        begin = process_time()
        run()
        times.append(process_time() - begin)
    return min(times)


class Movement:
    """One layout and cap; loses nodes and racks, and gives services moved / services that had to."""

    def __init__(self, racks: int, per_rack: int, ratio: float, levels: int) -> None:
        self.cap = round(MEAN * ratio) if ratio else UNBOUNDED
        self.nodes = [node(i, racks, self.cap) for i in range(racks * per_rack)]
        self.placement = build(MEAN * len(self.nodes), self.nodes, levels)
        self.names = [ServiceName(f"s{i}") for i in range(MEAN * len(self.nodes))]
        self.before = {name: self.placement.assigned(name) for name in self.names}

    @property
    def deviations(self) -> float:
        """Return the headroom in Poisson deviations."""
        return (self.cap - MEAN) / math.sqrt(MEAN)

    def node_lost(self) -> float:
        """Return the median where the lost node stays known and is unfit."""
        return median(self._lose([each], known=True) for each in self._chosen())

    def node_removed(self) -> float:
        """Return the median where the node is removed, and its weight from its rack."""
        return median(self._lose([each], known=False) for each in self._chosen())

    def rack_lost(self) -> float:
        """Return the median over three racks whose nodes stay known."""
        racks = [[other for other in self.nodes if other.rack == each.rack] for each in self.nodes[:3]]
        return median(self._lose(rack, known=True) for rack in racks)

    def worst_load(self) -> float:
        """Return the largest load over the mean."""
        loads = Counter(held for nodes in self.before.values() for held in nodes)
        return max(loads.values()) / MEAN

    def _chosen(self) -> Iterable[NodeSpec]:
        return self.nodes[:: len(self.nodes) // LOSSES][:LOSSES]

    def _lose(self, nodes: list[NodeSpec], known: bool) -> float:
        lost = {each.id for each in nodes}
        for each in nodes:
            if known:
                self.placement.set_node(each, fit=False)
            else:
                self.placement.remove_node(each.id)
        moves = sum(self.placement.assigned(name) != held for name, held in self.before.items())
        for each in nodes:
            self.placement.set_node(each)
        return moves / max(sum(held[0] in lost for held in self.before.values() if held), 1)


def speed_rows(services: int, racks: int, per_rack: int) -> Iterator[Row]:
    """Measure one size: from scratch, per change of membership, per change of fitness."""
    nodes = [node(i, racks) for i in range(racks * per_rack)]
    what = f"{services:,} services, {racks} x {per_rack} nodes"
    scratch = seconds(lambda: build(services, nodes))
    placement = build(services, nodes)
    chosen = nodes[:: len(nodes) // 200][:200]

    def membership() -> None:
        for each in chosen:
            placement.remove_node(each.id)
            placement.set_node(each)

    def fitness() -> None:
        for each in chosen:
            placement.set_node(each, fit=False)
            placement.set_node(each, fit=True)

    change, fit = seconds(membership) / (2 * len(chosen)), seconds(fitness) / (2 * len(chosen))
    large = services == 1_000
    yield Row(what=f"{what}: from scratch", measured=f"{scratch:.3f} s", target="<= 2 s", ok=scratch <= 2)
    yield Row(
        what=f"{what}: a node comes or goes",
        measured=f"{change * 1e6:.1f} us",
        target="" if large else "<= 15 us",
        ok=None if large else change <= 15e-6,
    )
    yield Row(
        what="  from scratch / a node comes or goes",
        measured=f"{scratch / change:,.0f} x",
        target=">= 500 x",
        ok=scratch >= 500 * change,
    )
    yield Row(what="  from scratch / a node is lost or comes back", measured=f"{scratch / fit:,.0f} x")
    peer = seconds(lambda: [textbook(f"s{i}", nodes) for i in range(5)], repeats=1) / 5 * services
    yield Row(what="  textbook in floats (5 services measured) / scratch", measured=f"{peer / scratch:.0f} x")


def movement_rows(racks: int, per_rack: int, ratio: float, levels: int) -> Iterator[Row]:
    """Measure moved / optimum for one layout and cap."""
    movement = Movement(racks, per_rack, ratio, levels)
    layout = f"{racks} x {per_rack}" if levels > 1 else f"flat {racks * per_rack}"
    head = f"{movement.deviations:.1f} deviations" if ratio else "unbounded"
    what = f"{MEAN} a node, {layout}, cap/mean {ratio or 'none'} ({head}; max/mean {movement.worst_load():.2f})"
    limit = 1.0 if not ratio else 1.1 if movement.deviations >= 1.6 else None
    lost = movement.node_lost()
    target = f"<= {limit} x" if limit else ""
    yield Row(what=f"{what}: node lost", measured=f"{lost:.2f} x", target=target, ok=lost <= limit if limit else None)
    if levels > 1:
        removed = movement.node_removed()
        bound = removed <= 2 if not ratio else None
        yield Row(
            what="  node removed", measured=f"{removed:.2f} x", target="<= 2.0 x" if bound is not None else "", ok=bound
        )
        yield Row(what="  rack lost", measured=f"{movement.rack_lost():.2f} x")


def rows() -> Iterator[Row]:
    """Measure speed, then movement."""
    yield from speed_rows(1_000, 100, 100)
    yield from speed_rows(10, 100, 100)
    yield from speed_rows(10, 250, 40)
    for ratio in (0.0, 1.05, 1.1, 1.25, 1.4):
        yield from movement_rows(5, 20, ratio, levels=1)
    for ratio in (0.0, 1.1, 1.25, 1.4, 1.5):
        yield from movement_rows(12, 20, ratio, levels=2)


def main() -> None:
    """Print the table."""
    print(show("placement", rows()))


if __name__ == "__main__":
    main()
