"""The report's page: one HTML file with everything in it, which loads nothing from anywhere."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from trial.gates import Gate, causes_across
from trial.verdict import Check, Failover, Outcome
from twin.checkers import CHECKERS
from twin.report import colours
from twin.report.sheet import sheet
from twin.report.swarm_pictures import draw_spreads
from twin.story import Incident, Mark, Story
from twin.swarm.found import Move
from twin.swarm.spread import Times
from twin.timeline import clock, took

INCIDENTS_MAX = 20_000
"""No browser is asked to show more lines than this; the first ones are shown."""

FAULTS_MAX = 100
FAILOVERS_MAX = 500

_WORDS = {
    "pass": "The rack survived",
    "liveness": "Something did not come back in time",
    "safety": "A safety rule was broken",
    "crash": "The run crashed",
    "input": "The input was wrong",
}


def page(story: Story, outcome: Outcome, svg: str, gates: Sequence[Gate] = ()) -> str:
    """Build the page around the picture ``svg``; the same run gives the same page but for its wall time.

    ``gates``: with any, the failover times are drawn against them.
    """
    script = files("twin.report").joinpath("page.js").read_text(encoding="utf-8")
    parts = [
        _head(story, outcome),
        f'<section class="wide"><h2>What happened</h2><div class="picture">{svg}</div>{_faults(story.marks)}</section>',
        _failovers(outcome.failovers),
        _spread(outcome, gates),
        '<div class="pair">',
        _checks(outcome),
        _measures(outcome),
        "</div>",
        _crash(outcome),
        _incidents(story),
        _foot(outcome),
    ]
    return sheet(f"{outcome.scenario}: {outcome.verdict}", "".join(parts), script)


def _head(story: Story, outcome: Outcome) -> str:
    as_expected = "" if outcome.expected == "pass" else f" (expected: {outcome.expected})"
    facts = [
        ("simulated", took(outcome.sim_ms)),
        ("nodes", str(len(story.nodes))),
        ("failovers", str(len(outcome.failovers))),
        ("slowest", took(max([move.total_ms for move in outcome.failovers], default=0))),
        ("unavailable, at most", took(max(outcome.unavailable_ms.values(), default=0))),
        ("seed", str(outcome.seed)),
    ]
    cards = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    good = "good" if outcome.as_expected else "bad"
    return (
        f'<header><div class="verdict {good}">{outcome.verdict}</div><div><h1>{escape(outcome.scenario)}</h1>'
        f'<p class="why">{escape(story.why[:1].upper() + story.why[1:])}</p>'
        f'<p class="word {good}">{_WORDS[outcome.verdict]}{escape(as_expected)}.</p>'
        f'</div></header><dl class="cards">{cards}</dl>'
    )


def _faults(marks: Sequence[Mark]) -> str:
    if not marks:
        return '<p class="faint">No fault was injected.</p>'
    items = "".join(_fault(mark) for mark in marks[:FAULTS_MAX])
    return f'<ol class="faults">{items}</ol>{_more(len(marks) - FAULTS_MAX)}'


def _fault(mark: Mark) -> str:
    lasted = f"for {took(mark.to_ms - mark.from_ms)}"
    return f"<li><b>{escape(mark.fault)}</b> at {clock(mark.from_ms)}, {lasted}: {escape(mark.text)}</li>"


def _failovers(moves: Sequence[Failover]) -> str:
    if not moves:
        return '<section><h2>Failovers</h2><p class="faint">No singleton moved.</p></section>'
    longest = max(move.total_ms for move in moves) or 1
    rows = "".join(_failover(move, longest) for move in moves[:FAILOVERS_MAX])
    key = "".join(f'<span><i style="background:{colour}"></i>{name}</span>' for name, colour in colours.PHASES.items())
    return (
        f'<section><h2>Failovers</h2><p class="key">{key}<span class="faint">from the cause to serving again</span></p>'
        "<table><thead><tr><th>at</th><th>service</th><th>cause</th><th>from</th><th>to</th><th>epoch</th>"
        f'<th class="n">total</th><th class="bar">phases</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>{_more(len(moves) - FAILOVERS_MAX)}</section>"
    )


def _spread(outcome: Outcome, gates: Sequence[Gate]) -> str:
    """How long the failovers took, of everything that a gate is for, and the gates."""
    times = Times()
    for move in outcome.failovers:
        times.add(Move(service=move.service, cause=move.cause, total_ms=move.total_ms))
    gated = [(gate.service, gate.cause) for gate in gates]
    rows = [one for one in times.spreads(causes_across(gates)) if (one.service, one.cause) in gated]
    if not rows:
        return ""
    met = {wish.name: wish.ok for wish in outcome.expectations}
    drawn = draw_spreads(rows, [(gate, met.get(gate.name, True)) for gate in gates])
    return f'<section class="wide"><h2>Failover times and gates</h2><div class="picture">{drawn}</div></section>'


def _more(left: int) -> str:
    return f'<p class="faint">and {left:,d} more</p>' if left > 0 else ""


def _failover(move: Failover, longest_ms: int) -> str:
    phases = (("detect", move.detect_ms), ("fence", move.fence_ms), ("start", move.start_ms))
    bars = "".join(
        f'<i style="width:{ms * 100 / longest_ms:.2f}%;background:{colours.PHASES[name]}"'
        f' title="{name} {took(ms)}"></i>'
        for name, ms in phases
    )
    words = " · ".join(f"{name} {took(ms)}" for name, ms in phases)
    return (
        f"<tr><td>{clock(move.at_ms)}</td><td><b>{escape(move.service)}</b></td><td>{escape(move.cause)}</td>"
        f"<td>{escape(move.source)}</td><td>{escape(move.dest)}</td><td>{move.epoch}</td>"
        f'<td class="n">{took(move.total_ms)}</td><td class="bar"><div>{bars}</div><small>{words}</small></td></tr>'
    )


def _checks(outcome: Outcome) -> str:
    texts = {checker.name: checker.text for checker in CHECKERS}
    rows = "".join(_check(check, texts.get(check.name, "")) for check in outcome.checks)
    return f"<section><h2>Checks</h2><table><tbody>{rows}</tbody></table></section>"


def _check(check: Check, text: str) -> str:
    good, word = ("good", "holds") if check.ok else ("bad", "broken")
    name = escape(check.name.replace("_", " "))
    return f'<tr><td class="{good}">{word}</td><td><b>{name}</b><small>{escape(check.detail or text)}</small></td></tr>'


def _measures(outcome: Outcome) -> str:
    wishes = "".join(
        f'<tr><td class="{"good" if wish.ok else "bad"}">{"met" if wish.ok else "not met"}</td>'
        f"<td><b>{escape(wish.name)}</b><small>wanted {escape(wish.wanted)}, got {escape(wish.got)}</small></td></tr>"
        for wish in outcome.expectations
    )
    down = "".join(
        f"<tr><td>{escape(service)}</td><td>{took(ms)} unavailable</td></tr>"
        for service, ms in outcome.unavailable_ms.items()
    )
    pending = "".join(f"<li>{escape(reason)}</li>" for reason in outcome.pending)
    waiting = f'<h2>Still pending at the end</h2><ul class="bad">{pending}</ul>' if pending else ""
    return (
        f"<section><h2>Expectations</h2><table><tbody>{wishes}</tbody></table>"
        f"<h2>Availability</h2><table><tbody>{down}</tbody></table>{waiting}</section>"
    )


def _crash(outcome: Outcome) -> str:
    if outcome.crash is None:
        return ""
    head = f"{escape(outcome.crash.what)} at {clock(outcome.crash.at_ms)}"
    return f'<section><h2 class="bad">{head}</h2><pre>{escape(outcome.crash.traceback)}</pre></section>'


def _incidents(story: Story) -> str:
    shown = story.incidents[:INCIDENTS_MAX]
    nodes = _options(sorted({i.node for i in shown if i.node and "," not in i.node and ".." not in i.node}))
    services = _options(sorted({i.service for i in shown if i.service}))
    rows = "".join(_incident(incident) for incident in shown)
    left = len(story.incidents) - len(shown)
    more = f'<p class="faint">{left} later lines are left out.</p>' if left else ""
    return (
        '<section class="wide"><h2>Incident timeline</h2><form class="filter" onsubmit="return false">'
        '<input id="text" type="search" placeholder="filter by any word" aria-label="filter by any word">'
        f'<select id="node" aria-label="node"><option value="">every node</option>{nodes}</select>'
        f'<select id="service" aria-label="service"><option value="">every service</option>{services}</select>'
        '<label><input id="detail" type="checkbox"> details</label><span id="count" class="faint"></span></form>'
        f'<div class="scroll"><table id="incidents"><tbody>{rows}</tbody></table></div>{more}</section>'
    )


def _options(names: Sequence[str]) -> str:
    return "".join(f"<option>{escape(name)}</option>" for name in names)


def _incident(incident: Incident) -> str:
    return (
        f'<tr class="l-{incident.level}" data-node="{escape(incident.node)}" data-service="{escape(incident.service)}">'
        f"<td>{clock(incident.at_ms)}</td><td>{escape(incident.node)}</td><td>{escape(incident.service)}</td>"
        f"<td>{escape(incident.text)}</td></tr>"
    )


def _foot(outcome: Outcome) -> str:
    notes = ", ".join(f"{escape(kind)} {count}" for kind, count in outcome.notes.items())
    figures = ", ".join(f"{escape(name)} {value}" for name, value in outcome.figures.items())
    return (
        f"<footer><p>seed {outcome.seed}, {escape(outcome.fidelity)} fidelity, {outcome.events:,} events, "
        f"{outcome.steps:,} steps, {took(outcome.wall_ms)} of wall time; digest <code>{outcome.digest}</code></p>"
        f"<p>notes: {notes or 'none'}</p>{f'<p>figures: {figures}</p>' if figures else ''}</footer>"
    )
