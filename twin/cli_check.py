"""The command ``twin check``: every schedule of a small world, up to a bound; and a counterexample run again."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec

from core.errors import InputError
from formats.paint import Paint
from trial.verdict import EXIT_CODES
from twin.arguments import made
from twin.check.check import Report, Wanted, check
from twin.check.explore import Explorer
from twin.check.faults import FAULTS, WORDS
from twin.check.options import Order
from twin.check.schedule import Schedule, read_schedule, replay, told_from, write_schedule
from twin.check.tapes import tape_of
from twin.check.text import bound_of, schedule_lines, to_text
from twin.swarm.tape import to_toml

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

PROGRESS_EVERY_S = 5.0
"""How often a line of progress is written where no terminal shows it in place."""


def add_commands(commands: "Commands") -> None:
    """Add the command to the command line."""
    one = commands.add_parser(
        "check", help="explore every schedule of a small world", allow_abbrev=False, epilog=_KINDS
    )
    one.add_argument("--nodes", type=int, default=3, metavar="N", help="2 or 3 (default 3)")
    one.add_argument("--faults", type=int, default=2, metavar="N", help="at most so many, 0 to 3 (default 2)")
    one.add_argument("--kinds", type=_names, default=FAULTS, metavar="K,K", help="kinds of faults (default: all)")
    one.add_argument("--volume", action=argparse.BooleanOptionalAction, default=True, help="what the singleton is like")
    one.add_argument("--depth", type=int, metavar="N", help="steps in one schedule (default: unbounded)")
    one.add_argument("--states", type=int, metavar="N", help=f"in one exploration (default {Wanted().states_max:,})")
    one.add_argument("--seconds", type=float, default=60.0, metavar="S", help="for all of it (default 60)")
    one.add_argument("--fair-every", type=int, default=1, metavar="N", help="fair runs from every Nth state")
    one.add_argument("--order", choices=get_args(Order), default="reduced", help=_ORDER)
    one.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    one.add_argument("--out", type=Path, metavar="DIR", help="write a counterexample here, as schedule and scenario")
    one.add_argument("--replay", type=Path, metavar="FILE", help="run a schedule written by --out again, no more")
    one.set_defaults(command=_check)


_ORDER = "reduced (default), prompt: the same without partial-order reduction, every: nodes may also be slow"
_KINDS = "kinds of faults: " + "; ".join(f"{kind}: {words}" for kind, words in WORDS.items())


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _check(arguments: argparse.Namespace) -> int:
    if arguments.replay is not None:
        return _replay(arguments)
    wanted = Wanted(
        volume=arguments.volume,
        nodes=arguments.nodes,
        faults=arguments.faults,
        kinds=arguments.kinds,
        order=arguments.order,
        seconds_max=arguments.seconds,
        fair_every=arguments.fair_every,
    )
    if arguments.states is not None:
        wanted = msgspec.structs.replace(wanted, states_max=arguments.states)
    if arguments.depth is not None:
        wanted = msgspec.structs.replace(wanted, depth_max=arguments.depth)
    out: Path | None = arguments.out
    if out is not None:
        made(out, "--out")
    report = check(wanted, time.monotonic, _progress())
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    found = report.counterexample
    schedule = told_from(report.parts[-1].root, found) if found is not None and found.started else None
    files = _write(out, schedule) if out is not None and schedule is not None else ()
    if arguments.json:
        sys.stdout.write(_json(report, schedule, files) + "\n")
    else:
        _tell(report, schedule, files)
    return EXIT_CODES[report.verdict]


def _tell(report: Report, schedule: Schedule | None, files: tuple[Path, ...]) -> None:
    paint = Paint(sys.stdout.isatty())
    sys.stdout.write(to_text(report, paint))
    if schedule is not None:
        sys.stdout.write("\n" + "\n".join(schedule_lines(schedule, paint)) + "\n")
    for file, again in zip(files, ("twin check --replay", "twin run"), strict=False):
        sys.stdout.write(f"  {again} {file}\n")


def _json(report: Report, schedule: Schedule | None, files: tuple[Path, ...]) -> str:
    told = {
        "verdict": report.verdict,
        "complete": report.complete,
        "wanted": report.wanted,
        "parts": [
            {
                "faults": part.faults,
                "bound": bound_of(part),
                "seconds": part.seconds,
                **{key: getattr(part.explored, key) for key in _COUNTS},
            }
            for part in report.parts
        ],
        "why": report.counterexample.why if report.counterexample is not None else "",
        "counterexample": schedule,
        "files": [str(file) for file in files],
    }
    return msgspec.json.encode(told).decode()


_COUNTS = ("states", "transitions", "depth", "cut", "complete", "fair_runs", "machine_states")


def _write(out: Path, schedule: Schedule) -> tuple[Path, ...]:
    """Write a counterexample as schedule and as scenario. Raises: InputError if the folder takes no files."""
    files = out / "counterexample.jsonl", out / "counterexample.toml"
    words = (f"# {line}" for line in schedule_lines(schedule, Paint(False)))
    tape = to_toml(tape_of(schedule)) + "\n# The schedule in the small world, step by step:\n" + "\n".join(words) + "\n"
    try:
        write_schedule(files[0], schedule)
        files[1].write_text(tape, encoding="utf-8")
    except OSError as error:
        raise InputError([f"--out {out}: cannot be written ({error}); needed: a folder"]) from None
    return files


def _replay(arguments: argparse.Namespace) -> int:
    file: Path = arguments.replay
    schedule = read_schedule(file)
    found = replay(schedule, str(file))
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        paint = Paint(sys.stdout.isatty())
        told = found.broken or f"nothing breaks any more; the schedule was written for: {schedule.why}"
        sys.stdout.write("\n".join(schedule_lines(schedule, paint)) + f"\n\nrun again, {found.steps} steps: {told}\n")
    return EXIT_CODES[found.verdict]


def _progress() -> Callable[[int, Explorer], None]:
    """Report progress on stderr: in place at a terminal, else a line now and then."""
    begun = shown = time.monotonic()
    terminal = sys.stderr.isatty()

    def show(faults: int, explorer: Explorer) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown < (0.2 if terminal else PROGRESS_EVERY_S):
            return
        shown = now
        counts = f"{explorer.states:,} states, {explorer.transitions:,} transitions, depth {explorer.depth}"
        words = f"{now - begun:.0f} s: up to {faults} faults: {counts}"
        sys.stderr.write(f"\r\x1b[K{words}" if terminal else f"{words}\n")
        sys.stderr.flush()

    return show
