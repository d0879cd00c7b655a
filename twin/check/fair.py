"""Fair runs: what is due happens, in the dullest order; they must always lead back to serving."""

from collections.abc import Callable

from twin.check import enabled, faults
from twin.check.actions import apply
from twin.check.codes import Action
from twin.check.shelf import Shelf, State
from twin.check.world import World

FAIR_STEPS_MAX = 4_000
HEAL_STEPS_MAX = 400


class NotReached(Exception):
    """A fair run does not reach its goal; the message says which."""


def is_served(world: World) -> bool:
    """Whether every singleton is served by some node."""
    return all(any(world.serves(node, name) for node in world.nodes) for name in world.singletons)


def run_fairly(world: World, goal: Callable[[], bool], steps_max: int) -> int:
    """Take what is due first until the goal holds; return the number of steps.

    Raises: NotReached; RuleBroken and InvariantViolation if something breaks on the way.
    """
    for step in range(steps_max):
        if goal():
            return step
        apply(world, enabled.settled(world)[0])
    raise NotReached(f"not reached in {steps_max} steps")


def run_ticks(world: World, ticks: int) -> None:
    """Let everything that is due happen, then move the clock, so many times."""
    while ticks:
        action = enabled.settled(world)[0]
        ticks -= action[0] == "tick"
        apply(world, action)


def healing(world: World) -> Action | None:
    """Return what a healing world does next: an end of a fault, what is due while a node boots; None once healed."""
    ends = faults.ends(world)
    if ends:
        return ends[0]
    return None if all(node.power == "up" for node in world.nodes) else enabled.settled(world)[0]


class FairRuns:
    """Judges whether the healed world serves again. A run ends where an earlier good one has been."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._good: set[State] = set()
        self.runs = 0

    def lead_back(self, world: World) -> bool:
        """Whether a fair run from here, with every fault ended and no other striking, leads to serving.

        Raises: RuleBroken, InvariantViolation if a rule does not hold on the way.
        """
        self.runs += 1
        healed = world.branch()
        healed.faults_left = ()
        for _ in range(HEAL_STEPS_MAX):
            action = healing(healed)
            if action is None:
                break
            apply(healed, action)
        else:
            return False
        return self._serves_again(healed)

    def _serves_again(self, healed: World) -> bool:
        passed: list[State] = []
        for _ in range(FAIR_STEPS_MAX):
            state = self._shelf.put(healed)
            passed.append(state)
            if state in self._good or is_served(healed):
                self._good.update(passed)
                return True
            apply(healed, enabled.settled(healed)[0])
        return False
