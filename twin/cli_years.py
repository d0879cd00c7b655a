"""The command ``twin years``: years of failures of a big site, and what users notice of them."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from core.errors import InputError
from formats.arguments import whole
from formats.paint import Paint
from twin import arguments as kinds

if TYPE_CHECKING:
    from twin.failures.components import Component

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_WHAT = "a rack file, or a folder of JSON that a real Ceph cluster printed; without it --nodes and --disks count"


def add_commands(commands: "Commands") -> None:
    """Add the command to the command line."""
    one = commands.add_parser("years", help="years of failures of a big site", allow_abbrev=False)
    one.add_argument("source", type=Path, nargs="?", metavar="SOURCE", help=_WHAT)
    one.add_argument("--nodes", type=whole(1, 100_000), metavar="N", help="equal nodes (default: 1000)")
    one.add_argument("--disks", type=whole(1, 1_000), metavar="D", help="disks in each node (default: 10)")
    one.add_argument("--years", type=kinds.real(0, 100), default=1.0, metavar="Y", help="how long (default: 1)")
    one.add_argument("--pool", metavar="NAME", help="the pool of SOURCE to follow (default: the one that holds most)")
    one.add_argument("--size", type=whole(1, 32), metavar="N", help="shards of a group (default: 3)")
    one.add_argument("--min-size", type=whole(1, 32), metavar="N", help="shards to serve (default: 2)")
    one.add_argument("--needed", type=whole(1, 32), metavar="N", help="shards that restore a group (default: 1)")
    one.add_argument("--disk-rate", type=kinds.real(0, 10), metavar="R", help="failures of a disk a year, constant")
    one.add_argument("--disk-model", metavar="NAME", help="a drive model of Backblaze's (docs/failures.md)")
    one.add_argument("--node-fit", metavar="SET[:FAMILY]", help="nodes of the Failure Trace Archive (docs/failures.md)")
    one.add_argument("--independent", action="store_true", help="no bursts, racks and power units: nodes fail alone")
    one.add_argument("--seed", type=whole(0, 2**63 - 1), default=1, metavar="N", help="another seed (default: 1)")
    one.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    one.add_argument("--report", type=Path, metavar="DIR", help="write a page with pictures")
    one.set_defaults(command=_years)


def _years(arguments: argparse.Namespace) -> int:
    _check(arguments)
    folder: Path | None = arguments.report
    if folder is not None:
        kinds.made(folder)
    from twin.years.site_years import site_years  # numpy and scipy are only needed here, and not light
    from twin.years.words import to_json, to_text

    years = site_years(
        arguments.source,
        nodes=arguments.nodes or 1_000,
        disks=arguments.disks or 10,
        years=arguments.years,
        seed=arguments.seed,
        pool=arguments.pool,
        size=arguments.size or 3,
        min_size=arguments.min_size or min(2, arguments.size or 2),
        needed=arguments.needed or 1,
        disk=_disk(arguments),
        node=_node(arguments),
        correlated=not arguments.independent,
        progress=_progress(),
    )
    page = None
    if folder is not None:
        from twin.report.years import write_years  # matplotlib takes longer to import than all else here

        page = write_years(folder, years)
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(to_json(years)).decode() + "\n")
    else:
        sys.stdout.write(to_text(years, Paint(sys.stdout.isatty())))
        sys.stdout.write(f"  report      {page}\n" if page is not None else "")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    own = ("nodes", "disks", "size", "min_size", "needed")
    given = [f"--{name.replace('_', '-')}" for name in own if getattr(arguments, name) is not None]
    if arguments.source is not None and given:
        raise InputError([f"{', '.join(given)}: {arguments.source} says that; allowed: without SOURCE"])
    if arguments.source is None and arguments.pool is not None:
        raise InputError(["--pool: needs a SOURCE that has pools"])
    if arguments.disk_rate is not None and arguments.disk_model is not None:
        raise InputError(["--disk-rate, --disk-model: allowed: one of them"])


def _disk(arguments: argparse.Namespace) -> "Component | None":
    from twin.failures.components import disk
    from twin.failures.published import DRIVES

    if arguments.disk_model is None:
        return disk(arguments.disk_rate) if arguments.disk_rate is not None else None
    if arguments.disk_model not in DRIVES:
        raise InputError([f"--disk-model {arguments.disk_model!r}: not known; there are: {', '.join(DRIVES)}"])
    return disk(model=arguments.disk_model)


def _node(arguments: argparse.Namespace) -> "Component":
    from twin.failures.components import NODE, fitted_node
    from twin.failures.likelihood import FAMILIES
    from twin.failures.published import FTA_SETS

    if arguments.node_fit is None:
        return NODE
    name, _, word = arguments.node_fit.partition(":")
    family = next((family for family in FAMILIES if family == (word or "weibull")), None)
    if name not in FTA_SETS or family is None:
        allowed = f"one of {', '.join(FTA_SETS)}, with one of :{', :'.join(FAMILIES)} behind it if you like"
        raise InputError([f"--node-fit {arguments.node_fit!r}: not known; allowed: {allowed}"])
    return fitted_node(name, family)


def _progress() -> Callable[[str], None]:
    """Tell a person at a terminal what is being computed, and nobody else."""

    def show(what: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{what} ...")
            sys.stderr.write("\r\x1b[K" if what == "singletons" else "")
            sys.stderr.flush()

    return show
