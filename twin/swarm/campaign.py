"""A swarm from its first seed to its last: what is under way, and a tape for each failure while it goes on."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from core.errors import InputError
from twin.swarm.blame import blame, to_lines
from twin.swarm.draw import Menu, draw
from twin.swarm.engine import KILLED, Engine, attempt_safely
from twin.swarm.found import Found
from twin.swarm.shrink import shrink
from twin.swarm.summary import Failure, Tally
from twin.swarm.tape import Tape, to_toml
from twin.swarm.words import reason

SHRUNK_MAX = 5
"""Ways to fail whose lowest seed is shrunk and explained; a core that is broken all over must not take an hour."""
FIRST_SEED = 1

Clock = Callable[[], float]
"""Seconds that have passed since any moment; only the command line has one."""


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """Which seeds run: ``first`` to ``last``, or as many as start within ``for_s`` seconds, or both."""

    first: int = FIRST_SEED
    last: int | None = None
    for_s: int | None = None

    def __str__(self) -> str:
        until = f"to {self.last}" if self.last is not None else "on"
        return f"seeds {self.first} {until}" + (f" for {self.for_s} s" if self.for_s is not None else "")


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a swarm is. ``left_s``: at the rate so far, None before there is one."""

    done: int
    wanted: int | None
    failed: int
    reached: int
    passed_s: float
    left_s: float | None

    @property
    def per_s(self) -> float:
        """Seeds a second, from the first on."""
        return self.done / self.passed_s if self.passed_s > 0 else 0.0


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told: ``progress`` after each campaign, ``failure`` of each that failed, with its tape and the file."""

    progress: Callable[[Standing], None]
    failure: Callable[[Found, Tape, Path], None]


def run_course(
    engine: Engine, menu: Menu, course: Course, tally: Tally, failures: Path, clock: Clock, watch: Watch
) -> bool:
    """Run the seeds into ``tally``, with a tape in ``failures`` for each one that fails; whether it came to the end.

    Raises: InputError if the engine cannot serve the menu, or a tape cannot be written.
    """
    began = clock()
    wanted = menu.profile.sometimes
    reached: dict[str, None] = {}
    try:
        with closing(engine.run(menu, _seeds(course, clock, began))) as results:
            for found in results:
                tally.add(found)
                reached.update(dict.fromkeys(name for name in found.reached if name in wanted or not wanted))
                if found.verdict != "pass":
                    tape = draw(found.seed, menu)
                    watch.failure(found, tape, keep(tape, failures / f"{found.seed}.toml"))
                watch.progress(_standing(course, tally, len(reached), clock() - began))
    except KeyboardInterrupt:
        return False
    return True


def keep(tape: Tape, file: Path) -> Path:
    """Write a tape to a file. Raises: InputError if it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(to_toml(tape), encoding="utf-8")
    except OSError as error:
        raise InputError([f"{file}: cannot be written ({error.strerror}); needed: a folder for tapes"]) from None
    return file


def worst_failures(tally: Tally, menu: Menu, folder: Path) -> list[Failure]:
    """Return the lowest seed of each way to fail, with its tape in ``folder``; the worst ways first."""
    return [
        Failure(found=found, tape=str(folder / f"{found.seed}.toml"), tape_text=to_toml(draw(found.seed, menu)))
        for found in tally.failed_campaigns(each=1)
    ]


def explain(failures: list[Failure], menu: Menu, folder: Path, tell: Callable[[str], None]) -> bool:
    """Shrink the first few failures, in place, and find out what was necessary; whether nobody interrupted.

    Left out are campaigns that kill their process: they would kill this one.
    """
    try:
        for index, failure in enumerate(failures[:SHRUNK_MAX]):
            if failure.found.broken != KILLED:
                failures[index] = _explained(failure, draw(failure.found.seed, menu), folder, tell)
    except KeyboardInterrupt:
        return False
    return True


def _explained(failure: Failure, tape: Tape, folder: Path, tell: Callable[[str], None]) -> Failure:
    found = failure.found

    def shrinking(runs: int, faults: int) -> None:
        tell(f"seed {found.seed}: shrinking its {found.faults} faults, {faults} left after {runs} runs")

    def blaming(runs: int, of: int) -> None:
        tell(f"seed {found.seed}: which faults were necessary, {runs} of {of} runs")

    shrunk = shrink(tape, attempt_safely, progress=shrinking)
    file = keep(shrunk.tape, folder / f"{found.seed}-shrunk.toml")
    ranked = blame(shrunk.tape, attempt_safely, progress=blaming)
    return msgspec.structs.replace(
        failure,
        shrunk=str(file),
        shrunk_text=to_toml(shrunk.tape),
        faults_left=shrunk.faults_after,
        runs=shrunk.runs,
        blame=tuple(to_lines(ranked)),
        reason=tuple(reason(shrunk.tape, shrunk.found, ranked)) if found.verdict != "crash" else (),
    )


def _seeds(course: Course, clock: Clock, began: float) -> Iterator[int]:
    seed = course.first
    while course.last is None or seed <= course.last:
        if course.for_s is not None and clock() - began >= course.for_s:
            return
        yield seed
        seed += 1


def _standing(course: Course, tally: Tally, reached: int, passed_s: float) -> Standing:
    done = tally.campaigns
    wanted = course.last - course.first + 1 if course.last is not None else None
    left_s = (wanted - done) * passed_s / done if wanted is not None and done else None
    if course.for_s is not None:
        left_s = max(0.0, course.for_s - passed_s)
    return Standing(done=done, wanted=wanted, failed=tally.failed, reached=reached, passed_s=passed_s, left_s=left_s)
