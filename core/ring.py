"""Stewardship: which member looks after which node, and who owns a named duty, on a consistent-hash ring."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from functools import lru_cache

from core.hashing import digest
from core.ids import NO_NODE, NodeId

Place = tuple[int, NodeId]
"""Where a node sits on the ring: its digest, ties broken by id."""


class Ring:
    """The known nodes on a ring, some of them members. A change costs O(log n) comparisons.

    The steward of a node is the next member after it, other than itself; so a member's wards are the known
    nodes between its predecessor member and itself, and that predecessor.
    Source: consistent hashing (Karger et al. 1997), successor as in Chord (Stoica et al. 2001).
    """

    def __init__(self) -> None:
        self._known, self._is_known = _loaded(())
        self._shared = True
        self._members: list[Place] = []

    def load(self, ids: Iterable[NodeId], members: Iterable[NodeId]) -> None:
        """Replace everything: the known ids and which of them are members (members need not be repeated in ids)."""
        chosen = tuple(dict.fromkeys(members))
        self._members = sorted(_place(node) for node in chosen)
        self._known, self._is_known = _loaded((*ids, *chosen))
        self._shared = True

    def add(self, node: NodeId, member: bool) -> None:
        """Make ``node`` known and set whether it is a member; adding it again only sets that."""
        self._know(node)
        self.set_member(node, member)

    def remove(self, node: NodeId) -> None:
        """Forget ``node``; an unknown one is ignored."""
        self.set_member(node, False)
        if node in self._is_known:
            self._keep_own()
            del self._is_known[node]
            del self._known[bisect_left(self._known, _place(node))]

    def set_member(self, node: NodeId, member: bool) -> None:
        """Set whether ``node`` is a member; an unknown node becomes known when it becomes a member."""
        members, place = self._members, _place(node)
        at = bisect_left(members, place)
        there = at < len(members) and members[at] == place
        if there and not member:
            del members[at]
        elif member and not there:
            self._know(node)
            members.insert(at, place)

    def add_known(self, nodes: Iterable[NodeId]) -> bool:
        """Make nodes known, all at once; False if all of them were. O(known)."""
        new = [node for node in nodes if node not in self._is_known]
        if new:
            self._keep_own()
            self._is_known.update(dict.fromkeys(new))
            self._known = sorted([*self._known, *map(_place, new)])
        return bool(new)

    def add_members(self, nodes: Iterable[NodeId]) -> None:
        """Make members of nodes that are none, all at once. O(members)."""
        chosen = tuple(nodes)
        self.add_known(chosen)
        self._members = sorted([*self._members, *map(_place, chosen)])

    def is_known(self, node: NodeId) -> bool:
        """Tell whether ``node`` is on the ring."""
        return node in self._is_known

    def is_member(self, node: NodeId) -> bool:
        """Tell whether ``node`` is a member."""
        place = _place(node)
        at = bisect_left(self._members, place)
        return at < len(self._members) and self._members[at] == place

    def steward_of(self, node: NodeId) -> NodeId:
        """Return the next member after ``node`` other than itself, ``NO_NODE`` if there is none. O(log n)."""
        steward = self._next_member(_place(node))
        return NO_NODE if steward == node else steward

    def owner_of_key(self, key: str) -> NodeId:
        """Return the member that owns a named duty, ``NO_NODE`` without members. O(log n)."""
        return self._next_member((digest(key), NO_NODE))

    def wards_of(self, me: NodeId) -> tuple[NodeId, ...]:
        """Return the known nodes whose steward is ``me``, along the ring; none if ``me`` is not a member. O(wards)."""
        if not self.is_member(me):
            return ()
        mine, first = _place(me), self._predecessor(_place(me))
        end, begin = bisect_left(self._known, mine), bisect_left(self._known, first)
        if first < mine:
            arc = self._known[begin:end]
        elif first == mine:
            arc = self._known[end + 1 :] + self._known[:end]
        else:
            arc = self._known[begin:] + self._known[:end]
        return tuple(node for _, node in arc)

    def touches(self, me: NodeId, node: NodeId) -> bool:
        """Tell whether a change of ``node`` (known, member) may change ``wards_of(me)``. O(log n).

        Right whether it is asked before or after the change: the arc of ``me`` includes its predecessor.
        """
        if node == me:
            return True
        members, mine, place = self._members, _place(me), _place(node)
        at = bisect_left(members, mine)
        if at == len(members) or members[at] != mine:
            return False
        first = members[at - 1]
        if first < mine:
            return first <= place < mine
        return place >= first or place < mine

    def _know(self, node: NodeId) -> None:
        if node not in self._is_known:
            self._keep_own()
            self._is_known[node] = None
            insort(self._known, _place(node))

    def _keep_own(self) -> None:
        """Before a change: what was loaded belongs to all rings of this process."""
        if self._shared:
            self._known, self._is_known, self._shared = list(self._known), dict(self._is_known), False

    def _next_member(self, place: Place) -> NodeId:
        if not self._members:
            return NO_NODE
        at = bisect_right(self._members, place)
        return self._members[at % len(self._members)][1]

    def _predecessor(self, mine: Place) -> Place:
        """Return the place of the member before a member; its own if it is the only one."""
        return self._members[bisect_left(self._members, mine) - 1]


@lru_cache(maxsize=64)
def _loaded(ids: tuple[NodeId, ...]) -> tuple[list[Place], dict[NodeId, None]]:
    """The places of ids in order, and the ids (cached: the machines of one process begin with the same inventory)."""
    known = dict.fromkeys(ids)
    return sorted(map(_place, known)), known


@lru_cache(maxsize=1 << 17)
def _place(node: NodeId) -> Place:
    """Where a node sits (cached: the machines of one process share the places of their nodes)."""
    return digest(node), node
