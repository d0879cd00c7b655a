"""Machines as values: a machine's state is its snapshot, so a transition is a function that can be remembered.

A clock that only grows would make every state new. Times are therefore kept relative: the machine always believes it
is ``BASE_MS`` when it steps, and ``shift`` moves every absolute time in its snapshot back when the clock goes on.
Absolute times are recognised by their size: nothing else in a snapshot is near ``BASE_MS``.
"""

import re
from typing import Protocol

from core import effects as fx
from core.events import AnyEvent
from core.journal import Opening
from core.machine import Machine
from twin.check.canonical import Renamed, canonical
from twin.check.codes import Interner

BASE_MS = 10**12
FAR_MS = 1_000_000
"""What is due later than this is never due: the clock does not bring it nearer."""
_TIME = re.compile(rb"(?<![\d.\"])(\d{12,13})(?![\d\"])")

Step = tuple[int, tuple[fx.AnyEffect, ...]]


class Brains(Protocol):
    """Machines behind numbers; ``size`` is how many there are."""

    @property
    def size(self) -> int: ...
    def start(self, opening: Opening) -> int: ...
    def step(self, brain: int, event: AnyEvent) -> Step: ...
    def shift(self, brain: int, by_ms: int) -> int: ...
    def canonical(self, brain: int) -> Renamed: ...
    def machine(self, brain: int) -> Machine: ...


class RememberedBrains:
    """Machines as numbers of snapshots; every transition is computed once.

    ``horizon_ms``: times that lie further back are all alike.
    """

    def __init__(self, horizon_ms: int) -> None:
        self.horizon_ms = horizon_ms
        self.snapshots = Interner()
        self.events = Interner()
        self.steps: dict[tuple[int, int], Step] = {}
        self.shifts: dict[tuple[int, int], int] = {}
        self.renamed: dict[int, Renamed] = {}

    @property
    def size(self) -> int:
        return len(self.snapshots.values)

    def start(self, opening: Opening) -> int:
        return self._keep(opening, Machine(opening))

    def _keep(self, opening: Opening, machine: Machine) -> int:
        return self.snapshots.number((opening, machine.snapshot()))

    def step(self, brain: int, event: AnyEvent) -> Step:
        """Return the machine after an event whose ``at_ms`` is ``BASE_MS``, and what it asks for."""
        key = (brain, self.events.number(event))
        known = self.steps.get(key)
        if known is None:
            opening, _ = self._value(brain)
            machine = self.machine(brain)
            effects = machine.step(event)
            known = self.steps[key] = (self._keep(opening, machine), effects)
        return known

    def _value(self, brain: int) -> tuple[Opening, bytes]:
        value: tuple[Opening, bytes] = self.snapshots.values[brain]
        return value

    def shift(self, brain: int, by_ms: int) -> int:
        """Return the same machine with every absolute time ``by_ms`` earlier."""
        key = (brain, by_ms)
        known = self.shifts.get(key)
        if known is None:
            opening, snapshot = self._value(brain)
            known = self.shifts[key] = self.snapshots.number((opening, self._moved(snapshot, by_ms)))
        return known

    def _moved(self, snapshot: bytes, by_ms: int) -> bytes:
        oldest = BASE_MS - self.horizon_ms

        def move(found: re.Match[bytes]) -> bytes:
            value = int(found.group(1))
            if value < BASE_MS // 2 or value > BASE_MS + FAR_MS:
                return found.group(0)
            return b"%d" % max(value - by_ms, oldest)

        return _TIME.sub(move, snapshot)

    def canonical(self, brain: int) -> Renamed:
        """Return the machine's canonical form, and the new name of each of its outstanding ops."""
        known = self.renamed.get(brain)
        if known is None:
            opening, snapshot = self._value(brain)
            form, names = canonical(snapshot, BASE_MS)
            known = self.renamed[brain] = (self.snapshots.number((opening, form)), names)
        return known

    def machine(self, brain: int) -> Machine:
        opening, snapshot = self._value(brain)
        return Machine.restore(opening, snapshot)


class LiveBrains:
    """Machines as they are, each with its own life; for walks that never branch."""

    def __init__(self) -> None:
        self.machines: list[Machine] = []

    @property
    def size(self) -> int:
        return len(self.machines)

    def start(self, opening: Opening) -> int:
        self.machines.append(Machine(opening))
        return len(self.machines) - 1

    def step(self, brain: int, event: AnyEvent) -> Step:
        return brain, self.machines[brain].step(event)

    def shift(self, brain: int, by_ms: int) -> int:
        """Live machines keep absolute time. Raises: AssertionError always."""
        raise AssertionError(f"machine {brain} cannot be moved by {by_ms} ms")

    def canonical(self, brain: int) -> Renamed:
        return brain, {}

    def machine(self, brain: int) -> Machine:
        return self.machines[brain]
