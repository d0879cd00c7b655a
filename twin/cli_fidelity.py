"""The commands that hold the twin against a real rack: ``twin compare`` and ``twin fit``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from core.errors import InputError
from formats.paint import Paint
from trial.reports import Half, read_outcomes
from twin.calibration import load
from twin.compare import compare, to_json, to_text
from twin.fit import fit, to_toml
from twin.fit import to_text as fit_to_text

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

FAR = 3
"""The exit code of a comparison whose totals are not all near: 3, as for any expectation that is not met."""


def add_commands(commands: "Commands") -> None:
    """Add both commands to the command line."""
    one = commands.add_parser("compare", help="predicted failover times beside measured ones", allow_abbrev=False)
    one.add_argument("predicted", type=Path, metavar="PREDICTED", help=f"of the twin: {_REPORT}")
    one.add_argument("measured", type=Path, metavar="MEASURED", help="of a real rack: likewise")
    one.add_argument("--half", choices=get_args(Half), help=_HALF)
    one.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    one.add_argument("--html", type=Path, metavar="FILE", help="write a page with the distributions")
    one.set_defaults(command=_compare)
    one = commands.add_parser("fit", help="fit the calibration to what a real rack measured", allow_abbrev=False)
    one.add_argument("measured", type=Path, metavar="MEASURED", help=f"of a real rack: {_REPORT}")
    one.add_argument("--half", choices=get_args(Half), help=_HALF)
    one.add_argument("--out", type=Path, metavar="FILE", help="write the file here instead of printing it")
    one.set_defaults(command=_fit)


_REPORT = "a file or folder of outcomes, as --json prints them"
_HALF = "only every other scenario measured, in order of their names; the first is odd"


def _compare(arguments: argparse.Namespace) -> int:
    predicted, measured = read_outcomes(arguments.predicted), read_outcomes(arguments.measured)
    found = compare(predicted, measured, arguments.half)
    page: Path | None = arguments.html
    if page is not None:
        from twin.report.fidelity import write_page  # matplotlib takes longer to import than all else here

        write_page(page, found)
    if arguments.json:
        sys.stdout.write(to_json(found).decode())
    else:
        sys.stdout.write(to_text(found, Paint(sys.stdout.isatty())))
        sys.stdout.write(f"page: {page}\n" if page is not None else "")
    return 0 if found.met else FAR


def _fit(arguments: argparse.Namespace) -> int:
    found = fit(read_outcomes(arguments.measured), load(), arguments.half)
    text = to_toml(found, arguments.measured.name)
    out: Path | None = arguments.out
    if out is None:
        sys.stdout.write(text)
        return 0
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError([f"--out {out}: cannot be written ({error}); needed: a file"]) from None
    sys.stdout.write(fit_to_text(found))
    return 0
