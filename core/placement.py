"""Who should run what: the same answer on every node, from nothing but specs, fitness, exclusions and pins.

A service ranks fault domains by weighted rendezvous hashing and the nodes within a domain likewise; nodes accept
within absolute capacities (``core.placement_match``). The answer does not depend on the order of the calls.

* A fault domain is a power domain where nodes of several are known, else a rack where nodes of several are known;
  with one domain, or ``levels=1``, the choice is flat.
* A domain weighs the sum of its known nodes, fit or not. So a node that is lost or drained should stay known and be
  set unfit: then only its own services move (1.0 x the optimum); removing it also takes its share of the domain's
  weight away (at most 2.0 x, for a node that retires). Nothing is recomputed from a mean: caps never move.
* Copies of one count-service take one node of each domain before a second one of any.
* A singleton pinned to a node that may run it stays there; pinned to another, it still takes its room there and
  is placed elsewhere as well.

Source: own measurements, which ``bench/placement.py`` repeats (a removed node 1.7-1.85 x, an unfit one 1.0 x).
"""

from core.ids import NO_NODE, NodeId, ServiceName
from core.placement_candidates import assigned_of, candidates_of, rank_of
from core.placement_domains import domain_draw, drop_room, new_room, set_barred, set_fit
from core.placement_match import Matching
from core.placement_state import Asker, Room, new_asker
from core.specs import NodeSpec, ServiceSpec


class Placement:
    """The current placement, kept up to date: O(services) per change of a node, never O(services x nodes).

    Changes are taken at once and settled together when something is asked.
    Building from scratch is cheapest with the nodes first and the services last.
    """

    def __init__(self, levels: int = 2) -> None:
        self._levels = levels
        self._specs: dict[str, ServiceSpec] = {}
        self._everywhere: dict[str, ServiceSpec] = {}
        self._excluded: dict[str, dict[NodeId, None]] = {}
        self._pins: dict[str, NodeId] = {}
        self._pins_on: dict[str, dict[ServiceName, None]] = {}
        self._power: dict[str, int] = {}
        self._racks: dict[str, int] = {}
        self._grouping = "flat"
        self._matching = Matching(flat=True)

    def set_service(self, spec: ServiceSpec) -> None:
        """Add or replace a service. One that runs everywhere only charges its demand to every node."""
        if spec in (self._specs.get(spec.name), self._everywhere.get(spec.name)):
            return
        self._forget(spec.name)
        if spec.run == "everywhere":
            self._everywhere[spec.name] = spec
            self._charge_all(spec, 1)
        else:
            self._admit(spec)

    def remove_service(self, name: ServiceName) -> None:
        """Forget a service with its pin and its exclusions; an unknown one is ignored."""
        self.pin(name, NO_NODE)
        self._forget(name)
        self._excluded.pop(name, None)

    def set_node(self, node: NodeSpec, fit: bool = True) -> None:
        """Add or replace a node; an unfit one (lost, draining) takes nothing but keeps its share of its domain."""
        room = self._matching.rooms.get(node.id)
        if room is not None and room.node == node:
            self._set_fit(room, fit)
        else:
            if room is not None:
                self._remove_room(room)
            self._add_room(node, fit)

    def remove_node(self, node_id: NodeId) -> None:
        """Forget a node (retired); an unknown one is ignored."""
        room = self._matching.rooms.get(node_id)
        if room is not None:
            self._remove_room(room)
            self._regroup()

    def exclude(self, service: ServiceName, node_id: NodeId, on: bool) -> None:
        """Set whether a node is unfit for one service; nodes and services may become known later."""
        excluded = self._excluded.setdefault(service, {})
        if on is (node_id in excluded):
            return
        if on:
            excluded[node_id] = None
        else:
            del excluded[node_id]
        asker, room = self._matching.askers.get(service), self._matching.rooms.get(node_id)
        if asker is not None and room is not None:
            set_barred(self._matching, asker, room, on)
            self._refresh_pin(asker)

    def pin(self, service: ServiceName, node_id: NodeId) -> None:
        """Record which node actually holds a singleton; ``NO_NODE`` when none does."""
        old = self._pins.pop(service, NO_NODE)
        if old != NO_NODE:
            del self._pins_on[old][service]
            if not self._pins_on[old]:
                del self._pins_on[old]
        if node_id != NO_NODE:
            self._pins[service] = node_id
            self._pins_on.setdefault(node_id, {})[service] = None
        asker = self._matching.askers.get(service)
        if asker is not None and old != node_id:
            self._charge_pin(asker, old, -1)
            self._charge_pin(asker, node_id, 1)
            self._refresh_pin(asker)

    def assigned(self, service: ServiceName) -> tuple[NodeId, ...]:
        """Return where a service should run, best first: one node for a singleton, fewer than wanted if it fits not."""
        asker = self._settled(service)
        return () if asker is None else assigned_of(asker)

    def candidates(self, service: ServiceName, k: int = 4) -> tuple[NodeId, ...]:
        """Return up to ``k`` nodes that could take a singleton now: the assigned one, then by score."""
        asker = self._settled(service)
        return () if asker is None else candidates_of(self._matching, asker, k)

    def rank(self, service: ServiceName, node_id: NodeId, k: int = 4) -> int | None:
        """Return the index of a node among the candidates, ``k`` to ``k + 15`` by hash for another that could.

        None for a node that is unknown, unfit, excluded or without room.
        """
        asker = self._settled(service)
        return None if asker is None else rank_of(self._matching, asker, node_id, k)

    def domain_of(self, node: NodeSpec) -> str:
        """Return the fault domain of a node under the present grouping; empty where the choice is flat."""
        if self._grouping == "power":
            return node.power_domain
        return node.rack if self._grouping == "rack" else ""

    def _settled(self, service: ServiceName) -> Asker | None:
        self._matching.settle()
        return self._matching.askers.get(service)

    def _forget(self, name: ServiceName) -> None:
        demand, spec = self._everywhere.pop(name, None), self._specs.pop(name, None)
        if demand is not None:
            self._charge_all(demand, -1)
        if spec is not None:
            self._drop(spec)

    def _admit(self, spec: ServiceSpec) -> None:
        matching = self._matching
        self._specs[spec.name] = spec
        asker = matching.askers[spec.name] = new_asker(spec)
        asker.excluded = self._excluded.setdefault(spec.name, {})
        asker.draws = {domain.id: domain_draw(matching, asker, domain) for domain in matching.domains.values()}
        self._count_rivals(spec, 1)
        self._charge_pin(asker, self._pins.get(spec.name, NO_NODE), 1)
        self._refresh_pin(asker)
        matching.touch(asker, ())

    def _drop(self, spec: ServiceSpec) -> None:
        matching = self._matching
        asker = matching.askers[spec.name]
        matching.touch(asker, ())
        self._charge_pin(asker, self._pins.get(spec.name, NO_NODE), -1)
        for domain_id in asker.nodes:
            del matching.domains[domain_id].visitors[spec.name]
        self._count_rivals(spec, -1)
        del matching.askers[spec.name]

    def _charge_all(self, spec: ServiceSpec, sign: int) -> None:
        for room in self._matching.rooms.values():
            room.take(spec, sign)
            self._matching.loosen(room)

    def _charge_pin(self, asker: Asker, node_id: NodeId, sign: int) -> None:
        room = self._matching.rooms.get(node_id)
        if room is None or asker.spec.run != "singleton":
            return
        if sign > 0:
            room.pinned[asker.name] = asker
        else:
            del room.pinned[asker.name]
        room.take(asker.spec, sign)
        self._matching.loosen(room)

    def _refresh_pin(self, asker: Asker) -> None:
        """Set whether the pin settles this service; it asks anew when that changes."""
        room = self._matching.rooms.get(self._pins.get(asker.name, NO_NODE))
        usable = room is not None and asker.name in room.pinned and asker.may_use(room)
        settled_at = room.node.id if room is not None and usable else NO_NODE
        if settled_at != asker.settled_at:
            asker.settled_at = settled_at
            self._matching.touch(asker, ())

    def _count_rivals(self, spec: ServiceSpec, by: int) -> None:
        for other in spec.anti_affinity:
            for one, two in ((spec.name, other), (other, spec.name)) if other != spec.name else ():
                counts = self._matching.rivals.setdefault(one, {})
                counts[two] = counts.get(two, 0) + by
                if not counts[two]:
                    del counts[two]

    def _add_room(self, node: NodeSpec, fit: bool) -> None:
        self._count_groups(node, 1)
        self._regroup()
        self._insert_room(node, fit)

    def _insert_room(self, node: NodeSpec, fit: bool) -> None:
        room = new_room(self._matching, node, self.domain_of(node))
        for spec in self._everywhere.values():
            room.take(spec)
        for service in self._pins_on.get(node.id, ()):
            if service in self._matching.askers:
                self._charge_pin(self._matching.askers[service], node.id, 1)
        self._set_fit(room, fit)

    def _remove_room(self, room: Room) -> None:
        self._set_fit(room, False)
        for asker in tuple(room.pinned.values()):
            self._charge_pin(asker, room.node.id, -1)
        drop_room(self._matching, room)
        self._count_groups(room.node, -1)

    def _set_fit(self, room: Room, fit: bool) -> None:
        if room.fit is not fit:
            set_fit(self._matching, room, fit)
            for asker in room.pinned.values():
                self._refresh_pin(asker)

    def _count_groups(self, node: NodeSpec, by: int) -> None:
        for counts, group in ((self._power, node.power_domain), (self._racks, node.rack)):
            counts[group] = counts.get(group, 0) + by
            if not counts[group]:
                del counts[group]

    def _regroup(self) -> None:
        """Start over where the known nodes now form other fault domains."""
        several = "power" if len(self._power) > 1 else "rack" if len(self._racks) > 1 else "flat"
        grouping = several if self._levels > 1 else "flat"
        if grouping == self._grouping:
            return
        rooms = tuple(self._matching.rooms.values())
        self._grouping, self._matching = grouping, Matching(flat=grouping == "flat")
        for room in rooms:
            self._insert_room(room.node, room.fit)
        for spec in self._specs.values():
            self._admit(spec)
