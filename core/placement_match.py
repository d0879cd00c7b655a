"""Deferred acceptance of services by nodes, kept up to date: the bounded-load half of placement.

Both sides rank a pair by one score, so there is one stable matching whatever the order of events: that of
taking all pairs from the best score on and accepting each that still fits. A change at one pair can only alter
pairs behind it; the heap visits just those, best first.
Source: Gale, Shapley 1962; one matching for aligned preferences: Clark 2006, Niederle and Yariv 2009.
"""

from collections.abc import Iterator
from heapq import heappop, heappush

from core.placement_rank import Entry, TopList
from core.placement_state import FIRST_ASK, Ask, Asker, Domain, Position, Room, Step


class Matching:
    """All services and nodes, and who has accepted whom. Changes add up until ``settle``."""

    def __init__(self, flat: bool) -> None:
        self.flat = flat
        self.askers: dict[str, Asker] = {}
        self.rooms: dict[str, Room] = {}
        self.domains: dict[str, Domain] = {}
        self.rivals: dict[str, dict[str, int]] = {}
        self._loose: dict[str, Ask] = {}
        self._restart: dict[str, Asker] = {}
        self._heap: list[tuple[Position, str]] = []

    def touch(self, asker: Asker, position: tuple[int, int, str] | Position | tuple[()]) -> None:
        """Withdraw what ``asker`` asked at or behind ``position``; it goes on from there when things settle."""
        if asker.found is not None and (asker.found_last is None or self._standing(asker) >= position):
            asker.found = None
        last = next(reversed(asker.steps.values()), None)
        if last and asker.copies >= asker.want and asker.position(last) < position:
            return
        while last and asker.position(last) >= position:
            self._withdraw_last(asker)
            last = next(reversed(asker.steps.values()), None)
        self._restart[asker.name] = asker

    def loosen(self, room: Room, ask: Ask = FIRST_ASK) -> None:
        """Decide the requests behind ``ask`` anew when things settle."""
        if room.asks:
            node = room.node.id
            self._loose[node] = min(ask, self._loose.get(node, ask))

    def settle(self) -> None:
        """Decide everything that the changes have opened, best pair first, until the matching is stable."""
        if not (self._restart or self._loose or self._heap):
            return
        for asker in self._restart.values():
            if self.askers.get(asker.name) is asker:
                self._propose(asker)
        self._restart.clear()
        self._push_loose()
        while self._heap:
            position, name = heappop(self._heap)
            asker = self.askers[name]
            step = asker.steps.get((position[0], position[4]))
            if step is not None:
                self._decide(asker, step)
            self._push_loose()

    def fits(self, asker: Asker, room: Room, ask: Ask | None = None) -> bool:
        """Tell whether the node has room for ``asker`` beside those it ranks before ``ask`` (None: beside all)."""
        spec = asker.spec
        cores, memory_bytes = room.cores, room.memory_bytes
        rivals = self.rivals.get(spec.name)
        if not rivals and spec.cores <= cores and spec.memory_bytes <= memory_bytes:
            return True
        if rivals and any(name in rivals for name in room.pinned):
            return False
        for other_ask, other in room.won.items():
            if other is asker or (ask is not None and other_ask >= ask):
                cores += other.spec.cores
                memory_bytes += other.spec.memory_bytes
            elif rivals and other.spec.name in rivals:
                return False
        if spec.name in room.pinned:
            cores, memory_bytes = cores + spec.cores, memory_bytes + spec.memory_bytes
        return (not spec.cores or spec.cores <= cores) and (not spec.memory_bytes or spec.memory_bytes <= memory_bytes)

    def walk(self, asker: Asker) -> Iterator[tuple[int, Room]]:
        """Yield the nodes that ``asker`` may use and what they cost it, in the order of its ranking."""
        domain = self._domain_after(asker, None)
        while domain is not None:
            found = self._node_after(asker, domain, None)
            while found is not None:
                yield found
                found = self._node_after(asker, domain, (found[0], found[1].node.id))
            domain = self._domain_after(asker, domain)

    def _standing(self, asker: Asker) -> Position | tuple[()]:
        """Return the position of the last node among the candidates found."""
        if asker.found_last is None:
            return ()
        cost, room = asker.found_last
        return 0, asker.domain_cost(room.domain), room.domain.id, cost, room.node.id

    def _decide(self, asker: Asker, step: Step) -> None:
        won = self.fits(asker, step.room, step.ask)
        if won is step.won:
            return
        self._withdraw_behind(asker, step)
        was, step.won = step.won, won
        if won:
            step.room.won[step.ask] = asker
        elif was:
            del step.room.won[step.ask]
        if won or was:
            sign = 1 if won else -1
            asker.copies += sign
            step.room.take(asker.spec, sign)
            self.loosen(step.room, step.ask)
        self._propose(asker)

    def _withdraw_behind(self, asker: Asker, step: Step) -> None:
        while next(reversed(asker.steps.values())) is not step:
            self._withdraw_last(asker)

    def _withdraw_last(self, asker: Asker) -> None:
        _, step = asker.steps.popitem()
        room = step.room
        del room.asks[step.ask]
        if step.won:
            del room.won[step.ask]
            asker.copies -= 1
            room.take(asker.spec, -1)
            self.loosen(room, step.ask)

    def _push_loose(self) -> None:
        for node, least in self._loose.items():
            room = self.rooms.get(node)
            for ask, asker in room.asks.items() if room is not None else ():
                if ask > least:
                    heappush(self._heap, (asker.position(asker.steps[ask[0], node]), asker.name))
        self._loose.clear()

    def _propose(self, asker: Asker) -> None:
        """Ask the next node of the ranking, if copies are wanted that no pin has settled."""
        if asker.settled_at or asker.copies >= asker.want:
            return
        last = next(reversed(asker.steps.values()), None)
        found = self._next_room(asker, last)
        if found is None:
            return
        at, cost, room = found
        node = room.node.id
        step = Step(at, cost, room, (at, asker.draws[room.domain.id], cost, asker.name))
        asker.steps[at, node] = step
        room.asks[step.ask] = asker
        heappush(self._heap, (asker.position(step), asker.name))

    def _next_room(self, asker: Asker, last: Step | None) -> tuple[int, int, Room] | None:
        """Return round, cost and node to ask after ``last``: a round takes one node of each domain."""
        at, domain = 0, None
        if last is not None:
            at, domain = last.round, last.room.domain
            found = None if last.won else self._node_after(asker, domain, (last.cost, last.room.node.id))
            if found is not None:
                return at, *found
        found = self._first_room(asker, domain)
        if found is None and any(step.won and step.round == at for step in asker.steps.values()):
            at, found = at + 1, self._first_room(asker, None)
        return None if found is None else (at, *found)

    def _first_room(self, asker: Asker, behind: Domain | None) -> tuple[int, Room] | None:
        domain = self._domain_after(asker, behind)
        while domain is not None:
            found = self._node_after(asker, domain, None)
            if found is not None:
                return found
            domain = self._domain_after(asker, domain)
        return None

    def _domain_after(self, asker: Asker, domain: Domain | None) -> Domain | None:
        entry = None if domain is None else (asker.domain_cost(domain), domain.id)
        found = asker.domains.after(
            entry, lambda: ((asker.domain_cost(each), each.id) for each in self.domains.values() if each.weight)
        )
        return None if found is None else self.domains[found[1]]

    def _node_after(self, asker: Asker, domain: Domain, entry: Entry | None) -> tuple[int, Room] | None:
        """Return cost and the next node of a domain that the service may use and does not hold already."""
        ranking = asker.nodes.get(domain.id)
        if ranking is None:
            ranking = asker.nodes[domain.id] = TopList()
            domain.visitors[asker.name] = asker
        while True:
            entry = ranking.after(
                entry,
                lambda: (
                    (asker.node_cost(room), room.node.id) for room in domain.rooms.values() if asker.may_use(room)
                ),
            )
            if entry is None:
                return None
            room = domain.rooms[entry[1]]
            if not _holds(asker, room):
                return entry[0], room


def _holds(asker: Asker, room: Room) -> bool:
    return asker.want > 1 and any(step.won and step.room is room for step in asker.steps.values())
