"""Breadth-first exploration of every schedule of a small world, up to a bound that is always stated."""

from array import array
from collections.abc import Callable
from typing import Literal

import msgspec

from core.errors import InvariantViolation
from twin.check import enabled
from twin.check.actions import apply
from twin.check.codes import Action
from twin.check.fair import FairRuns
from twin.check.rules import RuleBroken
from twin.check.shelf import Shelf, State
from twin.check.world import World

Cut = Literal["", "states", "depth", "time"]
"""Which bound ended an exploration; empty if there was nothing left to explore."""
ASK_EVERY = 64
"""Expansions between two looks at the time that is left."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Where an exploration ends at the latest. From every ``fair_every``-th state a fair run must lead to serving."""

    states_max: int
    depth_max: int = 1_000_000
    fair_every: int = 40


class Counterexample(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule from the root that breaks a property; there is no shorter one among those of its kind.

    ``fair``: it broke in the fair run that begins where the schedule ends. ``started``: the root was reached.
    """

    verdict: Literal["safety", "liveness"]
    why: str
    actions: tuple[Action, ...]
    fair: bool = False
    started: bool = True


class Explored(msgspec.Struct, frozen=True, kw_only=True):
    """What one exploration covered: every schedule of up to ``depth`` steps, or every schedule if ``cut`` is empty."""

    states: int
    transitions: int
    depth: int
    cut: Cut
    fair_runs: int
    machine_states: int
    parts: int
    counterexample: Counterexample | None

    @property
    def complete(self) -> bool:
        return not self.cut and self.counterexample is None


def stillborn(verdict: Literal["safety", "liveness"], why: str) -> Explored:
    """Return the outcome of a world that breaks a property before its root is reached."""
    counterexample = Counterexample(verdict=verdict, why=f"while the world starts: {why}", actions=(), started=False)
    return Explored(
        states=0,
        transitions=0,
        depth=0,
        cut="",
        fair_runs=0,
        machine_states=0,
        parts=0,
        counterexample=counterexample,
    )


class _Broken(Exception):
    def __init__(self, counterexample: Counterexample) -> None:
        super().__init__(counterexample.why)
        self.counterexample = counterexample


class Explorer:
    """One exploration. ``may_go_on`` is asked now and then whether time is left."""

    def __init__(self, root: World, bounds: Bounds, may_go_on: Callable[[], bool]) -> None:
        self.bounds = bounds
        self.shelf = Shelf(root)
        self.fair = FairRuns(self.shelf)
        self.transitions = 0
        self.depth = 0
        self._brains = root.brains
        self._may_go_on = may_go_on
        self._states: list[State] = [self.shelf.put(root)]
        self._seen: dict[State, None] = {self._states[0]: None}
        self._parents = array("I", [0])
        self._choices = array("H", [0])

    @property
    def states(self) -> int:
        """States found so far."""
        return len(self._states)

    def run(self) -> Explored:
        """Explore until there is nothing new, a bound is hit or a property breaks."""
        counterexample: Counterexample | None = None
        cut: Cut = ""
        try:
            cut = self._run()
        except _Broken as broken:
            counterexample = broken.counterexample
        return Explored(
            states=self.states,
            transitions=self.transitions,
            depth=self.depth,
            cut=cut,
            fair_runs=self.fair.runs,
            machine_states=self._brains.size,
            parts=self.shelf.parts,
            counterexample=counterexample,
        )

    def _run(self) -> Cut:
        number, level_ends = 0, 1
        while number < self.states:
            if number == level_ends:
                self.depth += 1
                level_ends = self.states
                if self.depth >= self.bounds.depth_max:
                    return "depth"
            if self.states >= self.bounds.states_max:
                return "states"
            if number % ASK_EVERY == 0 and not self._may_go_on():
                return "time"
            world = self.shelf.take(self._states[number])
            if number % self.bounds.fair_every == 0:
                self._check_fair(world, number)
            self._expand(world, number)
            number += 1
        return ""

    def _expand(self, world: World, number: int) -> None:
        for choice, action in enumerate(enabled.enabled(world)):
            after = world.branch()
            self.transitions += 1
            try:
                apply(after, action)
            except (RuleBroken, InvariantViolation) as broken:
                raise self._broken("safety", str(broken), (*self.schedule(number), action)) from broken
            state = self.shelf.put(after)
            if state not in self._seen:
                self._seen[state] = None
                self._states.append(state)
                self._parents.append(number)
                self._choices.append(choice)

    def _check_fair(self, world: World, number: int) -> None:
        try:
            led_back = self.fair.lead_back(world)
        except (RuleBroken, InvariantViolation) as broken:
            raise self._broken("safety", str(broken), self.schedule(number), fair=True) from broken
        if not led_back:
            why = "with every fault ended, nothing leads back to serving"
            raise self._broken("liveness", why, self.schedule(number), fair=True)

    def _broken(
        self, verdict: Literal["safety", "liveness"], why: str, actions: tuple[Action, ...], fair: bool = False
    ) -> _Broken:
        return _Broken(Counterexample(verdict=verdict, why=why, actions=actions, fair=fair))

    def schedule(self, number: int) -> tuple[Action, ...]:
        """Return the first found of the shortest schedules that lead to a state, given its number."""
        found: list[Action] = []
        while number:
            choice, number = self._choices[number], self._parents[number]
            found.append(enabled.enabled(self.shelf.take(self._states[number]))[choice])
        return tuple(found[::-1])
