"""The command ``twin scale``: what one more node gives and costs, from a few nodes to a thousand."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from formats.arguments import whole
from twin.arguments import made, progress

if TYPE_CHECKING:
    from twin.scaling.scale import Scaling

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

R = TypeVar("R")
SIZES = "5,10,30,100,300,1000"
DIGITS_MAX = 9


def add_commands(commands: "Commands") -> None:
    """Add the command to the command line."""
    one = commands.add_parser("scale", help="what one more node gives, up to a thousand", allow_abbrev=False)
    sizes = f"sizes to grow to, three at least (default: {SIZES})"
    one.add_argument("--nodes", type=_sizes, default=_sizes(SIZES), metavar="A,B,...", help=sizes)
    one.add_argument("--seeds", type=whole(1, 100), default=3, metavar="N", help="runs of each size (default: 3)")
    one.add_argument("--jobs", type=whole(1, 64), default=1, metavar="N", help="processes (default: 1)")
    one.add_argument("--rack", type=Path, metavar="FILE", help="a rack file: its first server is the model of all")
    one.add_argument("--catalog", type=Path, default=Path("catalog/minimal.toml"), metavar="FILE", help="the services")
    storms = "the largest size whose cold start is measured, 0 for none (default: all)"
    one.add_argument("--storms", type=whole(0, 10_000), default=10_000, metavar="N", help=storms)
    one.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    one.add_argument("--report", type=Path, metavar="DIR", help="write a page with pictures")
    one.set_defaults(command=_scale)


def _sizes(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) <= DIGITS_MAX for word in words):
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: allowed: whole numbers with commas, such as {SIZES}")
    return tuple(int(word) for word in words)


def _scale(arguments: argparse.Namespace) -> int:
    from twin.scaling.scale import scale  # scipy and the world are not light, and only needed here

    folder: Path | None = made(arguments.report) if arguments.report is not None else None
    found = scale(
        arguments.nodes,
        arguments.seeds,
        rack=arguments.rack,
        catalog=arguments.catalog,
        storms=arguments.storms,
        clock=time.thread_time_ns,
        run=lambda jobs: _run(jobs, arguments.jobs),
    )
    page: Path | None = None
    if folder is not None:
        from twin.report.scale import write_page  # matplotlib takes longer to import than all else here

        page = write_page(folder, found)
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        sys.stdout.write(_text(found) + (f"\nreport: {page}\n" if page is not None else ""))
    return 0


def _run(jobs: Sequence[Callable[[], R]], processes: int) -> Iterator[R]:
    """Carry jobs out in order, with several processes from the largest on; results come in the order of the jobs."""
    show = progress("racks measured")
    show(0, len(jobs))
    if processes == 1:
        for done, job in enumerate(jobs, start=1):
            yield job()
            show(done, len(jobs))
        return
    from multiprocessing import get_context

    with get_context("fork").Pool(processes) as pool:
        waiting = [pool.apply_async(job) for job in reversed(jobs)]  # the largest take longest, so they begin
        for done, one in enumerate(reversed(waiting), start=1):
            yield one.get()
            show(done, len(jobs))


def _text(found: "Scaling") -> str:
    """What a person reads at a terminal."""
    verdict = [f"not linear: {problem}" for problem in found.broken] or ["scales linearly, as far as it was measured"]
    return "\n\n".join([found.summary.to_text(), found.growth.to_text(), "\n".join([*found.words, *verdict])]) + "\n"
