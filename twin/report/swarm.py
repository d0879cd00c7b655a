"""The page of a swarm: what failed and how to see it again, gates, failover times, rare situations, faults."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from core.errors import InputError
from trial.gates import ANY
from twin.report import colours
from twin.report.sheet import sheet
from twin.report.swarm_pictures import CAUSES_SHOWN, draw_faults, draw_spreads
from twin.swarm.spread import Spread, shown
from twin.swarm.summary import Broken, Failure, Reached, Share, Summary, to_json
from twin.swarm.summary_text import SEEDS_SHOWN, broken_words, many, verdict_words
from twin.timeline import took


def write_page(folder: Path, summary: Summary) -> Path:
    """Write the page into ``folder`` (made if missing), beside the summary as JSON, and name it.

    Raises: InputError if the folder cannot be written.
    """
    target = folder / "index.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_bytes(to_json(summary))
        target.write_text(page(summary), encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError([f"{folder}: the report cannot be written ({error}); needed: a folder"]) from None
    return target


def page(summary: Summary) -> str:
    """Build the page, which loads nothing from anywhere; the same swarm gives the same page but for its wall time."""
    parts = [
        _head(summary),
        _failures(summary),
        _gates(summary),
        _failovers(summary),
        _sometimes(summary),
        _faults(summary),
        _foot(summary),
    ]
    return sheet(f"Swarm {summary.profile}", "".join(parts))


def _head(summary: Summary) -> str:
    good, word = ("good", "pass") if summary.ok else ("bad", "fail")
    reached = sum(1 for one in summary.sometimes if one.campaigns)
    facts = [
        ("campaigns", f"{summary.campaigns:,d}"),
        ("failed", f"{summary.failed:,d}"),
        ("faults", f"{summary.faults:,d}"),
        ("failovers", f"{sum(one.count for one in summary.failovers[:1]):,d}"),
        ("rare situations", f"{reached} of {len(summary.sometimes)}"),
        ("simulated", took(summary.sim_ms)),
        ("took", took(summary.wall_ms)),
        ("times real time", f"{summary.sim_ms / max(1, summary.wall_ms):,.0f}"),
    ]
    cards = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    seeds = f"Seeds {summary.first_seed} to {summary.last_seed}: in each campaign rack, services, timers and faults "
    return (
        f'<header><div class="verdict {good}">{word}</div><div><h1>Swarm {escape(summary.profile)}</h1>'
        f'<p class="why">{seeds}are drawn from its seed; then everything is healed and has to converge.</p>'
        f'<p class="word {good}">{escape(_sentence(verdict_words(summary)))}.</p></div></header>'
        f'<dl class="cards">{cards}</dl>'
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


# -- failures ----------------------------------------------------------------------------------------------------------


def _failures(summary: Summary) -> str:
    if not summary.broken:
        return ""
    kept = {failure.found.seed: failure for failure in summary.failures}
    ways = "".join(_one_way(one, _first(one, kept)) for one in summary.broken)
    return f'<section class="wide"><h2>What failed</h2>{ways}</section>'


def _first(one: Broken, kept: dict[int, Failure]) -> Failure | None:
    return next((kept[seed] for seed in one.seeds if seed in kept), None)


def _one_way(one: Broken, failure: Failure | None) -> str:
    seeds = ", ".join(map(str, one.seeds[:SEEDS_SHOWN]))
    more = one.count - min(SEEDS_SHOWN, len(one.seeds))
    which = f"seeds {seeds}{f' and {more:,d} more' if more else ''}" if one.count > 1 else f"seed {seeds}"
    seen = escape(one.detail.strip() or "Nothing more was seen.")
    return (
        f'<article class="failure"><h3><span class="tag">{one.verdict}</span> {escape(one.broken)} '
        f'<span class="faint">in {many(one.count, "campaign")}: {which}</span></h3>'
        f"<p>{escape(_sentence(broken_words(one.broken)))}.</p><pre>{seen}</pre>"
        f"{_one_failure(failure) if failure is not None else ''}</article>"
    )


def _one_failure(failure: Failure) -> str:
    parts = []
    if failure.reason:
        parts.append(f"<h4>Why</h4><pre>{escape(chr(10).join(failure.reason))}</pre>")
    if failure.blame:
        lines = "".join(f"<li>{escape(line)}</li>" for line in failure.blame)
        parts.append(f"<h4>Which faults were necessary</h4><ol>{lines}</ol>")
    if failure.shrunk:
        left = f"{failure.faults_left} of {many(failure.found.faults, 'fault')} left"
        parts.append(_tape(f"The least that still fails ({left})", failure.shrunk, failure.shrunk_text, "open"))
    if failure.tape:
        parts.append(_tape(f"As it was drawn ({many(failure.found.faults, 'fault')})", failure.tape, failure.tape_text))
    return "".join(parts)


def _tape(name: str, file: str, text: str, state: str = "") -> str:
    return (
        f"<details {state}><summary>{escape(name)}: <code>twin run {escape(file)}</code></summary>"
        f"<pre>{escape(text.strip())}</pre></details>"
    )


# -- gates and failovers -----------------------------------------------------------------------------------------------


def _gates(summary: Summary) -> str:
    if not summary.gates:
        return ""
    rows = "".join(
        f'<tr><td class="{"good" if gate.ok else "bad"}">{"met" if gate.ok else "not met"}</td>'
        f"<td><b>{escape(gate.name)}</b></td><td>{escape(gate.wanted)}</td><td>{escape(gate.got)}</td></tr>"
        for gate in summary.gates
    )
    return (
        "<section><h2>Gates</h2><table><thead><tr><th></th><th>bound</th><th>wanted</th><th>got</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></section>"
    )


def _failovers(summary: Summary) -> str:
    if not summary.failovers:
        return '<section><h2>Failovers</h2><p class="faint">No singleton moved.</p></section>'
    gated = {(gate.service, gate.cause): 0 for gate in summary.bounds}
    chosen = {(one.service, one.cause): 0 for one in shown(summary.failovers, CAUSES_SHOWN)}
    rows = [one for one in summary.failovers if (one.service, one.cause) in {**chosen, **gated}]
    gates = [(gate, line.ok) for gate, line in zip(summary.bounds, summary.gates, strict=False)]
    table = "".join(map(_spread, summary.failovers))
    return (
        '<section class="wide"><h2>How long failovers took</h2><p class="key"><span class="faint">from the cause to '
        "serving again, by service and cause: a dot at the median, ticks at p90 and p99, walls at gates; the height is "
        f'how many</span></p><div class="picture">{draw_spreads(rows, gates)}</div>'
        "<details><summary>All of them as a table</summary><table><thead><tr><th>service</th><th>cause</th>"
        '<th class="n">failovers</th><th class="n">p50</th><th class="n">p90</th><th class="n">p99</th>'
        f'<th class="n">longest</th></tr></thead><tbody>{table}</tbody></table></details>'
        f"{_availability(summary)}</section>"
    )


def _spread(one: Spread) -> str:
    names = ["all" if name == ANY else name for name in (one.service, one.cause)]
    cells = "".join(f'<td class="n">{took(ms)}</td>' for ms in (one.p50, one.p90, one.p99, one.max))
    row = f'<td>{escape(names[0])}</td><td>{escape(names[1])}</td><td class="n">{one.count:,d}</td>{cells}'
    return f'<tr class="{"whole" if one.cause == ANY else ""}">{row}</tr>'


def _availability(summary: Summary) -> str:
    if not summary.unavailable_ms:
        return ""
    rows = "".join(
        f'<tr><td>{escape(service)}</td><td class="n">{took(ms)}</td>'
        f'<td class="n">{took(summary.unavailable_ms_max.get(service, 0))}</td></tr>'
        for service, ms in summary.unavailable_ms.items()
    )
    return (
        '<details><summary>Unavailable time</summary><table><thead><tr><th>service</th><th class="n">in all campaigns'
        f'</th><th class="n">in the worst one</th></tr></thead><tbody>{rows}</tbody></table></details>'
    )


# -- rare situations and faults ----------------------------------------------------------------------------------------


def _sometimes(summary: Summary) -> str:
    most = max([one.campaigns for one in summary.sometimes], default=0)
    ordered = sorted(summary.sometimes, key=lambda one: -one.campaigns)
    rows = "".join(_reached(one, most, summary) for one in ordered)
    return (
        '<section class="wide"><h2>Rare situations</h2><p class="faint">In how many campaigns each occurred. A large '
        "swarm that misses one its profile lists has shown too little, and fails.</p>"
        f'<table class="bars"><tbody>{rows}</tbody></table></section>'
    )


def _reached(one: Reached, most: int, summary: Summary) -> str:
    name = escape(one.name.replace("_", " "))
    if one.campaigns:
        bar = _bar(one.campaigns, 0, most)
        count = f"{one.campaigns:,d}"
    else:
        tone = "bad" if one.wanted and summary.too_calm else "warn" if one.wanted else "faint"
        bar, count = "", f'<span class="{tone}">{"missing" if one.wanted else "none"}</span>'
    return f'<tr><td><b>{name}</b><small>{escape(one.text)}</small></td><td class="n">{count}</td><td>{bar}</td></tr>'


def _bar(good: int, bad: int, most: int) -> str:
    """A bar of two parts; the longest of its list fills its cell."""
    parts = ((good, colours.MEMBERSHIP["joined"]), (bad, colours.FAULT))
    drawn = "".join(f'<i style="width:{n * 100 / most:.2f}%;background:{colour}"></i>' for n, colour in parts if n)
    return f'<div class="share">{drawn}</div>'


def _faults(summary: Summary) -> str:
    if not summary.by_kind:
        return ""
    most = max(share.campaigns for share in summary.by_kind)
    ordered: Iterable[Share] = sorted(summary.by_kind, key=lambda share: -share.campaigns)
    rows = "".join(_kind(share, most) for share in ordered)
    return (
        '<section class="wide"><h2>Faults and verdicts</h2>'
        f'<p class="key">{_legend((("passed", colours.MEMBERSHIP["joined"]), ("failed", colours.FAULT)))}</p>'
        f'<div class="picture">{draw_faults(summary.by_faults)}</div>'
        '<h2>Kinds of fault</h2><table class="bars"><thead><tr><th>kind</th><th class="n">campaigns</th>'
        f'<th class="n">failed</th><th></th></tr></thead><tbody>{rows}</tbody></table></section>'
    )


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    return "".join(f'<span><i style="background:{colour}"></i>{name}</span>' for name, colour in entries)


def _kind(share: Share, most: int) -> str:
    failed = f'<span class="bad">{share.failed:,d}</span>' if share.failed else "0"
    return (
        f'<tr><td>{escape(share.name.replace("_", " "))}</td><td class="n">{share.campaigns:,d}</td>'
        f'<td class="n">{failed}</td><td>{_bar(share.campaigns - share.failed, share.failed, most)}</td></tr>'
    )


def _foot(summary: Summary) -> str:
    return (
        f"<footer><p>Profile {escape(summary.profile)}, seeds {summary.first_seed} to {summary.last_seed}; digest of "
        f"all campaigns <code>{summary.digest}</code>. Quantiles are nearest ranks; the same seeds give the same page, "
        "whatever ran them.</p></footer>"
    )
