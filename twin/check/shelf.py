"""States as a few small numbers: equal parts of different states are kept once.

A state is the packed numbers of its parts (ZooKeeper, the storage, the faults left, each node), 4 bytes each. That is
exact: two states have the same bytes if and only if they are equal, so nothing is ever mistaken for known, as it could
be with hashes. Source: collapse compression (Holzmann, State Compression in SPIN, 1997).
"""

import struct
from collections.abc import Hashable
from typing import Any

from twin.check.codes import Interner
from twin.check.coordination import Coordination
from twin.check.node import Node
from twin.check.storage import Storage
from twin.check.world import World

State = bytes


class Shelf:
    """Keeps the parts of all states of worlds with the same options and machines as ``like``."""

    def __init__(self, like: World) -> None:
        self._like = like.branch()
        self._numbers: dict[Hashable, int] = {}
        self._parts: list[Any] = []
        self._faults = Interner()
        self._packed = struct.Struct(f"<{3 + len(like.nodes)}I")

    @property
    def parts(self) -> int:
        return len(self._parts)

    def put(self, world: World) -> State:
        """Return the state of a world, whose parts are kept as they are now."""
        world.share()
        numbers = (self._number(node) for node in world.nodes)
        faults = self._faults.number(world.faults_left)
        return self._packed.pack(self._number(world.zk), self._number(world.storage), faults, *numbers)

    def take(self, state: State) -> World:
        """Return a world in this state, to be changed at will."""
        zk, storage, faults, *nodes = self._packed.unpack(state)
        world = self._like.branch()
        world.zk, world.storage = self._parts[zk], self._parts[storage]
        world.faults_left = self._faults.values[faults]
        world.nodes = [self._parts[number] for number in nodes]
        return world

    def _number(self, part: Coordination | Storage | Node) -> int:
        if part.number < 0:
            key = part.key()
            found = self._numbers.get(key)
            if found is None:
                found = self._numbers[key] = len(self._parts)
                self._parts.append(part)
            part.number = found
        return part.number
