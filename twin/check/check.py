"""``twin check``: explorations of one small world, with no fault first, then with one more each time."""

from collections.abc import Callable
from typing import Literal

import msgspec

from core.errors import InputError, InvariantViolation
from formats.problems import one_of
from twin.check.explore import Bounds, Counterexample, Explored, Explorer, stillborn
from twin.check.fair import NotReached
from twin.check.faults import FAULTS
from twin.check.options import Order
from twin.check.rules import RuleBroken
from twin.check.small import FAULTS_MAX, NODES_MAX, NODES_MIN, Root, any_of, root_of

Verdict = Literal["pass", "safety", "liveness"]
EARLIER_SHARE = 4
"""An exploration with fewer faults than wanted gets at most one part in so many of the time that is left."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What to explore. ``states_max`` and ``depth_max`` bound each exploration, ``seconds_max`` all of them."""

    volume: bool = True
    nodes: int = 3
    faults: int = 2
    kinds: tuple[str, ...] = FAULTS
    order: Order = "reduced"
    states_max: int = 2_000_000
    depth_max: int = 1_000_000
    seconds_max: float = 60.0
    fair_every: int = 1


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One exploration: with up to ``faults`` faults, and how long it took."""

    faults: int
    root: Root
    explored: Explored
    seconds: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was explored, and the counterexample if there is one (of the last part)."""

    wanted: Wanted
    parts: tuple[Part, ...]

    @property
    def counterexample(self) -> Counterexample | None:
        return self.parts[-1].explored.counterexample

    @property
    def verdict(self) -> Verdict:
        return "pass" if self.counterexample is None else self.counterexample.verdict

    @property
    def complete(self) -> bool:
        """Whether every schedule was explored, and none broke anything."""
        return all(part.explored.complete for part in self.parts)


Progress = Callable[[int, Explorer], None]
"""Told now and then: with how many faults, and how far the exploration is."""


def check_wanted(wanted: Wanted) -> None:
    """Raises: InputError with everything that cannot be explored."""
    problems = []
    if not NODES_MIN <= wanted.nodes <= NODES_MAX:
        problems.append(f"--nodes {wanted.nodes}: allowed: {NODES_MIN} to {NODES_MAX}")
    if not 0 <= wanted.faults <= FAULTS_MAX:
        problems.append(f"--faults {wanted.faults}: allowed: 0 to {FAULTS_MAX}")
    for kind in wanted.kinds:
        if kind not in FAULTS:
            problems.append(f"--kinds {kind}: no such kind of fault; allowed: {one_of(FAULTS)}")
        elif wanted.kinds.count(kind) > 1:
            problems.append(f"--kinds {kind}: named twice; allowed: each once")
    bounds = {
        "states": wanted.states_max,
        "depth": wanted.depth_max,
        "seconds": wanted.seconds_max,
        "fair-every": wanted.fair_every,
    }
    for key, value in bounds.items():
        if not value > 0:
            problems.append(f"--{key} {value:g}: allowed: more than 0")
    if problems:
        raise InputError(list(dict.fromkeys(problems)))


def check(wanted: Wanted, clock: Callable[[], float], progress: Progress) -> Report:
    """Explore until a property breaks or every part is done or cut. ``clock`` counts seconds.

    Raises: InputError if that cannot be explored.
    """
    check_wanted(wanted)
    end = clock() + wanted.seconds_max
    parts: list[Part] = []
    for faults in range(wanted.faults + 1):
        left = end - clock()
        share = left if faults == wanted.faults else left / EARLIER_SHARE
        parts.append(_explore(wanted, faults, share, clock, progress))
        if parts[-1].explored.counterexample is not None:
            break
    return Report(wanted=wanted, parts=tuple(parts))


def _explore(wanted: Wanted, faults: int, seconds: float, clock: Callable[[], float], progress: Progress) -> Part:
    begun = clock()
    slots = any_of(wanted.kinds, faults)
    root = Root(volume=wanted.volume, nodes=wanted.nodes, faults=slots, order=wanted.order)
    bounds = Bounds(states_max=wanted.states_max, depth_max=wanted.depth_max, fair_every=wanted.fair_every)

    def may_go_on() -> bool:
        progress(faults, explorer)
        return clock() - begun < seconds

    try:
        world = root_of(root)
    except (RuleBroken, InvariantViolation) as broken:
        explored = stillborn("safety", str(broken))
    except NotReached:
        explored = stillborn("liveness", "started without any fault, it never serves")
    else:
        explorer = Explorer(world, bounds, may_go_on)
        explored = explorer.run()
    return Part(faults=faults, root=root, explored=explored, seconds=round(clock() - begun, 2))
