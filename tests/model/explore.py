"""Breadth-first exploration of every interleaving, and the fair run that must always lead back to serving."""

import time
from collections import deque

import msgspec

from core.errors import InvariantViolation
from core.specs import Timing
from tests.model import actions, faults
from tests.model.brains import RememberedBrains
from tests.model.options import WITH_VOLUME, WITHOUT_VOLUME, Options
from tests.model.world import World

TICK_MS = 100
SMALL = Timing(
    session_timeout_ms=400,
    beat_ms=100,
    probe_ms=100,
    fresh_ms=200,
    withdraw_ms=100,
    stall_ms=700,
    claim_step_ms=100,
    unfit_ms=600,
    retry_ms=100,
    retry_ms_max=100,
    commit_ms_max=200,
    fence_ms_max=300,
    block_ms=3_600_000,
    power_ms_max=200,
    suspect_ms=200,
    recover_ms=3_600_000,
    boot_ms_max=3_600_000,
    backoff_ms=3_600_000,
    backoff_ms_max=3_600_000,
    stable_ms=3_600_000,
    brake_hold_ms=1_000,
    ensemble_repair_ms=3_600_000,
)
"""The protocol's timers in a few ticks each; repairs of nodes and of the ensemble never come due."""
HORIZON_MS = 900
"""Older times are all alike: longer than any timer above that a comparison uses."""
FAIR_STEPS_MAX = 4_000


class Failure(Exception):
    """A property does not hold; ``trace`` is the shortest sequence of actions that shows it."""

    def __init__(self, why: str, trace: list[actions.Action]) -> None:
        lines = "\n".join(f"  {number:3} {action}" for number, action in enumerate(trace, 1))
        super().__init__(f"{why}\n{lines}")
        self.trace = trace


class Explored(msgspec.Struct, frozen=True, kw_only=True):
    """What one exploration covered."""

    name: str
    states: int
    transitions: int
    depth: int
    complete: bool
    fair_runs: int
    machine_states: int
    seconds: float


def small_world(volume: bool, **more: object) -> World:
    """Two nodes and one singleton, up and serving, with everything settled: the root of an exploration."""
    spec = WITH_VOLUME if volume else WITHOUT_VOLUME
    fields: dict[str, object] = {
        "names": ("n1", "n2"),
        "specs": (spec,),
        "timing": SMALL,
        "tick_ms": TICK_MS,
        "payloads": 2 if volume else 0,
        "fault_targets": ("n1", "n2"),
        **more,
    }
    options = Options(**fields)  # type: ignore[arg-type]
    world = World(options, RememberedBrains(HORIZON_MS))
    for index in range(len(options.names)):
        faults.boot(world, index)
    run_fairly(world, lambda w: all(is_served(w, name) for name in options.singletons), FAIR_STEPS_MAX)
    for _ in range(12):
        run_ticks(world, 1)
    return world


def is_served(world: World, service: str) -> bool:
    return any(world.serves(node, service) for node in world.nodes)


def run_fairly(world: World, goal, steps_max: int) -> int:  # type: ignore[no-untyped-def]
    """Always take the first thing that is due until the goal holds; the number of steps.

    Raises: AssertionError if it is not reached.
    """
    for step in range(steps_max):
        if goal(world):
            return step
        actions.apply(world, actions.settled(world)[0])
    raise AssertionError(f"not reached in {steps_max} steps")


def run_ticks(world: World, ticks: int) -> None:
    """Let everything that is due happen, then move the clock, so many times."""
    while ticks:
        action = actions.settled(world)[0]
        ticks -= action[0] == "tick"
        actions.apply(world, action)


def heal(world: World) -> None:
    """End every fault and let no other strike."""
    world.faults_left = ()
    for _ in range(100):
        ends = faults.ends(world)
        if not ends and all(node.power == "up" for node in world.nodes):
            return
        actions.apply(world, ends[0] if ends else actions.settled(world)[0])
    raise AssertionError("not reached: the faults do not end")


def leads_back(world: World) -> bool:
    """Whether the healed world serves again in a fair run."""
    healed = world.branch()
    try:
        heal(healed)
        for name in world.options.singletons:
            run_fairly(healed, lambda w, name=name: is_served(w, name), FAIR_STEPS_MAX)
    except AssertionError as broken:
        if str(broken).startswith("not reached"):
            return False
        raise
    return True


class Explorer:
    """One breadth-first exploration from a root."""

    def __init__(self, name: str, root: World, states_max: int, fair_every: int, seconds_max: float) -> None:
        self.name = name
        self.states_max = states_max
        self.fair_every = fair_every
        self.seconds_max = seconds_max
        self.root = root
        self.parents: list[tuple[int, actions.Action | None]] = [(0, None)]
        self.seen: dict[tuple[int, ...], int] = {root.key(): 0}
        self.queue: deque[tuple[World, int, int]] = deque([(root, 0, 0)])
        self.transitions = 0
        self.depth = 0
        self.fair_runs = 0

    def run(self) -> Explored:
        """Explore until there is nothing new or a bound is hit. Raises: Failure."""
        begun = time.monotonic()
        complete = True
        while self.queue:
            world, number, depth = self.queue.popleft()
            self.depth = max(self.depth, depth)
            if number % self.fair_every == 0:
                self.fair_runs += 1
                if not self._checked(number, lambda w=world: leads_back(w)):  # type: ignore[misc]
                    raise Failure(f"{self.name}: serving is not reachable any more", self.trace(number))
            if len(self.parents) >= self.states_max or time.monotonic() - begun > self.seconds_max:
                complete = False
                break
            self._expand(world, number, depth)
        brains = self.root.brains
        assert isinstance(brains, RememberedBrains)
        return Explored(
            name=self.name,
            states=len(self.parents),
            transitions=self.transitions,
            depth=self.depth,
            complete=complete,
            fair_runs=self.fair_runs,
            machine_states=len(brains.snapshots.values),
            seconds=round(time.monotonic() - begun, 1),
        )

    def _checked(self, number: int, check):  # type: ignore[no-untyped-def]
        try:
            return check()
        except (AssertionError, InvariantViolation) as broken:
            raise Failure(f"{self.name}: in a fair run: {broken}", self.trace(number)) from broken

    def _expand(self, world: World, number: int, depth: int) -> None:
        for action in actions.enabled(world):
            after = world.branch()
            self.transitions += 1
            try:
                actions.apply(after, action)
            except (AssertionError, InvariantViolation) as broken:
                raise Failure(f"{self.name}: {broken}", [*self.trace(number), action]) from broken
            key = after.key()
            if key not in self.seen:
                fresh = len(self.parents)
                self.seen[key] = fresh
                self.parents.append((number, action))
                self.queue.append((after, fresh, depth + 1))

    def trace(self, number: int) -> list[actions.Action]:
        found: list[actions.Action] = []
        while number:
            number, action = self.parents[number]
            assert action is not None
            found.append(action)
        return found[::-1]
