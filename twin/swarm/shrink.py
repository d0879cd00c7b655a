"""Shrinking: the fewest faults, the smallest rack and the roundest times that still fail the same way."""

from collections.abc import Callable
from functools import partial

import msgspec
from msgspec.structs import replace

from core.errors import InputError
from twin.swarm.attempt import attempt
from twin.swarm.found import Found
from twin.swarm.minimal import minimal, without_piece
from twin.swarm.rounder import earlier, fewer_targets, plain_faults, rounder
from twin.swarm.simpler import Fails, fewer_nodes, fewer_services, first, plain_rack, plain_settings, shorter
from twin.swarm.tape import Tape

Attempt = Callable[[Tape], Found]
Step = Callable[[Tape, Fails], Tape]
Progress = Callable[[int, int], None]
"""Told after every run: the runs so far, and the faults of the simplest tape so far."""

ROUNDS_MAX = 12
FEW = 3
"""With more faults left than this other seeds of the world are tried too."""
LUCK = range(1, 9)
SEEDS = 1 << 63
"""Seeds of a scenario are below this."""
_SHRUNK = " Shrunk from"
NODES_FEWEST = 3
"""No rack is made smaller than this: with fewer servers the loss of any is the end of every quorum."""
NODES_FEWEST_LIVE = 5
"""The same if the failure is that the rack does not come to rest: a small one may not for want of room or voters."""


class Shrunk(msgspec.Struct, frozen=True, kw_only=True):
    """A tape that fails the same way as the one it was shrunk from, what came of it, and how many runs it took.

    ``note`` says in words how far it got.
    """

    tape: Tape
    found: Found
    runs: int
    faults_before: int
    faults_after: int
    note: str


def shrink(tape: Tape, attempt: Attempt = attempt, runs_max: int = 200, progress: Progress | None = None) -> Shrunk:
    """Make a failing tape simpler for as long as it fails with the same verdict and the same broken rule.

    Faults go first, then everything else; each round ends when nothing is left to be simplified, or when ``runs_max``
    runs are spent. No tape is run twice, and the same tape always gives the same result.

    Raises: InputError if the tape is none, or does not fail.
    """
    search = _Search(attempt, runs_max, progress)
    coarse = coarse_steps(search.begin(tape))
    best = fewer_faults(tape, search.fails)
    for _ in range(ROUNDS_MAX):
        before = best
        best = fewer_faults(_in_turn(coarse, best, search.fails_and_spare), search.fails)
        lucky = other_luck(best, search.fails_and_spare) if len(best.fault) > FEW else best
        steps = FINE_STEPS if lucky == best else ()
        best = fewer_faults(_in_turn(steps, lucky, search.fails_and_spare), search.fails)
        if best == before:
            break
    found = search.found(best)
    return Shrunk(
        tape=replace(best, why=_why(tape, found)),
        found=found,
        runs=search.runs,
        faults_before=len(tape.fault),
        faults_after=len(best.fault),
        note=search.note(),
    )


def coarse_steps(found: Found) -> tuple[Step, ...]:
    """What is made simpler once there are few faults, by large pieces: it makes the runs after it faster."""
    fewest = NODES_FEWEST if found.verdict == "safety" else NODES_FEWEST_LIVE
    return (earlier, shorter, fewer_services, partial(fewer_nodes, fewest=fewest), plain_rack, plain_settings)


FINE_STEPS: tuple[Step, ...] = (plain_faults, fewer_targets, rounder, shorter)
"""What is made simpler of each single fault, when no more of them are likely to go."""


def _in_turn(steps: tuple[Step, ...], tape: Tape, fails: Fails) -> Tape:
    for step in steps:
        tape = step(tape, fails)
    return tape


def fewer_faults(tape: Tape, fails: Fails) -> Tape:
    """Leave out every fault that can be spared."""
    kept = minimal(tape.fault, lambda faults: fails(replace(tape, fault=faults)))
    return replace(tape, fault=kept)


def other_luck(tape: Tape, fails: Fails) -> Tape:
    """Leave out faults that do no more than shift the times of a race: on another seed of the world it may be lost too.

    The last faults alone come first, since what happens just before a failure is the likeliest cause; then all but one.
    """
    count = len(tape.fault)
    parts = [tape.fault[-last:] for last in range(FEW, count - 1)]
    parts += [without_piece(tape.fault, index, count) for index in reversed(range(count))]
    lucky = (replace(tape, fault=part, seed=(tape.seed + luck) % SEEDS) for part in parts for luck in LUCK)
    return first(lucky, fails, tape)


class _Search:
    """Runs candidates, each once, and knows which failed like the tape that the search began with."""

    def __init__(self, attempt: Attempt, runs_max: int, progress: Progress | None) -> None:
        self.runs = 0
        self._attempt = attempt
        self._runs_max = runs_max
        self._progress = progress or (lambda _runs, _faults: None)
        self._known: dict[bytes, Found | None] = {}
        self._first: Found | None = None
        self._fewest = 0
        self._spent = False

    def begin(self, tape: Tape) -> Found:
        """Run the tape itself, and return what came of it. Raises: InputError if it does not fail."""
        found = self._attempt(tape)
        self.runs = 1
        if found.verdict == "pass":
            raise InputError([f'tape of seed {tape.seed}: verdict "pass"; needed: a tape that fails'])
        self._first, self._fewest = found, len(tape.fault)
        self._known[_key(tape)] = found
        return found

    def fails(self, tape: Tape) -> bool:
        """Whether the tape fails the same way; False without a run when all runs are spent."""
        return self._ask(tape, self._runs_max)

    def fails_and_spare(self, tape: Tape) -> bool:
        """The same, but leave enough runs to try each remaining fault once more."""
        return self._ask(tape, self._runs_max - self._fewest)

    def found(self, tape: Tape) -> Found:
        """What came of a tape that failed."""
        found = self._known[_key(tape)]
        assert found is not None
        return found

    def note(self) -> str:
        """Say how far the search got."""
        if self._spent:
            return f"stopped after {self.runs} runs, so it may not be the simplest tape"
        return "without any one of its faults it does not fail this way"

    def _ask(self, tape: Tape, runs_max: int) -> bool:
        key = _key(tape)
        if key not in self._known:
            if self.runs >= runs_max:
                self._spent = True
                return False
            self._known[key] = self._run(tape)
        return self._known[key] is not None

    def _run(self, tape: Tape) -> Found | None:
        """Run a candidate; None if it is no scenario (which costs nothing) or does not fail the same way."""
        try:
            found = self._attempt(tape)
        except InputError:
            return None
        self.runs += 1
        assert self._first is not None
        same = (found.verdict, found.broken) == (self._first.verdict, self._first.broken)
        if same:
            self._fewest = min(self._fewest, len(tape.fault))
        self._progress(self.runs, self._fewest)
        return found if same else None


def _why(tape: Tape, found: Found) -> str:
    """The reason of a shrunk tape: that of the tape it came from, and what breaks in it."""
    first = tape.why.split(_SHRUNK)[0].rstrip(" .")
    return f"{first}.{_SHRUNK} {len(tape.fault)} faults: {found.broken} ({found.verdict})."


def _key(tape: Tape) -> bytes:
    return msgspec.json.encode(tape)
