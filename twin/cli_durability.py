"""The command ``twin durability``: how likely data loss is in a year, and why independence lies."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from formats.arguments import whole
from formats.paint import Paint
from twin import arguments as kinds

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_WHAT = "a rack file, or a folder of JSON that a real Ceph cluster printed (see docs/planning.md)"
_BURSTS = "ford (published), none, or a file with the failure behaviour of your own site (default: ford)"


def add_commands(commands: "Commands") -> None:
    """Add the command to the command line."""
    one = commands.add_parser("durability", help="how likely a cluster is to lose data", allow_abbrev=False)
    one.add_argument("source", type=Path, metavar="SOURCE", help=_WHAT)
    one.add_argument("--years", type=kinds.real(0.0, 100.0), default=1.0, metavar="N", help="time (default: 1)")
    one.add_argument("--bursts", default="ford", metavar="ford|none|FILE", help=_BURSTS)
    one.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="assume otherwise"
    )
    one.add_argument("--assume", type=Path, metavar="FILE", help="assumptions, key = value lines")
    one.add_argument(
        "--samples", type=whole(100, 1_000_000), default=2_000, metavar="N", help="samples (default: 2000)"
    )
    one.add_argument("--seed", type=whole(0, 2**63 - 1), default=0, metavar="N", help="of the random draws")
    one.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    one.add_argument("--report", type=Path, metavar="DIR", help="write a page with pictures")
    one.set_defaults(command=_durability)


def _durability(arguments: argparse.Namespace) -> int:
    from twin.durability.assess import data_loss  # numpy and scipy are only needed here, and not light
    from twin.durability.words import to_json, to_text

    folder: Path | None = arguments.report
    if folder is not None:
        kinds.made(folder)
    found = data_loss(
        arguments.source,
        years=arguments.years,
        bursts=arguments.bursts,
        settings=arguments.settings,
        assume=arguments.assume,
        samples=arguments.samples,
        seed=arguments.seed,
        progress=kinds.progress("behaviours simulated"),
    )
    page: Path | None = None
    if folder is not None:
        from twin.report.durability import write_page  # matplotlib takes longer to import than all else here

        page = write_page(folder, found)
    if arguments.json:
        sys.stdout.write(to_json(found).decode() + "\n")
    else:
        sys.stdout.write(to_text(found, Paint(sys.stdout.isatty())))
        sys.stdout.write(f"report: {page}\n" if page is not None else "")
    return 0
