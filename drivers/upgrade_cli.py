"""The commands ``rack upgrade ...``."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from core.errors import InputError
from core.records import MEMBERS, MemberRecord
from drivers.access import Access, load_access
from drivers.upgrade import PARALLEL_MAX, Pace, Progress, begin, headline, progress, set_state, table

if TYPE_CHECKING:
    from drivers.zookeeper_operator import Operator

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

WATCH_S = 2.0
STORAGE = (
    "--parallel: nodes of one power domain go at once; safe for volumes only if the storage keeps its copies in "
    "different power domains (CRUSH rule). 'rack upgrade rehearse --parallel N' shows what it does otherwise"
)
HALTED = 1
_CONFIG = "operator.toml or node.toml (default: operator.toml here or in /etc/moxie, else /etc/moxie/node.toml)"


def add(commands: "Commands") -> None:
    """Add the commands to the parser of ``rack upgrade``."""
    one = _command(commands, "start", "take every node to another image, one power domain after the other", _start)
    one.add_argument("--image", required=True, metavar="ID|DIR", help="an image that is served, or its folder")
    one.add_argument("--parallel", type=_parallel, default=1, metavar="N", help="nodes of one power domain at once (1)")
    one = _command(commands, "status", "how far it is; exit code 1 if it halted", _status)
    one.add_argument("--watch", action="store_true", help="again and again, until it is over")
    one.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    _command(commands, "halt", "begin nothing new, and take back the nodes that are under way", _wish)
    _command(commands, "resume", "carry on after a halt", _wish)
    text = "run it in the simulated rack first: does it go well, and how long does it take?"
    one = _command(commands, "rehearse", text, _rehearse)
    one.add_argument("--parallel", type=_parallel, default=1, metavar="N", help="as for start")
    one.add_argument("--out", type=Path, metavar="DIR", help="keep the snapshot in this new folder")


def _command(
    commands: "Commands", name: str, text: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    one = commands.add_parser(name, help=text, allow_abbrev=False)
    one.add_argument("--config", type=Path, metavar="FILE", help=_CONFIG)
    one.set_defaults(command=run, wish=name)
    return one


def _parallel(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= PARALLEL_MAX):
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: allowed: whole numbers from 1 to {PARALLEL_MAX}")
    return int(text)


# -- the commands ------------------------------------------------------------------------------------------------------


def _start(arguments: argparse.Namespace) -> int:
    from drivers.upgrade_images import give, named, servers_with

    image, folder = named(arguments.image)
    access = load_access(arguments.config)
    if arguments.parallel > 1 and access.config.tables.ceph is not None:
        print(STORAGE, file=sys.stderr)
    if folder is not None:
        print(give(access, image, folder))

    def run(operator: "Operator") -> None:
        access.learn(operator.below("/moxie/machines"))
        having = servers_with(access, image)
        print(f"image {image} is served by {' '.join(having[:10])}{' …' if len(having) > 10 else ''}")
        members = {
            change.data.node: change.data
            for change in operator.below(MEMBERS).values()
            if isinstance(change.data, MemberRecord)
        }
        print(begin(operator, members, image, arguments.parallel))
        print("'rack upgrade status --watch' shows how far it is")

    _with_operator(access, run)
    return 0


def _wish(arguments: argparse.Namespace) -> int:
    wish: Literal["halt", "resume"] = "halt" if arguments.wish == "halt" else "resume"
    _with_operator(load_access(arguments.config), lambda operator: print(set_state(operator, wish)))
    return 0


def _with_operator(access: Access, run: Callable[["Operator"], None]) -> None:
    """Run with a connection to the shared records. Raises: InputError also if there is none."""
    from drivers.zookeeper_operator import Operator, Unreachable

    try:
        with Operator(access.config) as operator:
            run(operator)
    except Unreachable as error:
        remedy = "'rack status' says which servers answer"
        raise InputError([f"the ensemble cannot be reached ({error}); {remedy}"]) from None


def _status(arguments: argparse.Namespace) -> int:
    access, pace = load_access(arguments.config), Pace()
    while True:
        try:
            seen = _look(access)
        except InputError as error:
            if not arguments.watch:
                raise
            print("\n".join(error.problems), file=sys.stderr)  # whoever watches wants to see it come back
        else:
            if seen is None:
                raise InputError(["rack upgrade status: no upgrade was ever begun; 'rack upgrade start' begins one"])
            pace.saw(seen)
            _show(seen, pace, arguments)
            if not arguments.watch or seen.over:
                return HALTED if seen.record.state == "halted" else 0
        time.sleep(WATCH_S)


def _look(access: Access) -> Progress | None:
    from drivers.status import look

    return progress(look(access))


def _show(seen: Progress, pace: Pace, arguments: argparse.Namespace) -> None:
    from formats.columns import columns, room_here
    from formats.paint import Paint

    if arguments.json:
        shown = {"left_s": round(seen.rounds * pace.turn_s), "turn_s": round(pace.turn_s), "measured": pace.measured}
        print(json.dumps({**msgspec.to_builtins(seen), **shown}, separators=(",", ":")), flush=True)
        return
    paint = Paint(sys.stdout.isatty())
    clear = "\x1b[H\x1b[2J" if arguments.watch and sys.stdout.isatty() else ""
    said = headline(seen, pace)
    colour = paint.bad if seen.record.state == "halted" else paint.strong
    head, *rows = table(seen)
    print(clear + "\n".join([colour(said), "", *columns(head, list(rows), paint, room_here())]), flush=True)


def _rehearse(arguments: argparse.Namespace) -> int:
    from drivers.snapshot import take
    from drivers.status import look
    from drivers.upgrade_rehearsal import FOLDER

    twin = shutil.which("twin") or shutil.which("twin", path=str(Path(sys.executable).parent))
    if twin is None and arguments.out is None:
        needed = "the program 'twin' beside 'rack', or --out DIR to run it elsewhere"
        raise InputError([f"rack upgrade rehearse: the simulated rack is not installed here; needed: {needed}"])
    access = load_access(arguments.config)
    with tempfile.TemporaryDirectory() as temporary:
        out: Path = arguments.out if arguments.out is not None else Path(temporary) / "snapshot"
        take(access, look(access), out, parallel=arguments.parallel)
        words = ["run", str(out / FOLDER)]
        if (out / "calibration.toml").is_file():
            words += ["--calibration", str(out / "calibration.toml")]
        if twin is None:
            print(f"to rehearse it: twin {' '.join(words)}")
            return 0
        return subprocess.run((twin, *words), check=False).returncode
