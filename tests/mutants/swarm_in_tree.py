"""What ``swarm_hunt`` runs inside a copy of the tree: seeds until one fails, one tape, or one tape shrunk.

It reads one JSON object from standard input and prints one. The twin that it uses is that of ``PYTHONPATH``.
"""

import sys
import time
from pathlib import Path

import msgspec

import core
from twin.swarm.attempt import attempt
from twin.swarm.draw import draw, make_menu
from twin.swarm.found import Found
from twin.swarm.shrink import Shrunk, shrink
from twin.swarm.tape import Tape


class Ask(msgspec.Struct, kw_only=True):
    """``seeds``: find the first of these that fails. ``tape``: run it; with ``runs_max`` shrink it."""

    root: str
    profile: str = "everything"
    seeds: tuple[int, int] = (1, 0)
    tape: Tape | None = None
    runs_max: int = 0


class Answer(msgspec.Struct, kw_only=True):
    """``tape`` and ``found`` are those of the seed that failed, or of the tape that was asked about."""

    ran: int = 0
    seconds: float = 0.0
    tape: Tape | None = None
    found: Found | None = None
    shrunk: Shrunk | None = None


def answer(ask: Ask) -> Answer:
    """Do what is asked for."""
    if ask.tape is None:
        return _search(ask)
    if not ask.runs_max:
        return Answer(ran=1, tape=ask.tape, found=attempt(ask.tape))
    shrunk = shrink(ask.tape, runs_max=ask.runs_max)
    return Answer(ran=shrunk.runs, tape=shrunk.tape, found=shrunk.found, shrunk=shrunk)


def _search(ask: Ask) -> Answer:
    menu = make_menu(ask.profile, None, None)
    lowest, highest = ask.seeds
    for seed in range(lowest, highest + 1):
        tape = draw(seed, menu)
        found = attempt(tape)
        if found.verdict != "pass":
            return Answer(ran=seed - lowest + 1, tape=tape, found=found)
    return Answer(ran=highest - lowest + 1)


def main() -> None:
    ask = msgspec.json.decode(sys.stdin.buffer.read(), type=Ask)
    assert Path(core.__file__).is_relative_to(ask.root), f"the core of another tree: {core.__file__}"
    start = time.perf_counter()
    done = answer(ask)
    done.seconds = round(time.perf_counter() - start, 2)
    sys.stdout.buffer.write(msgspec.json.encode(done))


if __name__ == "__main__":
    main()
