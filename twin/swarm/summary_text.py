"""The summary of a swarm as text for a terminal: what ran, what failed, how to see it again, how long things took."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from formats.paint import Paint, harmless
from trial.gates import ANY
from twin.checkers import CHECKERS
from twin.swarm.spread import Spread, shown
from twin.swarm.summary import LARGE, Broken, Failure, Reached, Summary, exit_code
from twin.timeline import took

WIDTH = 100
SEEDS_SHOWN = 8
LINES_SHOWN = 12
"""Lines of a reason or a blame; the report has all of them."""
CAUSES_SHOWN = 6
"""Causes of a service's failovers, the most frequent; the others are one line."""

_WORDS = {
    "crash": "the code itself failed, with an exception",
    "invariants": "a machine broke an invariant of its own",
    "convergence": "the rack did not converge in time when all faults had been removed",
    "settle_ms": "the rack did not settle before the first fault",
}


def to_text(summary: Summary, paint: Paint) -> str:
    """The summary, some dozens of lines of at most a hundred columns; the verdict is the last one."""
    blocks = [
        _head(summary, paint),
        _failures(summary, paint),
        _gates(summary, paint),
        _failovers(summary.failovers, paint),
        _sometimes(summary, paint),
        _foot(summary, paint),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _head(summary: Summary, paint: Paint) -> list[str]:
    seeds = f"seeds {summary.first_seed} to {summary.last_seed}" if summary.campaigns else "no seeds"
    counts = [
        f"{count:,d} {verdict}" if verdict == "pass" else paint.bad(f"{count:,d} {verdict}")
        for verdict, count in summary.verdicts.items()
    ]
    return [
        paint.strong(f"swarm {summary.profile}"),
        f"  ran          {many(summary.campaigns, 'campaign')}, {seeds}, {many(summary.faults, 'fault')}",
        f"  time         {speed(summary)}",
        f"  campaigns    {', '.join(counts) or 'none'}",
    ]


def speed(summary: Summary) -> str:
    """Say how much was simulated in how much time."""
    wall_ms = max(1, summary.wall_ms)
    factor, per_s = summary.sim_ms / wall_ms, summary.campaigns * 1000 / wall_ms
    ran = f"{took(summary.sim_ms)} simulated in {took(summary.wall_ms)}"
    return f"{ran} ({factor:,.0f} x real time, {per_s:,.1f} campaigns/s)"


def many(count: int, what: str) -> str:
    """Count things in words."""
    return f"{count:,d} {what}{'' if count == 1 else 's'}"


# -- what failed -------------------------------------------------------------------------------------------------------


def broken_words(broken: str) -> str:
    """Say in words what is broken, with the number of its rule in docs/RULES.md if it has one."""
    for checker in CHECKERS:
        if checker.name == broken:
            return f"{f'rule {checker.rule}: ' if checker.rule else ''}{checker.text}"
    return _WORDS.get(broken, f"not as expected: {broken}")


def _failures(summary: Summary, paint: Paint) -> list[str]:
    lines: list[str] = []
    for one in summary.broken:
        failure = next((f for f in summary.failures if f.found.seed in one.seeds), None)
        lines += _one_way(one, failure, paint)
    return [paint.strong("failures"), *lines] if lines else []


def _one_way(one: Broken, failure: Failure | None, paint: Paint) -> Iterator[str]:
    """One way to fail: what is broken, how often, what was seen, and what became of the lowest seed."""
    yield f"  {paint.fault(one.verdict.upper())}  {paint.strong(one.broken)}, {many(one.count, 'campaign')}"
    seen = one.detail.strip().splitlines()
    if failure is None or not failure.reason:
        yield from wrapped("broken", broken_words(one.broken))
        yield from wrapped("seen", seen[0] if seen else "nothing more", paint.bad)
    more = one.count - min(SEEDS_SHOWN, len(one.seeds))
    yield from wrapped("seeds", ", ".join(map(str, one.seeds[:SEEDS_SHOWN])) + (f" and {more:,d} more" if more else ""))
    if failure is not None:
        yield from _one_failure(failure, paint)


def _one_failure(failure: Failure, paint: Paint) -> Iterator[str]:
    if failure.tape:
        yield from wrapped("replay", f"twin run {failure.tape}", paint.strong)
    if failure.shrunk:
        left = f"{failure.faults_left} of {many(failure.found.faults, 'fault')} left after {many(failure.runs, 'run')}"
        yield from wrapped("shrunk", f"twin run {failure.shrunk}", paint.strong)
        yield from wrapped("", left)
    yield from _lines("reason", failure.reason or failure.blame)


def _lines(name: str, lines: Sequence[str]) -> Iterator[str]:
    for index, line in enumerate(lines[:LINES_SHOWN]):
        yield from wrapped(name if index == 0 else "", line)
    if len(lines) > LINES_SHOWN:
        yield from wrapped("", f"... {len(lines) - LINES_SHOWN} more lines, all of them are in the report")


def wrapped(name: str, text: str, colour: Paint.Colour | None = None) -> Iterator[str]:
    """Lay out one line of facts with its name in front, no wider than the page; commands are not broken."""
    indent = len(text) - len(text.lstrip())
    lines = textwrap.wrap(harmless(text), WIDTH - 15, subsequent_indent=" " * indent, break_long_words=False) or [""]
    for index, line in enumerate(lines):
        yield f"    {name if index == 0 else '':<9}  {colour(line) if colour is not None else line}"


# -- gates and failovers -----------------------------------------------------------------------------------------------


def _gates(summary: Summary, paint: Paint) -> list[str]:
    lines = [paint.strong("gates")] if summary.gates else []
    for gate in summary.gates:
        tone, word = (paint.good, "met") if gate.ok else (paint.bad, "NOT MET")
        lines += _folded(word, f"{gate.name}: wanted {gate.wanted}, got {gate.got}", tone)
    return lines


def _folded(word: str, text: str, tone: Paint.Colour) -> list[str]:
    lines = textwrap.wrap(harmless(text), WIDTH - 13, break_long_words=False)
    return [tone(f"  {word if index == 0 else '':<11}{line}") for index, line in enumerate(lines)]


_HEAD = f"  {'':<32} {'count':>8} {'p50':>11} {'p90':>11} {'p99':>11} {'max':>11}"


def _failovers(spreads: Sequence[Spread], paint: Paint) -> list[str]:
    if not spreads:
        return []
    lines = [paint.strong("failovers") + paint.dim(_HEAD[len("failovers") :])]
    for spread in shown(spreads, CAUSES_SHOWN):
        name = "all services" if spread.service == ANY else spread.service
        lines.append(_row(name, spread, 0) if spread.cause == ANY else paint.dim(_row(spread.cause, spread, 2)))
    return lines


def _row(name: str, spread: Spread, indent: int) -> str:
    times = " ".join(f"{took(ms):>11}" for ms in (spread.p50, spread.p90, spread.p99, spread.max))
    return f"  {(' ' * indent + name)[:32]:<32} {spread.count:>8,d} {times}"


# -- rare situations ---------------------------------------------------------------------------------------------------


def _sometimes(summary: Summary, paint: Paint) -> list[str]:
    """How often each situation was reached, in columns, and a line for each that was not."""
    reached = [one for one in summary.sometimes if one.campaigns]
    if not summary.sometimes or not summary.campaigns:
        return []
    head = (
        paint.strong("rare situations") + f"  {len(reached)} of {len(summary.sometimes)} reached, in how many campaigns"
    )
    lines = [head, *_columns(reached)]
    absent = [one for one in summary.sometimes if not one.campaigns]
    for one in sorted(absent, key=lambda one: not one.wanted):
        tone = paint.dim if not one.wanted else paint.bad if summary.too_calm else paint.warn
        lines += _folded("MISSING" if one.wanted else "not yet", f"{one.name}: {one.text}", tone)
    return lines


def _columns(reached: Iterable[Reached], columns: int = 3) -> Iterator[str]:
    cells = [f"{one.campaigns:>7,d} {one.name:<24}" for one in reached]
    height = -(-len(cells) // columns)
    for row in range(height):
        yield " ".join(cells[row::height]).rstrip()


# -- the verdict -------------------------------------------------------------------------------------------------------


def _foot(summary: Summary, paint: Paint) -> list[str]:
    code = exit_code(summary)
    good = paint.strong(paint.good("PASS")) if code == 0 else paint.fault("FAIL")
    why = verdict_words(summary)
    return [
        f"  digest       {summary.digest}",
        f"  verdict      {good}   {why}",
    ]


def verdict_words(summary: Summary) -> str:
    """Say in a sentence why the swarm passed or failed."""
    gates = sum(1 for gate in summary.gates if not gate.ok)
    said = []
    if summary.failed:
        said.append(f"{many(summary.failed, 'campaign')} of {summary.campaigns:,d} failed")
    if gates:
        said.append(f"{many(gates, 'gate')} not met")
    if summary.too_calm:
        said.append(f"{many(len(summary.missing), 'rare situation')} not reached, and a swarm of {LARGE:,d} must")
    if said:
        return "; ".join(said)
    hint = f"; {len(summary.missing)} rare situations not reached, which {LARGE:,d} must" if summary.missing else ""
    return f"no campaign of {summary.campaigns:,d} failed{hint}"
