"""The commands for a journal: ``twin replay`` and ``twin explain``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from core.errors import InputError
from formats.paint import Paint
from trial.verdict import EXIT_CODES
from twin.explain import explain, to_text
from twin.journals import read_journal
from twin.timeline import clock

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_commands(commands: "Commands") -> None:
    """Add both commands to the command line."""
    one = commands.add_parser("replay", help="feed a journal to fresh machines and compare", allow_abbrev=False)
    one.add_argument("journal", type=Path)
    one.set_defaults(command=_replay)
    one = commands.add_parser("explain", help="why a singleton moved, from a journal", allow_abbrev=False)
    one.add_argument("journal", type=Path)
    one.add_argument("--service", required=True, help="name of a singleton")
    one.add_argument("--json", action="store_true", help="one JSON object instead of text")
    one.set_defaults(command=_explain)


def _replay(arguments: argparse.Namespace) -> int:
    from core.machine import Machine
    from twin.replay import replay

    try:
        found = replay(read_journal(arguments.journal), Machine, Machine.restore)
    except msgspec.DecodeError as error:
        raise InputError([f"{arguments.journal}: holds a snapshot that is none ({error})"]) from None
    if not found.machines:
        raise InputError(
            [f"{arguments.journal}: holds no opening of any machine; needed: a journal, as --journal writes it"]
        )
    counts = f"{found.machines} machines, {found.events:,d} events, {found.effects:,d} effects"
    if found.skipped:
        counts += f"; {found.skipped:,d} lines skipped, whose machines' openings are not in this journal"
    difference = found.difference
    if difference is None:
        print(f"identical: {counts}")
        return 0
    agent = f"{difference.node}, agent process {difference.incarnation}"
    print(f"first difference at line {difference.line}, {clock(difference.at_ms)}, {agent}, after {counts}")
    print(f"  event     {difference.event}\n  journal   {difference.journal}\n  replayed  {difference.replayed}")
    return EXIT_CODES["safety"]


def _explain(arguments: argparse.Namespace) -> int:
    told = explain(read_journal(arguments.journal), arguments.service, str(arguments.journal))
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    else:
        sys.stdout.write(to_text(told, Paint(sys.stdout.isatty())))
    return 0
