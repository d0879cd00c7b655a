"""Results as JUnit XML, for continuous integration to show: of one run, or any suite of named cases.

Source: the dialect of Ant and Surefire as Jenkins' xUnit plugin defines it (junit-10.xsd); GitLab reads the same.
"""

import re
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

import msgspec

from core.errors import InputError
from trial.verdict import Outcome

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

Result = Literal["passed", "failure", "error", "skipped"]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One test case. ``detail``: why it is not passed, its first line as the message. ``out``: what else to show."""

    group: str
    name: str
    result: Result = "passed"
    detail: str = ""
    out: str = ""


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """One test suite; ``properties`` say how it was run."""

    name: str
    wall_ms: int
    cases: tuple[Case, ...]
    properties: dict[str, str] = {}


def write_junit(path: Path, outcome: Outcome) -> None:
    """Write the file of one run. Raises: InputError if it cannot be written."""
    write_suite(path, suite_of(outcome))


def write_suite(path: Path, suite: Suite) -> None:
    """Write the file of a suite. Raises: InputError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_xml(suite), encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError([f"{path}: cannot be written ({reason}); needed: a file for JUnit XML"]) from None


def to_junit(outcome: Outcome) -> str:
    """Write one run as the text of an XML file."""
    return to_xml(suite_of(outcome))


def suite_of(outcome: Outcome) -> Suite:
    """Make a suite of one run: a case for each check, each expectation, and the verdict.

    A check that does not hold is only a failure if the verdict is not as expected.
    """
    group = f"scenario.{outcome.scenario}"

    def case(name: str, ok: bool, detail: str) -> Case:
        return Case(group=group, name=name, result="passed" if ok else "failure", detail=detail)

    cases = [case(f"check.{one.name}", one.ok or outcome.as_expected, one.detail) for one in outcome.checks]
    for wish in outcome.expectations:
        detail = f"wanted {wish.wanted}, got {wish.got}"
        cases.append(case(f"expect.{wish.name}", wish.ok or outcome.as_expected, detail))
    verdict = f"{outcome.verdict}, expected {outcome.expected}"
    why = "\n".join([verdict, *outcome.pending, *([outcome.crash.traceback] if outcome.crash else [])])
    cases.append(case("verdict", outcome.as_expected, why))
    return Suite(name=outcome.scenario, wall_ms=outcome.wall_ms, cases=tuple(cases))


def to_xml(suite: Suite) -> str:
    """Write a suite as the text of an XML file."""
    results = [case.result for case in suite.cases]
    head = (
        f'<testsuite name={_attribute(suite.name)} tests="{len(suite.cases)}" failures="{results.count("failure")}"'
        f' errors="{results.count("error")}" skipped="{results.count("skipped")}" time="{suite.wall_ms / 1000:.3f}">'
    )
    properties = [
        f"    <property name={_attribute(name)} value={_attribute(value)}/>" for name, value in suite.properties.items()
    ]
    if properties:
        properties = ["  <properties>", *properties, "  </properties>"]
    cases = [_case(case) for case in suite.cases]
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', head, *properties, *cases, "</testsuite>", ""])


def _case(case: Case) -> str:
    inside = ""
    if case.result != "passed":
        text = _text(case.detail)
        message = _attribute(text.splitlines()[0] if text else "")
        inside += f"<{case.result} message={message}>{escape(text)}</{case.result}>"
    if case.out:
        inside += f"<system-out>{escape(_text(case.out))}</system-out>"
    head = f"  <testcase classname={_attribute(case.group)} name={_attribute(case.name)}"
    return f"{head}>{inside}</testcase>" if inside else f"{head}/>"


def _attribute(text: str) -> str:
    return quoteattr(_text(text))


def _text(text: str) -> str:
    """What XML can hold."""
    return _CONTROL.sub("?", text)
