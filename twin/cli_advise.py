"""The command ``twin advise``: which timers a rack should have, by its own jitter."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from formats.arguments import whole
from formats.paint import Paint
from twin.arguments import made, progress, real

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

NOTHING = 3
"""The exit code if nothing can be advised: 3, as for any expectation that is not met."""


def add_commands(commands: "Commands") -> None:
    """Add the command to the command line."""
    one = commands.add_parser("advise", help="which timers to set, by measured jitter", allow_abbrev=False)
    one.add_argument("rack", type=Path, metavar="RACK", help="a rack file")
    one.add_argument("--catalog", type=Path, default=Path("catalog/minimal.toml"), metavar="FILE", help="its services")
    one.add_argument("--journal", type=Path, nargs="+", metavar="FILE", help="journals of its agents: the jitter")
    one.add_argument(
        "--seeds", type=whole(1, 10_000), default=20, metavar="N", help="failovers a setting (default: 20)"
    )
    one.add_argument("--yearly", type=real(0, 1e6), default=1.0, metavar="N", help="false alarms a year (default: 1)")
    one.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    one.add_argument("--report", type=Path, metavar="DIR", help="write a page with the trade-offs as pictures")
    one.set_defaults(command=_advise)


def _advise(arguments: argparse.Namespace) -> int:
    from twin.advise.rack import advise  # the world and numpy are only needed here, and not light
    from twin.advise.words import to_text

    folder: Path | None = arguments.report
    if folder is not None:
        made(folder)
    journals = arguments.journal or ()
    if not journals:
        said = "no --journal: the jitter is that of the twin's calibration, which knows no rare stalls"
        print(said, file=sys.stderr)
    advice = advise(
        arguments.rack,
        arguments.catalog,
        journals,
        arguments.seeds,
        arguments.yearly,
        progress=progress("settings measured"),
    )
    if folder is not None:
        from twin.report.advice import write_page  # matplotlib takes longer to import than all else here

        write_page(folder / "advice.html", advice)
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(advice).decode() + "\n")
    else:
        sys.stdout.write(to_text(advice, Paint(sys.stdout.isatty())))
        sys.stdout.write(f"report: {folder / 'advice.html'}\n" if folder is not None else "")
    return 0 if advice.advised is not None else NOTHING
