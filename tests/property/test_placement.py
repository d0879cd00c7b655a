"""Placement kept up to date equals placement from scratch, and both equal a dumb greedy model."""

from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.hashing import digest, draw, weighted
from core.ids import NO_NODE, DomainId, NodeId, RackId, ServiceName
from core.placement import Placement
from core.specs import NodeSpec, Run, ServiceSpec

SERVICES = tuple(ServiceName(f"s{i}") for i in range(7))
NODES = tuple(NodeId(f"n{i}") for i in range(12))

Solved = tuple[dict[ServiceName, list[NodeId]], dict[NodeId, list[ServiceName]]]
RUNS: tuple[Run, ...] = ("singleton", "singleton", "singleton", "count", "everywhere")
CALLS = ("service", "service", "node", "node", "node", "fit", "less", "gone", "pin", "not")


@dataclass
class Wanted:
    """What the calls so far add up to; ``solve`` takes all pairs from the best on and accepts what fits."""

    levels: int
    services: dict[ServiceName, ServiceSpec] = field(default_factory=dict)
    nodes: dict[NodeId, tuple[NodeSpec, bool]] = field(default_factory=dict)
    excluded: set[tuple[ServiceName, NodeId]] = field(default_factory=set)
    pins: dict[ServiceName, NodeId] = field(default_factory=dict)

    def fresh(self) -> Placement:
        """Build a placement from scratch, in an order unlike that of the calls."""
        placement = Placement(self.levels)
        for service, node in sorted(self.excluded, reverse=True):
            placement.exclude(service, node, True)
        for name in sorted(self.services):
            placement.set_service(self.services[name])
        for service, node in sorted(self.pins.items()):
            placement.pin(service, node)
        for node in sorted(self.nodes):
            placement.set_node(*self.nodes[node])
        return placement

    def domain(self, node: NodeSpec) -> str:
        specs = [spec for spec, _ in self.nodes.values()]
        if self.levels > 1 and len({spec.power_domain for spec in specs}) > 1:
            return node.power_domain
        return node.rack if self.levels > 1 and len({spec.rack for spec in specs}) > 1 else ""

    def usable(self, name: ServiceName, node: NodeId) -> bool:
        spec, fit = self.nodes.get(node, (None, False))
        return spec is not None and fit and spec.weight > 0 and (name, node) not in self.excluded

    def ranking(self, name: ServiceName) -> list[tuple[int, str, int, NodeId]]:
        weights: dict[str, int] = {}
        for spec, _ in self.nodes.values():
            weights[self.domain(spec)] = weights.get(self.domain(spec), 0) + spec.weight
        entries = []
        for node, (spec, _) in self.nodes.items():
            if self.usable(name, node):
                domain, mine = self.domain(spec), digest(name)
                flat = domain == ""
                cost = 0 if flat else weighted(draw(mine, digest(f"domain {domain}")), weights[domain])
                entries.append((cost, domain, weighted(draw(mine, digest(node)), spec.weight), node))
        return sorted(entries)

    def fits(self, name: ServiceName, node: NodeId, on: dict[NodeId, list[ServiceName]]) -> bool:
        spec = self.nodes[node][0]
        mine = self.services[name]
        everywhere = [each for each in self.services.values() if each.run == "everywhere"]
        others = [self.services[each] for each in on[node] if each != name]
        if any(mine.name in each.anti_affinity or each.name in mine.anti_affinity for each in others):
            return False
        cores = spec.cores - sum(each.cores for each in everywhere + others)
        memory = spec.memory_bytes - sum(each.memory_bytes for each in everywhere + others)
        return mine.cores <= max(cores, 0) and mine.memory_bytes <= max(memory, 0)

    def solve(self) -> Solved:
        placed: dict[ServiceName, list[NodeId]] = {name: [] for name in self.services}
        on: dict[NodeId, list[ServiceName]] = {node: [] for node in self.nodes}
        settled = set()
        for name, node in self.pins.items():
            if name in self.services and self.services[name].run == "singleton" and node in self.nodes:
                on[node].append(name)
                if self.usable(name, node):
                    placed[name].append(node)
                    settled.add(name)
        pairs = [
            (at, *entry, name)
            for name, spec in self.services.items()
            if spec.run != "everywhere" and name not in settled
            for at in range(spec.count if spec.run == "count" else 1)
            for entry in self.ranking(name)
        ]
        taken: set[tuple[int, str, str]] = set()
        for at, _, domain, _, node, name in sorted(pairs):
            want = self.services[name].count if self.services[name].run == "count" else 1
            free = len(placed[name]) < want and (at, domain, name) not in taken and node not in placed[name]
            if free and self.fits(name, node, on):
                placed[name].append(node)
                on[node].append(name)
                taken.add((at, domain, name))
        return placed, on

    def candidates(self, name: ServiceName, k: int, solved: Solved) -> list[NodeId]:
        placed, on = solved
        rest = [node for *_, node in self.ranking(name) if node not in placed[name] and self.fits(name, node, on)]
        return (placed[name] + rest)[:k]


def _spec(data: st.DataObject, name: ServiceName) -> ServiceSpec:
    run = data.draw(st.sampled_from(RUNS))
    return ServiceSpec(
        name=name,
        run=run,
        count=data.draw(st.integers(1, 4)),
        cores=data.draw(st.integers(0, 2 if run == "everywhere" else 6)),
        memory_bytes=data.draw(st.integers(0, 4)),
        anti_affinity=tuple(data.draw(st.lists(st.sampled_from(SERVICES), max_size=2))) if run != "everywhere" else (),
    )


def _node(data: st.DataObject, node: NodeId) -> NodeSpec:
    return NodeSpec(
        id=node,
        rack=RackId(data.draw(st.sampled_from(("r1", "r2", "r3")))),
        power_domain=DomainId(data.draw(st.sampled_from(("p1", "p1", "p2")))),
        weight=data.draw(st.sampled_from((100, 100, 50, 300, 0))),
        cores=data.draw(st.integers(0, 12)),
        memory_bytes=data.draw(st.integers(0, 9)),
    )


def _apply(data: st.DataObject, wanted: Wanted, placement: Placement) -> None:
    name, node = data.draw(st.sampled_from(SERVICES)), data.draw(st.sampled_from(NODES))
    match data.draw(st.sampled_from(CALLS)):
        case "service":
            spec = wanted.services[name] = _spec(data, name)
            placement.set_service(spec)
        case "node":
            wanted.nodes[node] = _node(data, node), data.draw(st.booleans())
            placement.set_node(*wanted.nodes[node])
        case "fit" if node in wanted.nodes:
            wanted.nodes[node] = wanted.nodes[node][0], not wanted.nodes[node][1]
            placement.set_node(*wanted.nodes[node])
        case "gone":
            wanted.nodes.pop(node, None)
            placement.remove_node(node)
        case "less":
            wanted.services.pop(name, None)
            wanted.pins.pop(name, None)
            wanted.excluded = {each for each in wanted.excluded if each[0] != name}
            placement.remove_service(name)
        case "pin":
            wanted.pins.pop(name, None)
            if data.draw(st.booleans()):
                wanted.pins[name] = node
            placement.pin(name, wanted.pins.get(name, NO_NODE))
        case "not":
            on = data.draw(st.booleans())
            wanted.excluded = wanted.excluded | {(name, node)} if on else wanted.excluded - {(name, node)}
            placement.exclude(name, node, on)
        case _:
            pass


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.sampled_from((1, 2)))
def test_any_history_gives_what_the_dumb_model_gives(data: st.DataObject, levels: int) -> None:
    wanted, placement = Wanted(levels), Placement(levels)
    for _ in range(data.draw(st.integers(1, 40))):
        _apply(data, wanted, placement)
        solved = placed, _ = wanted.solve()
        for name, spec in wanted.services.items():
            expected = [] if spec.run == "everywhere" else placed[name]
            assert list(placement.assigned(name)) == expected
            if spec.run == "singleton":
                assert list(placement.candidates(name, 3)) == wanted.candidates(name, 3, solved)
    fresh = wanted.fresh()
    for name, spec in wanted.services.items():
        assert fresh.assigned(name) == placement.assigned(name)
        if spec.run == "singleton":
            assert fresh.candidates(name, 3) == placement.candidates(name, 3)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(20, 60), st.sampled_from((1, 2)))
def test_many_nodes_come_and_go_and_nothing_remembers_it(seed: int, steps: int, levels: int) -> None:
    """Long rankings: the lists of best nodes and domains are cut, used up and refilled."""
    placement, nodes = Placement(levels), dict[NodeId, tuple[NodeSpec, bool]]()
    services = [ServiceSpec(name=ServiceName(f"s{i}"), run="singleton", cores=1 + i % 3) for i in range(60)]
    for service in services:
        placement.set_service(service)
    for step in range(steps * 4):
        bits = draw(seed, step)
        node = NodeSpec(
            id=NodeId(f"n{bits % 150}"),
            rack=RackId(f"r{bits % 150 % 30}"),
            power_domain=DomainId("p"),
            cores=4,
        )
        if bits >> 20 & 3 == 0:
            nodes.pop(node.id, None)
            placement.remove_node(node.id)
        else:
            nodes[node.id] = node, bits >> 22 & 7 != 0
            placement.set_node(*nodes[node.id])
        for service in services[step % 6 :: 6]:
            assert placement.candidates(service.name)[:1] == placement.assigned(service.name)
    fresh = Placement(levels)
    for each in sorted(nodes):
        fresh.set_node(*nodes[each])
    for service in reversed(services):
        fresh.set_service(service)
    assert all(fresh.assigned(s.name) == placement.assigned(s.name) for s in services)
    assert all(fresh.candidates(s.name) == placement.candidates(s.name) for s in services)
