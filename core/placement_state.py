"""What placement knows of a node, a fault domain and a service that looks for nodes: plain mutable records."""

from dataclasses import dataclass, field

from core.hashing import digest, draw, weighted
from core.ids import NO_NODE, NodeId, ServiceName
from core.placement_rank import TopList
from core.specs import NodeSpec, ServiceSpec

Ask = tuple[int, int, int, str]
"""How a node ranks one request: round, the domain's draw, the node's cost, service."""
Position = tuple[int, int, str, int, str]
"""How a service ranks a node: round, the domain's cost, domain, the node's cost, node."""
FIRST_ASK: Ask = (-1, 0, 0, "")


@dataclass(slots=True, eq=False)
class Room:
    """One node and who asked for it. ``cores`` and ``memory_bytes`` are what nobody has taken (below 0: overdrawn)."""

    node: NodeSpec
    domain: "Domain"
    fit: bool
    digest: int
    cores: int
    memory_bytes: int
    asks: dict[Ask, "Asker"] = field(default_factory=dict)
    won: dict[Ask, "Asker"] = field(default_factory=dict)
    pinned: dict[str, "Asker"] = field(default_factory=dict)
    readers: dict[str, "Asker"] = field(default_factory=dict)

    def take(self, spec: ServiceSpec, sign: int = 1) -> None:
        """Take the demand of ``spec``, or give it back for sign -1."""
        self.cores -= sign * spec.cores
        self.memory_bytes -= sign * spec.memory_bytes
        self.forget()

    def forget(self) -> None:
        """Drop the candidates that services have found by looking at this node."""
        for asker in self.readers.values():
            asker.found = None
        self.readers.clear()


@dataclass(slots=True, eq=False)
class Domain:
    """One fault domain. ``weight`` is absolute: the sum over its known nodes; ``visitors`` rank its nodes."""

    id: str
    digest: int
    weight: int = 0
    rooms: dict[str, Room] = field(default_factory=dict)
    visitors: dict[str, "Asker"] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Step:
    """One node a service has asked, and whether it was accepted (None: not decided yet)."""

    round: int
    cost: int
    room: Room
    ask: Ask
    won: bool | None = None


@dataclass(slots=True, eq=False)
class Asker:
    """One service that looks for ``want`` nodes, the nodes it asked in order, and the rankings it needs for that.

    ``settled_at`` is the node of a pin that holds. ``found`` are its first ``found_for`` candidates while they are
    known, ``found_last`` cost and node where that search ended (None: it saw every node).
    """

    spec: ServiceSpec
    digest: int
    want: int
    draws: dict[str, int] = field(default_factory=dict)
    domains: TopList = field(default_factory=TopList)
    nodes: dict[str, TopList] = field(default_factory=dict)
    steps: dict[tuple[int, str], Step] = field(default_factory=dict)
    excluded: dict[NodeId, None] = field(default_factory=dict)
    pin: NodeId = NO_NODE
    settled_at: NodeId = NO_NODE
    copies: int = 0
    found: tuple[NodeId, ...] | None = None
    found_for: int = 0
    found_last: tuple[int, Room] | None = None

    @property
    def name(self) -> ServiceName:
        """Return the name of the service."""
        return self.spec.name

    def domain_cost(self, domain: Domain) -> int:
        """Return what a domain costs this service at the domain's present weight."""
        return weighted(self.draws[domain.id], domain.weight)

    def node_cost(self, room: Room) -> int:
        """Return what a node costs this service within its domain."""
        return weighted(draw(self.digest, room.digest), room.node.weight)

    def position(self, step: Step) -> Position:
        """Return where a step stands in this service's ranking."""
        domain = step.room.domain
        return step.round, self.domain_cost(domain), domain.id, step.cost, step.room.node.id

    def may_use(self, room: Room) -> bool:
        """Tell whether the node is fit and not excluded for this service."""
        return room.fit and room.node.weight > 0 and room.node.id not in self.excluded


def new_asker(spec: ServiceSpec) -> Asker:
    """Return a service that has asked nobody yet."""
    return Asker(spec, digest(spec.name), spec.count if spec.run == "count" else 1)
