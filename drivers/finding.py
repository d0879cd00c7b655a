"""What ``rack check`` finds: one thing measured, how bad it is, and what to do about it."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from formats.paint import Paint

Severity = Literal["ok", "note", "warning", "error"]
"""ok: as it should be; note: good to know; warning: it works, not as well or as safely; error: unsafe, or broken."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note", "ok")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check's answer. ``about``: a node, a file, a service; ``measured`` and ``remedy`` are sentences."""

    severity: Severity
    check: str
    about: str
    measured: str
    remedy: str = ""


def ok(check: str, about: str, measured: str) -> Finding:
    return Finding(severity="ok", check=check, about=about, measured=measured)


def note(check: str, about: str, measured: str, remedy: str = "") -> Finding:
    return Finding(severity="note", check=check, about=about, measured=measured, remedy=remedy)


def warning(check: str, about: str, measured: str, remedy: str) -> Finding:
    return Finding(severity="warning", check=check, about=about, measured=measured, remedy=remedy)


def error(check: str, about: str, measured: str, remedy: str) -> Finding:
    return Finding(severity="error", check=check, about=about, measured=measured, remedy=remedy)


def count(findings: Iterable[Finding]) -> dict[Severity, int]:
    """How many findings there are of each severity, worst first."""
    found: dict[Severity, int] = dict.fromkeys(SEVERITIES, 0)
    for finding in findings:
        found[finding.severity] += 1
    return found


def findings_text(findings: Sequence[Finding], paint: Paint) -> str:
    """List the findings for a person, worst first, each with its remedy under it."""
    colours = {"error": paint.bad, "warning": paint.warn, "note": paint.dim, "ok": paint.good}
    lines = []
    for severity in SEVERITIES:
        for finding in findings:
            if finding.severity != severity:
                continue
            mark = colours[severity](f"{severity:<8}")
            lines.append(f"{mark}{paint.plain(f'{finding.check}: {finding.about}: {finding.measured}')}")
            if finding.remedy:
                lines.append(f"          {paint.dim('→ ' + finding.remedy)}")
    counts = ", ".join(f"{number} {severity}" for severity, number in count(findings).items() if number)
    return "\n".join([*lines, "", counts or "nothing to check"]) + "\n"
