"""The commands for one failing tape: ``twin shrink`` makes it simple, ``twin blame`` says what was necessary."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from core.errors import InputError
from formats.arguments import whole

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

RUNS_MAX = 100_000
SEEDS_MAX = 10_000


def add_commands(commands: "Commands") -> None:
    """Add both commands to the command line."""
    one = commands.add_parser("shrink", help="the fewest faults that still fail the same way", allow_abbrev=False)
    one.add_argument("tape", type=Path, metavar="FILE", help="a failing scenario, for example failures/17.toml")
    one.add_argument("--runs", type=whole(1, RUNS_MAX), default=200, metavar="N", help="so many runs at most (200)")
    one.add_argument("--out", type=Path, metavar="FILE", help="write the tape here instead of printing it")
    one.set_defaults(command=_shrink)
    one = commands.add_parser("blame", help="which faults of a failing scenario were necessary", allow_abbrev=False)
    one.add_argument("tape", type=Path, metavar="FILE", help="a failing scenario, for example failures/17-shrunk.toml")
    one.add_argument("--seeds", type=whole(1, SEEDS_MAX), default=20, metavar="N", help="runs for each fault (20)")
    one.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    one.set_defaults(command=_blame)


def _shrink(arguments: argparse.Namespace) -> int:
    from twin.swarm.campaign import keep
    from twin.swarm.engine import attempt_safely
    from twin.swarm.live import Live
    from twin.swarm.shrink import shrink
    from twin.swarm.tape import read_tape, to_toml
    from twin.swarm.words import rule_words

    file: Path = arguments.tape
    tape = read_tape(file)
    live = Live(sys.stderr, time.monotonic, 0)
    try:
        shrunk = shrink(
            tape, attempt_safely, arguments.runs, lambda runs, faults: live.step(f"{runs} runs, {faults} faults left")
        )
    except InputError as error:
        raise InputError([f"{file}: {problem}" for problem in error.problems]) from None
    finally:
        live.done()
    print(rule_words(shrunk.found.verdict, shrunk.found.broken), file=sys.stderr)
    print(
        f"{shrunk.faults_before} faults, {shrunk.faults_after} after {shrunk.runs} runs: {shrunk.note}", file=sys.stderr
    )
    if arguments.out is None:
        sys.stdout.write(to_toml(shrunk.tape))
    else:
        print(f"replay: twin run {keep(shrunk.tape, arguments.out)}")
    return 0


def _blame(arguments: argparse.Namespace) -> int:
    from twin.swarm.blame import blame, to_lines
    from twin.swarm.engine import attempt_safely
    from twin.swarm.live import Live
    from twin.swarm.tape import read_tape
    from twin.swarm.words import rule_words

    file: Path = arguments.tape
    tape = read_tape(file)
    live = Live(sys.stderr, time.monotonic, 0)
    try:
        found = blame(tape, attempt_safely, arguments.seeds, lambda runs, of: live.step(f"{runs} of {of} runs"))
    except InputError as error:
        raise InputError([f"{file}: {problem}" for problem in error.problems]) from None
    finally:
        live.done()
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        return 0
    print(rule_words(found.verdict, found.broken))
    print("\n".join(f"  {line}" for line in to_lines(found)))
    return 0
