"""What one machine feeds to the placement, and what it asks of it: changes are noted now and placed when asked for.

Placement depends on nothing but its input, so machines in one process may share a ``Solver``: the first of them that
has seen a change places it, the others find the solver in the state they need. A machine alone has one for itself.
"""

from functools import lru_cache
from hashlib import blake2b

import msgspec

from core.ids import NO_NODE, NO_VOLUME, DomainId, NodeId, RackId, ServiceName
from core.placement import Placement
from core.records import MemberRecord
from core.specs import NodeSpec, ServiceSpec

_MASK = (1 << 128) - 1


class Offer(msgspec.Struct, frozen=True):
    """What one member offers to the placement; ``key`` are 128 well mixed bits of all of it."""

    node: NodeSpec
    fit: bool
    unfit: tuple[ServiceName, ...]
    storage_ok: bool
    key: int


class Solver:
    """A placement that can be brought to the input of any of the machines that share it; ``key`` names its input.

    Machines of the inventory keep their share of their fault domain's weight while they are away, so that the loss of
    one moves nothing but what it ran.
    """

    def __init__(self, services: tuple[ServiceSpec, ...], inventory: tuple[NodeSpec, ...]) -> None:
        self.key = 0
        self.placement = Placement()
        self._inventory = {node.id: node for node in inventory}
        for node in inventory:
            self.placement.set_node(node, fit=False)
        self._placed = [spec for spec in services if spec.run != "everywhere"]
        self._offers: dict[NodeId, Offer] = {}
        self._pins: dict[str, NodeId] = {}
        for spec in services:
            self.placement.set_service(spec)

    def move(self, key: int, offers: dict[NodeId, Offer], pins: dict[str, NodeId], changed: dict[NodeId, None]) -> None:
        """Take the input named ``key``, which differs from the present one in the members ``changed`` at most."""
        for node in changed:
            new, old = offers.get(node), self._offers.get(node)
            if new is not old and (new is None or old is None or new.key != old.key):
                self._set(node, new)
        if pins != self._pins:
            for service in (*self._pins, *pins):
                self.placement.pin(ServiceName(service), pins.get(service, NO_NODE))
            self._pins = dict(pins)
        self.key = key

    def differing(self, offers: dict[NodeId, Offer]) -> dict[NodeId, None]:
        """List the members that may differ from the present ones. O(members)."""
        mine = self._offers
        found = {node: None for node, offer in offers.items() if mine.get(node) is not offer}
        found.update((node, None) for node in mine if node not in offers)
        return found

    def _set(self, node: NodeId, offer: Offer | None) -> None:
        if offer is None:
            del self._offers[node]
            if node in self._inventory:
                self.placement.set_node(self._inventory[node], fit=False)
            else:
                self.placement.remove_node(node)
            return
        self._offers[node] = offer
        for spec in self._placed:
            barred = spec.name in offer.unfit or (spec.volume != NO_VOLUME and not offer.storage_ok)
            self.placement.exclude(spec.name, node, barred)
        self.placement.set_node(offer.node, offer.fit)


Solvers = dict[tuple[tuple[ServiceSpec, ...], tuple[NodeSpec, ...]], Solver]
"""The solvers that the machines of one process share, by what they place."""


class Assignments:
    """One machine's members and pins, and where the services should run with them."""

    __slots__ = (
        "_asked", "_asked_key", "_candidates", "_changed", "_key", "_offers", "_pins", "_ranks", "_solver", "_was",
    )  # fmt: skip

    def __init__(
        self, services: tuple[ServiceSpec, ...], shared: Solvers, inventory: tuple[NodeSpec, ...] = ()
    ) -> None:
        what = (services, inventory)
        if what not in shared:
            shared[what] = Solver(services, inventory)
        self._solver = shared[what]
        self._offers: dict[NodeId, Offer] = {}
        self._pins: dict[str, NodeId] = {}
        self._key = self._was = self._asked_key = 0
        self._asked: dict[str, tuple[NodeId, ...]] = {}
        self._candidates: dict[tuple[str, int], tuple[NodeId, ...]] = {}
        self._ranks: dict[tuple[str, NodeId, int], int | None] = {}
        self._changed: dict[NodeId, None] = {}

    def set_member(self, member: MemberRecord) -> None:
        """Add or replace a member, as far as it is fit. O(1)."""
        new, old = offer_of(member), self._offers.get(member.node)
        if new is old:
            return
        self._key = (self._key + new.key - (old.key if old is not None else 0)) & _MASK
        self._offers[member.node] = new
        self._changed[member.node] = None

    def remove_member(self, node: NodeId) -> None:
        """Forget a member; an unknown one is ignored. O(1)."""
        old = self._offers.pop(node, None)
        if old is not None:
            self._key = (self._key - old.key) & _MASK
            self._changed[node] = None

    def pin(self, service: ServiceName, node: NodeId) -> None:
        """Record which node actually holds a singleton; ``NO_NODE`` when none does."""
        old = self._pins.pop(service, NO_NODE)
        self._key = (self._key + _pin_key(service, node) - _pin_key(service, old)) & _MASK
        if node != NO_NODE:
            self._pins[service] = node

    def assigned(self, service: ServiceName) -> tuple[NodeId, ...]:
        """Return where a service should run, best first; see ``Placement.assigned``."""
        self._forget_answers()
        found = self._asked.get(service)
        if found is None:
            found = self._asked[service] = self._placement().assigned(service)
        return found

    def candidates(self, service: ServiceName, k: int = 4) -> tuple[NodeId, ...]:
        """Return up to ``k`` nodes that could take a singleton now; see ``Placement.candidates``."""
        self._forget_answers()
        found = self._candidates.get((service, k))
        if found is None:
            found = self._candidates[service, k] = self._placement().candidates(service, k)
        return found

    def rank(self, service: ServiceName, node: NodeId, k: int = 4) -> int | None:
        """Return where a node stands among the candidates; see ``Placement.rank``."""
        self._forget_answers()
        asked = (service, node, k)
        if asked not in self._ranks:
            self._ranks[asked] = self._placement().rank(service, node, k)
        return self._ranks[asked]

    def _forget_answers(self) -> None:
        """Drop what was asked before the last change: the answers depend on nothing but what ``_key`` names."""
        if self._asked_key != self._key:
            self._asked_key = self._key
            self._asked.clear()
            self._candidates.clear()
            self._ranks.clear()

    def _placement(self) -> Placement:
        """The placement for our input; O(changes) unless another machine has moved the solver elsewhere."""
        solver, key = self._solver, self._key
        if key != self._was or solver.key != key:
            if solver.key != key:
                changed = self._changed if solver.key == self._was else solver.differing(self._offers)
                solver.move(key, self._offers, self._pins, changed)
            self._was = key
            self._changed.clear()
        return solver.placement


@lru_cache(maxsize=1 << 16)
def offer_of(member: MemberRecord) -> Offer:
    """Return what a member offers to the placement (cached: the members of one process see the same records)."""
    return _offer(
        member.node,
        member.rack,
        member.power_domain,
        (member.weight, member.cores, member.memory_bytes),
        member.fit,
        member.unfit,
        member.storage_ok,
    )


@lru_cache(maxsize=1 << 16)
def _offer(
    node: NodeId,
    rack: RackId,
    domain: DomainId,
    size: tuple[int, int, int],
    fit: bool,
    unfit: tuple[ServiceName, ...],
    storage_ok: bool,
) -> Offer:
    weight, cores, memory_bytes = size
    spec = NodeSpec(id=node, rack=rack, power_domain=domain, weight=weight, cores=cores, memory_bytes=memory_bytes)
    return Offer(spec, fit, unfit, storage_ok, _bits(msgspec.json.encode((spec, fit, unfit, storage_ok))))


@lru_cache(maxsize=1 << 12)
def _pin_key(service: str, node: NodeId) -> int:
    return _bits(msgspec.json.encode((service, node))) if node != NO_NODE else 0


def _bits(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=16).digest(), "big")
