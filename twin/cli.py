"""The command ``twin``: run a scenario, replay a journal, list scenarios, explain a move, compare with a real rack.

Exit codes: 0 pass (or as the scenario expects), 1 crash, 2 bad input, 3 liveness, 4 safety.
"""

import argparse
import os
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, get_args

import msgspec

from core.errors import InputError
from formats.paint import Paint
from trial.junit import write_junit
from trial.scenario import Fidelity, find_scenarios, why
from trial.verdict import EXIT_CODES, Outcome, exit_code, to_json
from twin import cli_advise as advise
from twin import cli_check as small
from twin import cli_crush as crush
from twin import cli_durability as durability
from twin import cli_fidelity as fidelity
from twin import cli_pack as packing
from twin import cli_plan as plan
from twin import cli_scale as scale
from twin import cli_swarm as swarm
from twin import cli_tape as tape
from twin import cli_years as years
from twin.arguments import whole
from twin.calibration import load_over
from twin.explain import explain, to_text
from twin.journals import read_journal
from twin.scenario import Scenario, load_scenario
from twin.story import Story
from twin.timeline import clock, failover_lines, incident_lines, strip_lines, verdict_lines

if TYPE_CHECKING:
    from twin.run import Result

SEED_MAX = (1 << 63) - 1
PROGRESS_AFTER_S = 2.0
"""A run that takes longer than this says how far it is, if somebody watches."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and hand back its exit code."""
    arguments = command_line().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a sign gets a question mark, not a traceback
    try:
        return command(arguments)
    except InputError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return EXIT_CODES["input"]
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def command_line() -> argparse.ArgumentParser:
    """Build the parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="twin", description="The simulated rack.", epilog=_EXITS, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _run_parser(commands.add_parser("run", help="run a scenario: timeline, verdict, report", allow_abbrev=False))
    one = commands.add_parser("replay", help="feed a journal to fresh machines and compare", allow_abbrev=False)
    one.add_argument("journal", type=Path)
    one.set_defaults(command=_replay)
    one = commands.add_parser("scenarios", help="list scenarios with their reasons", allow_abbrev=False)
    one.add_argument("folder", type=Path, nargs="?", default=Path("scenarios"), metavar="DIR")
    one.set_defaults(command=_scenarios)
    one = commands.add_parser("explain", help="why a singleton moved, from a journal", allow_abbrev=False)
    one.add_argument("journal", type=Path)
    one.add_argument("--service", required=True, help="name of a singleton")
    one.add_argument("--json", action="store_true", help="one JSON object instead of text")
    one.set_defaults(command=_explain)
    fidelity.add_commands(commands)
    small.add_commands(commands)
    swarm.add_command(commands)
    tape.add_commands(commands)
    for one_command in (advise, plan, scale, packing, durability, years, crush):
        one_command.add_command(commands)
    return parser


_EXITS = "exit codes: 0 pass or as expected, 1 crash, 2 bad input, 3 liveness, 4 safety"


def _run_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="PATH", help="a scenario's folder or file")
    parser.add_argument("--seed", type=whole(0, SEED_MAX), help="another seed than the scenario's")
    parser.add_argument("--fidelity", choices=get_args(Fidelity), help="every message, or only changes")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write a report with pictures")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="recorded outages for a scenario that replays them")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="write the journal, for replay and explain")
    parser.add_argument("--calibration", type=Path, metavar="FILE", help="other timings, as `twin fit` writes them")
    parser.set_defaults(command=_run)


# -- run ---------------------------------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    scenario = load_scenario(arguments.path)
    if arguments.trace is not None and scenario.trace is None:
        raise InputError([f"--trace {arguments.trace}: the scenario {scenario.name} replays no recorded outages"])
    result, wall_ms = _ran(arguments, scenario)
    outcome, story = msgspec.structs.replace(result.outcome, wall_ms=wall_ms), result.story
    if arguments.json:
        sys.stdout.write(to_json(outcome).decode())
    else:
        _tell(scenario, story, outcome)
    _write_files(arguments, scenario, story, outcome)
    return exit_code(outcome)


def _ran(arguments: argparse.Namespace, scenario: Scenario) -> tuple["Result", int]:
    """Run the scenario, with its journal if one is wanted; also the wall time in milliseconds, without imports.

    Raises: InputError also if the journal cannot be written.
    """
    from twin.run import Options, run  # the world is only needed here, and not light

    calibration = load_over(arguments.calibration) if arguments.calibration is not None else None
    options = Options(seed=arguments.seed, fidelity=arguments.fidelity, trace=arguments.trace, calibration=calibration)
    journal: Path | None = arguments.journal
    began = time.perf_counter()
    try:
        with ExitStack() as stack:
            sink = None
            if journal is not None:
                journal.parent.mkdir(parents=True, exist_ok=True)
                sink = stack.enter_context(journal.open("wb")).write
            result = run(scenario, options, sink, _progress(sys.stderr, began))
        return result, max(1, round((time.perf_counter() - began) * 1000))
    except (OSError, ValueError) as error:
        if journal is None:
            raise
        raise InputError([f"--journal {journal}: cannot be written ({error}); needed: a file"]) from None
    finally:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")


def _tell(scenario: Scenario, story: Story, outcome: Outcome) -> None:
    """Print a run for a person."""
    paint = Paint(sys.stdout.isatty())
    head = textwrap.wrap(scenario.why[:1].upper() + scenario.why[1:], 100, initial_indent="  ", subsequent_indent="  ")
    strips = strip_lines(story, paint)
    lines = [
        paint.strong(scenario.name),
        *head,
        "",
        *incident_lines(story, paint),
        "",
        *strips,
        *([""] if strips else []),
    ]
    moves = failover_lines(outcome.failovers, paint)
    print("\n".join([*lines, *moves, *([""] if moves else []), *verdict_lines(outcome, paint)]))


def _write_files(arguments: argparse.Namespace, scenario: Scenario, story: Story, outcome: Outcome) -> None:
    if arguments.report is not None:
        from twin.report import write_report  # matplotlib takes longer to import than a scenario to run

        page = write_report(arguments.report, story, outcome, scenario.expect.gates)
        if not arguments.json:
            print(f"  report       {page}")
    if arguments.junit is not None:
        write_junit(arguments.junit, outcome)


def _progress(stream: TextIO, began: float) -> Callable[[int, int], None] | None:
    """Report progress to a person at a terminal, and to nobody else."""
    if not stream.isatty():
        return None
    shown = 0.0

    def show(now_ms: int, end_ms: int) -> None:
        nonlocal shown
        passed = time.perf_counter() - began
        if passed > PROGRESS_AFTER_S and passed - shown > 0.2:
            shown = passed
            percent = now_ms * 100 // max(1, end_ms)
            stream.write(f"\r\x1b[K{clock(now_ms)} of {clock(end_ms)} simulated ({percent} %), {passed:.0f} s")
            stream.flush()

    return show


# -- the other commands ------------------------------------------------------------------------------------------------


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


def _scenarios(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    if not folder.is_dir():
        raise InputError([f"{folder}: is no folder; needed: one with a folder for each scenario"])
    files = find_scenarios(folder)
    if not files:
        raise InputError([f"{folder}: holds no scenario; needed: folders with a scenario.toml each"])
    width = max(len(file.parent.name) for file in files)
    problems: list[str] = []
    for file in files:
        try:
            print(f"{file.parent.name:<{width}}  {why(file)}")
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    told = explain(read_journal(arguments.journal), arguments.service, str(arguments.journal))
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    else:
        sys.stdout.write(to_text(told, Paint(sys.stdout.isatty())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
