"""A run as JUnit XML: one test case for each check and each expectation, for continuous integration to show."""

import re
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from core.errors import InputError
from trial.verdict import Outcome

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def write_junit(path: Path, outcome: Outcome) -> None:
    """Write the file.

    Raises: InputError if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_junit(outcome), encoding="utf-8")
    except OSError as error:
        raise InputError([f"{path}: cannot be written ({error.strerror}); needed: a file for JUnit XML"]) from None


def to_junit(outcome: Outcome) -> str:
    """Build the XML of one suite. A check that does not hold is only a failure if the verdict is not as expected."""
    cases = [_case(f"check.{check.name}", check.ok, check.detail, outcome) for check in outcome.checks]
    for wish in outcome.expectations:
        detail = f"wanted {wish.wanted}, got {wish.got}"
        cases.append(_case(f"expect.{wish.name}", wish.ok, detail, outcome))
    verdict = f"{outcome.verdict}, expected {outcome.expected}"
    why = "\n".join([verdict, *outcome.pending, *([outcome.crash.traceback] if outcome.crash else [])])
    cases.append(_case("verdict", outcome.as_expected, why, outcome))
    failures = sum(1 for case in cases if "<failure" in case)
    name = _attribute(outcome.scenario)
    seconds = f"{outcome.wall_ms / 1000:.3f}"
    head = f'<testsuite name={name} tests="{len(cases)}" failures="{failures}" errors="0" time="{seconds}">'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}\n' + "".join(cases) + "</testsuite>\n"


def _case(name: str, ok: bool, detail: str, outcome: Outcome) -> str:
    case = f"<testcase classname={_attribute('scenario.' + outcome.scenario)} name={_attribute(name)}"
    if ok or (name != "verdict" and outcome.as_expected):
        return f"  {case}/>\n"
    text = _CONTROL.sub("?", detail)
    message = _attribute(text.splitlines()[0] if text else "")
    return f"  {case}><failure message={message}>{escape(text)}</failure></testcase>\n"


def _attribute(text: str) -> str:
    return quoteattr(_CONTROL.sub("?", text))
