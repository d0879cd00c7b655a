"""What ``twin check`` says: what was explored and up to which bound, and a counterexample step by step."""

import textwrap

from formats.paint import Paint
from twin.check.check import Part, Report
from twin.check.faults import WORDS
from twin.check.schedule import Line, Schedule
from twin.check.small import TICK_MS

WIDTH = 110


def to_text(report: Report, paint: Paint) -> str:
    """Return the report of an exploration for a person, without its counterexample."""
    wanted = report.wanted
    what = "a singleton with a volume" if wanted.volume else "a singleton without a volume"
    lines = [paint.strong(f"{wanted.nodes} nodes, {what}, {_at_most(wanted.faults)} of these kinds:")]
    lines += [f"  {kind:<12} {WORDS[kind]}" for kind in (wanted.kinds if wanted.faults else ())]
    lines += ["", *_wrapped(_order_words(report)), ""]
    lines.append(f"{'faults':>6} {'states':>10} {'transitions':>12} {'depth':>6} {'seconds':>8} {'states/s':>9}")
    for part in report.parts:
        lines.append(_row(part))
    lines += ["", *_verdict(report, paint)]
    return "\n".join(lines) + "\n"


def _at_most(faults: int) -> str:
    return "no fault" if faults == 0 else "at most one fault" if faults == 1 else f"at most {faults} faults"


def _order_words(report: Report) -> str:
    taken = (
        "A node takes what reached it before anything shared happens, unless it is frozen or dead; faults strike "
        "between shared steps."
        if report.wanted.order != "every"
        else "Every order of steps of all nodes, with faults between any two of them."
    )
    fair = report.wanted.fair_every
    from_each = "every state gone on from" if fair == 1 else f"every {fair}th state"
    return (
        f"{taken} The clock goes on by {TICK_MS} ms when all that is due has happened. Judged at every step: single "
        f"writer, no stale read, no acknowledged write lost, rules 1 to 12, the core's invariants; from {from_each}, "
        "that a fair run with all faults ended serves again."
    )


def _row(part: Part) -> str:
    found = part.explored
    rate = f"{found.states / part.seconds:9,.0f}" if part.seconds > 0 else f"{'':9}"
    numbers = (
        f"{part.faults:>6} {found.states:10,} {found.transitions:12,} {found.depth:6,} {part.seconds:8,.1f} {rate}"
    )
    return f"{numbers}  {bound_of(part)}"


def bound_of(part: Part) -> str:
    """Say up to which bound a part is complete."""
    found = part.explored
    most = f"every schedule with {_at_most(part.faults)}"
    if found.counterexample is not None:
        return f"counterexample after {len(found.counterexample.actions)} steps"
    if not found.cut:
        return f"complete: {most}"
    return f"complete up to depth {found.depth} of {most}; cut by the bound of {found.cut}"


def _verdict(report: Report, paint: Paint) -> list[str]:
    found = report.counterexample
    if found is not None:
        return [paint.bad(f"{found.verdict.upper()}  {found.why}")]
    if report.complete:
        return [paint.good("no rule is broken in any schedule")]
    return [paint.good("no rule is broken") + " in what was explored; what lies beyond the bounds is not known"]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def schedule_lines(schedule: Schedule, paint: Paint) -> list[str]:
    """Return a counterexample as numbered steps in words, what machines asked for indented below each."""
    lines = []
    for number, line in enumerate(schedule.lines, 1):
        lines += _step(number, line, paint)
    if schedule.fair:
        lines.append("then every fault ends and what is due happens, in the dullest order:")
    lines.append(f"{'':4} {paint.bad(schedule.why)}")
    return lines


def _step(number: int, line: Line, paint: Paint) -> list[str]:
    words = paint.strong(line.words) if line.fault else line.words
    return [f"{number:4} {line.at_ms:6,d} ms  {words}", *(f"{'':16} {asked}" for asked in line.asked)]
