"""Machines as values: a machine's state is its snapshot, so a transition is a function that can be remembered.

A clock that only grows would make every state new. Times are therefore kept relative: the machine always believes it
is ``BASE_MS`` when it steps, and ``shift`` moves every absolute time in its snapshot back when the clock goes on.
Absolute times are recognised by their size: nothing else in a snapshot is near ``BASE_MS``.
"""

import re

from core import effects as fx
from core.events import AnyEvent
from core.journal import Opening
from core.machine import Machine
from tests.model.codes import Interner

BASE_MS = 10**12
FAR_MS = 1_000_000
"""What is due later than this is never due: the clock does not bring it nearer."""
_TIME = re.compile(rb"(?<![\d.\"])(\d{12,13})(?![\d\"])")


class RememberedBrains:
    """Machines as numbers of snapshots; every transition is computed once."""

    def __init__(self, horizon_ms: int) -> None:
        self.horizon_ms = horizon_ms
        self.snapshots = Interner()
        self.events = Interner()
        self.openings: list[Opening] = []
        self.steps: dict[tuple[int, int], tuple[int, tuple[fx.AnyEffect, ...]]] = {}
        self.shifts: dict[tuple[int, int], int] = {}
        self.asked = 0

    def start(self, opening: Opening) -> int:
        return self._keep(opening, Machine(opening))

    def _keep(self, opening: Opening, machine: Machine) -> int:
        return self.snapshots.number((opening, machine.snapshot()))

    def step(self, brain: int, event: AnyEvent) -> tuple[int, tuple[fx.AnyEffect, ...]]:
        """The machine after an event whose ``at_ms`` is ``BASE_MS``, and what it asks for."""
        self.asked += 1
        key = (brain, self.events.number(event))
        known = self.steps.get(key)
        if known is None:
            opening, snapshot = self._value(brain)
            machine = Machine.restore(opening, snapshot)
            effects = machine.step(event)
            known = self.steps[key] = (self._keep(opening, machine), effects)
        return known

    def _value(self, brain: int) -> tuple[Opening, bytes]:
        value = self.snapshots.values[brain]
        assert isinstance(value, tuple)
        return value

    def shift(self, brain: int, by_ms: int) -> int:
        """The same machine with every absolute time ``by_ms`` earlier; times older than the horizon are all alike."""
        key = (brain, by_ms)
        known = self.shifts.get(key)
        if known is None:
            opening, snapshot = self._value(brain)
            known = self.shifts[key] = self.snapshots.number((opening, self.moved(snapshot, by_ms)))
        return known

    def moved(self, snapshot: bytes, by_ms: int) -> bytes:
        oldest = BASE_MS - self.horizon_ms

        def move(found: re.Match[bytes]) -> bytes:
            value = int(found.group(1))
            if value < BASE_MS // 2 or value > BASE_MS + FAR_MS:
                return found.group(0)
            return b"%d" % max(value - by_ms, oldest)

        return _TIME.sub(move, snapshot)

    def machine(self, brain: int) -> Machine:
        opening, snapshot = self._value(brain)
        return Machine.restore(opening, snapshot)


class LiveBrains:
    """Machines as they are, each with its own life; for walks that never branch."""

    def __init__(self) -> None:
        self.machines: list[Machine] = []

    def start(self, opening: Opening) -> int:
        self.machines.append(Machine(opening))
        return len(self.machines) - 1

    def step(self, brain: int, event: AnyEvent) -> tuple[int, tuple[fx.AnyEffect, ...]]:
        return brain, self.machines[brain].step(event)

    def shift(self, brain: int, by_ms: int) -> int:
        raise AssertionError("live machines keep absolute time")

    def machine(self, brain: int) -> Machine:
        return self.machines[brain]
