"""The commands ``twin run`` and ``twin scenarios``: run a scenario, list what there is."""

import argparse
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, get_args

import msgspec

from core.errors import InputError
from formats.arguments import whole
from formats.paint import Paint
from trial.scenario import Fidelity, find_scenarios, why
from trial.verdict import Outcome, exit_code, to_json
from twin.calibration import load_over
from twin.scenario import Scenario, load_scenario
from twin.story import Story
from twin.timeline import clock, failover_lines, incident_lines, strip_lines, verdict_lines

if TYPE_CHECKING:
    from twin.run import Result

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

SEED_MAX = (1 << 63) - 1
PROGRESS_AFTER_S = 2.0
"""A run that takes longer than this says how far it is, if somebody watches."""


def add_commands(commands: "Commands") -> None:
    """Add both commands to the command line."""
    _run_parser(commands.add_parser("run", help="run a scenario: timeline, verdict, report", allow_abbrev=False))
    one = commands.add_parser("scenarios", help="list scenarios with their reasons", allow_abbrev=False)
    one.add_argument("folder", type=Path, nargs="?", default=Path("scenarios"), metavar="DIR")
    one.set_defaults(command=_scenarios)


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
        from trial.junit import write_junit  # brings a network library along

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
