"""The command ``twin swarm``: many drawn campaigns, judged together; each failure written down, shrunk, explained."""

import argparse
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import InputError
from formats.arguments import whole
from formats.paint import Paint
from twin.arguments import span

if TYPE_CHECKING:
    from twin.swarm.campaign import Course
    from twin.swarm.draw import Menu
    from twin.swarm.engine import Engine
    from twin.swarm.summary import Summary

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

SEED_MAX = (1 << 63) - 1
JOBS_MAX = 256
FOR_S_MAX = 7 * 24 * 3600
INTERRUPTED = 130
_SPAN = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?", re.ASCII)
_DASK = re.compile(r"dask://([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", re.ASCII)


def add_commands(commands: "Commands") -> None:
    """Add the command to the command line."""
    one = commands.add_parser("swarm", help="many drawn failure campaigns, judged together", allow_abbrev=False)
    which = one.add_mutually_exclusive_group()
    which.add_argument("--seeds", type=span(0, SEED_MAX), metavar="A..B", help="the campaigns of these seeds (1..200)")
    which.add_argument("--for", type=_seconds, metavar="TIME", dest="for_s", help="seeds from 1 on for 5m, 90s, 1h30m")
    which.add_argument(
        "--show", type=whole(0, SEED_MAX), metavar="SEED", help="print what a seed is, in words and as a tape"
    )
    one.add_argument("--rack", type=Path, metavar="FILE", help="every campaign in this rack")
    one.add_argument("--catalog", type=Path, metavar="FILE", help="every campaign with these services")
    one.add_argument("--profile", default="default", metavar="NAME|FILE", help="what is drawn (default: default)")
    one.add_argument("--jobs", type=whole(1, JOBS_MAX), metavar="N", help="processes (default: one for each processor)")
    one.add_argument("--engine", type=_engine, default="local", metavar="ENGINE", help="local, or dask://HOST:PORT")
    one.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    one.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    one.add_argument("--report", type=Path, metavar="DIR", help="write a report with pictures")
    one.add_argument("--failures", type=Path, default=Path("failures"), metavar="DIR", help="for tapes (failures/)")
    one.add_argument("--no-shrink", action="store_true", help="leave the tapes of failures as they are")
    one.set_defaults(command=_swarm)


def _seconds(text: str) -> int:
    match = _SPAN.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + seconds
    if not 0 < total <= FOR_S_MAX:
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: allowed: a time such as 90s, 5m, 1h30m; at most 168h")
    return total


def _engine(text: str) -> str:
    match = _DASK.fullmatch(text)
    if text != "local" and not (match and 0 < int(match[2]) < 1 << 16):
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r}: allowed: local, or the scheduler of a Dask cluster, for example dask://127.0.0.1:8786"
        )
    return text


def _swarm(arguments: argparse.Namespace) -> int:
    from twin.swarm.draw import make_menu  # what campaigns need is not light, and no other command needs it

    menu = make_menu(arguments.profile, arguments.rack, arguments.catalog)
    if arguments.show is not None:
        return _show(arguments.show, menu)
    engine = _engine_of(arguments)
    _check_outputs(arguments)
    return _run(arguments, menu, engine)


def _show(seed: int, menu: "Menu") -> int:
    from twin.swarm.draw import draw, in_words
    from twin.swarm.tape import to_toml

    tape = draw(seed, menu)
    print(f"# Seed {seed}: {' '.join(in_words(tape).splitlines())}\n")
    sys.stdout.write(to_toml(tape))
    return 0


def _engine_of(arguments: argparse.Namespace) -> "Engine":
    if arguments.engine == "local":
        from twin.swarm.engine import LocalEngine

        return LocalEngine(arguments.jobs or _processors())
    if arguments.jobs is not None:
        raise InputError([f"--jobs {arguments.jobs}: is for --engine local; a Dask cluster has the workers it has"])
    try:
        from twin.swarm.dask_engine import DaskEngine
    except ImportError as error:
        raise InputError(
            [f"--engine {arguments.engine}: {error.name} is not installed; needed: pip install 'moxie-rack[dask]'"]
        ) from None
    return DaskEngine(arguments.engine.removeprefix("dask://"))


def _processors() -> int:
    """The processors that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Notice before the campaigns run what could not be written after them.

    Raises: InputError with everything that cannot be written.
    """
    problems = []
    folders = {"--report": arguments.report, "--failures": arguments.failures}
    if arguments.junit is not None:
        folders["--junit"] = arguments.junit.parent
        if arguments.junit.is_dir():
            problems.append(f"--junit {arguments.junit}: is a folder; needed: a file")
    for option, folder in folders.items():
        if folder is not None and (reason := _unwritable(folder)):
            problems.append(f"{option} {folder}: cannot be written ({reason}); needed: a folder that can be")
    if problems:
        raise InputError(problems)


def _unwritable(folder: Path) -> str:
    """Why nothing can be written in a folder, or what is above it if it is not there yet; empty if it can be."""
    try:
        while not folder.exists():
            folder = folder.parent
    except (OSError, ValueError) as error:
        return str(error)
    if not folder.is_dir():
        return f"{folder} is no folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"no right to write in {folder}"


def _run(arguments: argparse.Namespace, menu: "Menu", engine: "Engine") -> int:
    """Run the campaigns, explain their failures, tell and write everything; also what there is after a Ctrl-C.

    Raises: InputError, then too after telling what there is, if the cluster is lost or a tape cannot be written.
    """
    from twin.swarm.campaign import Watch, explain, run_course, worst_failures
    from twin.swarm.live import Live
    from twin.swarm.sometimes import SOMETIMES
    from twin.swarm.summary import Failure, Tally, exit_code

    began = time.monotonic()
    live = Live(sys.stderr, time.monotonic, len(menu.profile.sometimes) or len(SOMETIMES))
    tally = Tally(menu.profile.name, menu.profile.sometimes, menu.profile.expect)
    folder: Path = arguments.failures
    course = _course(arguments)
    live.note(f"profile {menu.profile.name}, {course}, on {engine}: {menu.profile.why}")
    watch = Watch(progress=live.progress, failure=live.failure)
    lost: InputError | None = None
    finished, failures = False, list[Failure]()
    with _termination_as_interrupt():
        try:
            finished = run_course(engine, menu, course, tally, folder, time.monotonic, watch)
            failures = worst_failures(tally, menu, folder)
            if finished and not arguments.no_shrink:
                finished = explain(failures, menu, folder, live.step)
        except InputError as error:
            lost = error
    live.done()
    summary = tally.summary(failures, wall_ms=round((time.monotonic() - began) * 1000))
    if lost is None or tally.campaigns:
        _tell(arguments, summary)
    if lost is not None:
        raise lost
    if not finished:
        print("interrupted: this is what had been run", file=sys.stderr)
        return INTERRUPTED
    return exit_code(summary)


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let a cancelled CI job, which gets a SIGTERM, end like a Ctrl-C: with what there is."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _course(arguments: argparse.Namespace) -> "Course":
    from twin.swarm.campaign import Course

    if arguments.for_s is not None:
        return Course(for_s=arguments.for_s)
    first, last = arguments.seeds or (1, 200)
    return Course(first=first, last=last)


def _tell(arguments: argparse.Namespace, summary: "Summary") -> None:
    from trial.junit import write_suite
    from twin.swarm.junit import to_suite
    from twin.swarm.summary import to_json

    if arguments.json:
        sys.stdout.write(to_json(summary).decode())
    else:
        from twin.swarm.summary_text import to_text

        sys.stdout.write(to_text(summary, Paint(sys.stdout.isatty())))
    if arguments.junit is not None:
        write_suite(arguments.junit, to_suite(summary))
    if arguments.report is not None:
        from twin.report.swarm import write_page  # matplotlib takes longer to import than many campaigns to run

        page = write_page(arguments.report, summary)
        if not arguments.json:
            print(f"report: {page}")
