"""Counterexamples as files: JSON lines that say how the world began and which step was next, to be run again."""

from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from core import effects as fx
from core.errors import InputError, InvariantViolation
from twin.check import enabled
from twin.check.actions import apply
from twin.check.codes import CODES, Action
from twin.check.explore import Counterexample
from twin.check.fair import FairRuns
from twin.check.node import Waiting
from twin.check.rules import RuleBroken
from twin.check.shelf import Shelf
from twin.check.small import NODES_MAX, NODES_MIN, Root, root_of
from twin.check.words import consequences, in_words, is_fault
from twin.check.world import World

SUFFIX = ".jsonl"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One step: when it happens (ms after the root), what it is in words, and by what it is found again.

    ``fault``: it is one that strikes, with ``holder`` on a node that serves. ``asked``: what machines then asked for.
    """

    at_ms: int
    words: str
    action: list[Any]
    fault: bool = False
    holder: bool = False
    asked: tuple[str, ...] = ()


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A counterexample with everything that is needed to run it again."""

    root: Root
    verdict: Literal["safety", "liveness"]
    why: str
    fair: bool
    lines: tuple[Line, ...]


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    root: Root
    verdict: Literal["safety", "liveness"]
    why: str
    fair: bool


class _Told(World):
    """A world that notes what its machines ask for."""

    __slots__ = ("asked",)

    asked: list[tuple[int, fx.AnyEffect]]

    def began(self, index: int, effect: fx.AnyEffect) -> None:
        self.asked.append((index, effect))


def told_from(root: Root, counterexample: Counterexample) -> Schedule:
    """Return the schedule of a counterexample, by running it once more."""
    world = _told(root)
    lines = [_step(world, action, number) for number, action in _timed(counterexample.actions, world)]
    return Schedule(
        root=root,
        verdict=counterexample.verdict,
        why=counterexample.why,
        fair=counterexample.fair,
        lines=tuple(lines),
    )


def _told(root: Root) -> _Told:
    like = root_of(root)
    world = _Told(like.options, like.brains)
    world.zk, world.storage, world.nodes, world.faults_left = like.zk, like.storage, list(like.nodes), like.faults_left
    world.share()
    world.asked = []
    return world


def _timed(actions: tuple[Action, ...], world: World) -> list[tuple[int, Action]]:
    passed, found = 0, []
    for action in actions:
        found.append((passed, action))
        passed += world.options.tick_ms if action[0] == "tick" else 0
    return found


def _step(world: _Told, action: Action, at_ms: int) -> Line:
    """Make one action happen; a rule that it breaks has been told already."""
    words, plain, fault = in_words(world, action), plain_action(action), is_fault(action)
    holder = fault and len(action) > 1 and any(world.serves(world.nodes[action[1]], name) for name in world.singletons)
    world.asked = []
    with suppress(RuleBroken, InvariantViolation):
        apply(world, action)
    asked = tuple(consequences(world.asked, world))
    return Line(at_ms=at_ms, words=words, action=plain, fault=fault, holder=holder, asked=asked)


def plain_action(action: Action) -> list[Any]:
    """Return an action as the plain data that it is in a file, without the numbers of this process."""
    parts = [*action[:2], CODES.values[action[2]]] if action[0] == "arrive" else [_named(part) for part in action]
    plain: list[Any] = msgspec.json.decode(msgspec.json.encode(parts))
    return plain


def _named(part: Any) -> Any:
    return [part.incarnation, CODES.values[part.effect], part.fail_at_ms] if isinstance(part, Waiting) else part


# -- files -------------------------------------------------------------------------------------------------------------


def write_schedule(path: Path, schedule: Schedule) -> None:
    """Write a schedule: a first line about the world, then one line a step. Raises: OSError."""
    head = _Head(root=schedule.root, verdict=schedule.verdict, why=schedule.why, fair=schedule.fair)
    path.write_bytes(b"\n".join(msgspec.json.encode(line) for line in (head, *schedule.lines)) + b"\n")


def read_schedule(path: Path) -> Schedule:
    """Read a schedule. Raises: InputError if there is none in the file."""
    needed = "needed: a schedule, as `twin check --out` writes it"
    try:
        head, *lines = path.read_bytes().splitlines()
    except (OSError, ValueError) as error:
        raise InputError([f"{path}: cannot be read ({error}); {needed}"]) from None
    first: _Head | None = None
    steps: list[Line] = []
    try:
        first = msgspec.json.decode(head, type=_Head)
        for line in lines:
            steps.append(msgspec.json.decode(line, type=Line))
    except msgspec.MsgspecError as error:
        number = 1 if first is None else len(steps) + 2
        raise InputError([f"{path}: line {number}: {error}; {needed}"]) from None
    if not NODES_MIN <= first.root.nodes <= NODES_MAX:
        raise InputError([f"{path}: line 1: nodes {first.root.nodes}: allowed: {NODES_MIN} to {NODES_MAX}"])
    return Schedule(root=first.root, verdict=first.verdict, why=first.why, fair=first.fair, lines=tuple(steps))


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of running a schedule again; ``broken`` is empty if nothing breaks, ``steps`` how far it got."""

    steps: int
    verdict: Literal["pass", "safety", "liveness"]
    broken: str = ""


def replay(schedule: Schedule, name: str) -> Replayed:
    """Run a schedule again. Raises: InputError if one of its steps cannot happen; ``name`` is that of its file."""
    world = root_of(schedule.root)
    for number, line in enumerate(schedule.lines):
        world = world.branch()
        fits = [action for action in enabled.enabled(world) if plain_action(action) == line.action]
        if not fits:
            raise InputError([f"{name}: line {number + 2}: {line.words}: cannot happen here; the core is another one"])
        try:
            apply(world, fits[0])
        except (RuleBroken, InvariantViolation) as broken:
            return Replayed(steps=number + 1, verdict="safety", broken=str(broken))
    if not schedule.fair:
        return Replayed(steps=len(schedule.lines), verdict="pass")
    try:
        led_back = FairRuns(Shelf(world)).lead_back(world)
    except (RuleBroken, InvariantViolation) as broken:
        return Replayed(steps=len(schedule.lines), verdict="safety", broken=str(broken))
    verdict: Literal["pass", "liveness"] = "pass" if led_back else "liveness"
    return Replayed(steps=len(schedule.lines), verdict=verdict, broken="" if led_back else schedule.why)
