"""``rack lab``: a rack of real processes brought up, looked at, put on trial and taken down.

Exit codes: 0 done or as the scenario expects, 1 crash, 2 bad input or a machine that cannot, 3 liveness, 4 safety.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from core.errors import InputError
from drivers.lab import machines_cli
from drivers.lab.layout import DEFAULT_DIR, DEFAULT_NAME, NODES_MAX, LabFailure
from formats.arguments import whole

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

BAD_INPUT, FAILED = 2, 1
REPEAT_MAX = 1_000
NAME_MAX = 8
SCENARIOS = Path("scenarios")
CATALOG = Path("catalog/lab.toml")


def add(commands: "Commands") -> None:
    """Add the lab's commands to a command line."""
    one = _command(commands, "up", "bring a lab up and wait until it has settled", _up)
    one.add_argument("--nodes", type=whole(1, NODES_MAX), default=5, metavar="N", help="equal nodes (default: 5)")
    one.add_argument("--rack", type=Path, metavar="FILE", help="the nodes of a rack file instead")
    one.add_argument("--catalog", type=Path, metavar="FILE", help=f"the services (default: {CATALOG})")
    one.add_argument("--real-services", action="store_true", help="run the catalog's own commands where it has some")
    one.add_argument("--from-one", action="store_true", help="press one button: the rack powers on the others itself")
    one.add_argument("--boot-ms", type=whole(0, 600_000), default=2_000, metavar="MS", help="what firmware takes")
    machines_cli.add_to_up(one)
    machine = commands.add_parser("machine", help="one emulated machine: add, kill, replace, console, list")
    inner = machine.add_subparsers(required=True, metavar="COMMAND")
    machines_cli.add(lambda name, text, do: _command(inner, name, text, do))
    _command(commands, "down", "take a lab away, whatever is left of it", _down)
    one = _command(commands, "status", "what the lab's rack is doing", _status)
    one.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    one = _command(commands, "run", "put a scenario on trial: real faults, real clients, a verdict", _run)
    one.add_argument("scenario", type=Path, nargs="*", metavar="SCENARIO", help="its folder or its file")
    one.add_argument("--all", action="store_true", help=f"every scenario of {SCENARIOS}/ that has a real counterpart")
    one.add_argument("--repeat", type=whole(1, REPEAT_MAX), default=1, metavar="N", help="run each so many times")
    one.add_argument("--json", action="store_true", help="one JSON object a run, on one line, and nothing else")
    one.add_argument("--as-written", action="store_true", help="strike at the scenario's own times")
    one.add_argument("--keep", action="store_true", help="leave the lab up")
    one.add_argument("--report", type=Path, metavar="DIR", help="keep outcomes, histories and journals here")
    one.add_argument("--junit", type=Path, metavar="FILE", help="write the last run as JUnit XML")
    one.add_argument("--real-services", action="store_true", help="run the catalog's own commands where it has some")


def run(arguments: argparse.Namespace) -> int:
    """Run one of the lab's commands and hand back its exit code. Raises: InputError."""
    command: Callable[[argparse.Namespace], int] = arguments.lab_command
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return command(arguments)
    except LabFailure as error:
        print(f"rack lab: {error}", file=sys.stderr)
        return FAILED
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_number: int, _frame: object) -> None:
    """Being told to end is like Ctrl-C: what was begun is taken away."""
    raise KeyboardInterrupt


def _command(
    commands: "Commands", name: str, text: str, command: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    one = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    one.add_argument("--name", type=_name, default=DEFAULT_NAME, help=f"prefix of namespaces (default: {DEFAULT_NAME})")
    one.add_argument("--dir", type=Path, default=DEFAULT_DIR, help=f"the lab's folder (default: {DEFAULT_DIR})")
    one.set_defaults(lab_command=command)
    return one


def _name(text: str) -> str:
    if not (text.isascii() and text.isalnum() and text == text.lower() and 1 <= len(text) <= NAME_MAX):
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: allowed: 1 to {NAME_MAX} small letters and digits")
    return text


def say() -> Callable[[str], None]:
    """Progress for whoever watches, with the seconds since the begin."""
    begun = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {text}", file=sys.stderr, flush=True)

    return tell


def _up(arguments: argparse.Namespace) -> int:
    if arguments.machines:
        return machines_cli.up(arguments, say())
    from drivers.lab.build import Blueprint, equal_nodes, nodes_of
    from drivers.lab.lab import key_of, only_one, up
    from drivers.lab.layout import Layout
    from formats.catalog import load_catalog
    from formats.rack import load_rack

    catalog = load_catalog(arguments.catalog if arguments.catalog is not None else CATALOG)
    nodes = nodes_of(load_rack(arguments.rack)) if arguments.rack is not None else equal_nodes(arguments.nodes)
    layout = Layout(
        name=arguments.name,
        folder=arguments.dir.absolute(),
        nodes=nodes,
        vips=tuple(spec.address for spec in catalog.specs if spec.address),
        boot_ms=arguments.boot_ms,
        volumes=any(spec.volume for spec in catalog.specs),
    )
    plan = Blueprint(layout=layout, catalog=catalog, real_services=arguments.real_services)
    plan = msgspec.structs.replace(plan, layout=msgspec.structs.replace(layout, key=key_of(plan)))
    with only_one(layout.folder):
        up(plan, say(), arguments.from_one)
    print(f"the lab is up: rack lab status --name {layout.name} --dir {layout.folder}")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    from drivers.lab.lab import down

    _needs_root()
    down(arguments.name, arguments.dir.absolute(), say())
    return 0


def _needs_root() -> None:
    if os.geteuid() != 0:
        raise InputError(["rack lab: namespaces and mounts need root; remedy: sudo rack lab ..."])


def _status(arguments: argparse.Namespace) -> int:
    from drivers.access import load_access
    from drivers.lab.build import operator_of
    from drivers.lab.lab import find
    from drivers.lab.shell import enter
    from drivers.status import look, to_json
    from drivers.status_text import status_text
    from formats.columns import room_here
    from formats.paint import Paint

    _needs_root()
    layout = find(arguments.name, arguments.dir.absolute())
    enter(layout.client)
    rack = look(load_access(operator_of(layout.folder)))
    sys.stdout.write(to_json(rack) if arguments.json else status_text(rack, Paint(sys.stdout.isatty()), room_here()))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from drivers.lab.campaign import Campaign, Wanted, runnable, summary
    from drivers.lab.lab import check_machine, only_one
    from drivers.lab.text import outcome_text
    from formats.paint import Paint
    from trial.junit import write_junit
    from trial.verdict import exit_code, to_json

    if bool(arguments.scenario) == arguments.all:
        raise InputError(["rack lab run: needed: scenarios, or --all, and not both"])
    tell = say()
    paths = runnable(SCENARIOS, tell) if arguments.all else tuple(arguments.scenario)
    check_machine(volumes=True)
    wanted = Wanted(
        scenarios=paths,
        name=arguments.name,
        folder=arguments.dir.absolute(),
        repeat=arguments.repeat,
        as_written=arguments.as_written,
        keep=arguments.keep,
        real_services=arguments.real_services,
        report=arguments.report.absolute() if arguments.report is not None else None,
    )
    outcomes = []
    with only_one(wanted.folder):
        for ran in Campaign(wanted, tell).runs():
            outcomes.append(ran.outcome)
            if arguments.json:
                sys.stdout.write(to_json(ran.outcome).decode())
            else:
                sys.stdout.write(outcome_text(ran.outcome, ran.marks, Paint(sys.stdout.isatty())))
            sys.stdout.flush()
    if arguments.junit is not None and outcomes:
        write_junit(arguments.junit, outcomes[-1])
    if len(outcomes) > 1:
        for line in summary(outcomes):
            tell(line)
    return max((exit_code(outcome) for outcome in outcomes), default=0)
