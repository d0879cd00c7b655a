"""The command ``twin plan``: what is usable, what limits it, what the next nodes bring, what a loss does."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from formats.paint import Paint
from twin import arguments as kinds

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

NODES_MAX = 20_000
CATALOG = Path("catalog/minimal.toml")
"""The services of a rack whose catalog is not named; without this file none are counted."""

_WHAT = "a rack file, or a folder of JSON that a real Ceph cluster printed (see docs/planning.md)"


def add_commands(commands: "Commands") -> None:
    """Add the command to the command line."""
    one = commands.add_parser("plan", help="usable capacity, growth and loss of a cluster", allow_abbrev=False)
    one.add_argument("source", type=Path, metavar="SOURCE", help=_WHAT)
    one.add_argument("--grow", type=kinds.span(1, NODES_MAX), metavar="A..B", help="add nodes, one step each")
    one.add_argument(
        "--lose", choices=["node", "rack", "pdu"], help="what the worst such loss does; it is survived too"
    )
    one.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="assume otherwise"
    )
    one.add_argument("--assume", type=Path, metavar="FILE", help="assumptions, key = value lines")
    one.add_argument("--mix", type=Path, metavar="FILE", help="flavours of VMs and their shares")
    one.add_argument("--catalog", type=Path, metavar="FILE", help="the rack's own services")
    one.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    one.add_argument("--report", type=Path, metavar="DIR", help="write a page with pictures")
    one.set_defaults(command=_plan)


def _plan(arguments: argparse.Namespace) -> int:
    from twin.capacity.plan import plan  # numpy and scipy are only needed here, and not light
    from twin.capacity.plan_json import plan_to_json
    from twin.capacity.plan_text import plan_to_text

    catalog: Path | None = arguments.catalog
    if catalog is None and arguments.source.is_file() and CATALOG.is_file():
        catalog = CATALOG
    folder: Path | None = arguments.report
    if folder is not None:
        kinds.made(folder)
    found = plan(
        arguments.source,
        grow=arguments.grow,
        lose=arguments.lose,
        settings=arguments.settings,
        assume=arguments.assume,
        mix=arguments.mix,
        catalog=catalog,
        progress=kinds.progress("sizes planned"),
    )
    page = None
    if folder is not None:
        from twin.report.plan import write_plan_report  # matplotlib takes longer to import than most plans

        page = write_plan_report(folder, found)
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(plan_to_json(found)).decode() + "\n")
    else:
        sys.stdout.write(plan_to_text(found, Paint(sys.stdout.isatty())))
        if page is not None:
            sys.stdout.write(f"  report       {page}\n")
    return 0
