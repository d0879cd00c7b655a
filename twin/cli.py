"""The command ``twin``: one module for each group of commands, loaded when one of them is asked for.

Exit codes: 0 pass (or as the scenario expects), 1 crash, 2 bad input, 3 liveness, 4 safety.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper

from core.errors import InputError
from trial.verdict import EXIT_CODES

COMMANDS = {
    "run": "cli_run",
    "scenarios": "cli_run",
    "replay": "cli_journal",
    "explain": "cli_journal",
    "swarm": "cli_swarm",
    "shrink": "cli_tape",
    "blame": "cli_tape",
    "check": "cli_check",
    "advise": "cli_advise",
    "compare": "cli_fidelity",
    "fit": "cli_fidelity",
    "plan": "cli_plan",
    "pack": "cli_pack",
    "scale": "cli_scale",
    "durability": "cli_durability",
    "years": "cli_years",
    "crush": "cli_crush",
}
"""The module of `twin` in which each command lives, in the order of ``twin --help``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and hand back its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = command_line(words[0] if words else None).parse_args(words)
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


def command_line(wanted: str | None = None) -> argparse.ArgumentParser:
    """Build the parser: of one command, whose module alone is then loaded, or of the whole command line."""
    parser = argparse.ArgumentParser(prog="twin", description="The simulated rack.", epilog=_EXITS, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    modules = [COMMANDS[wanted]] if wanted in COMMANDS else list(dict.fromkeys(COMMANDS.values()))
    for name in modules:
        import_module(f"twin.{name}").add_commands(commands)
    return parser


_EXITS = "exit codes: 0 pass or as expected, 1 crash, 2 bad input, 3 liveness, 4 safety"


if __name__ == "__main__":
    sys.exit(main())
