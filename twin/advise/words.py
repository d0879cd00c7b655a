"""Advice as text for a terminal."""

import textwrap
from collections.abc import Sequence

from formats.paint import Paint
from twin.advise.advice import Advice, FreshRow, SessionRow
from twin.advise.sweep import Setting


def to_text(advice: Advice, paint: Paint) -> str:
    """Tell a person what was swept and what is advised."""
    lines = [
        paint.strong(f"timers for {advice.rack}: {advice.nodes} nodes, failovers of {advice.service}"),
        f"  {_watched(advice)}",
        "",
        *_session_table("session timeout", advice.sessions, advice),
        "",
        *_fresh_table("self-demotion point", advice.fresh, advice),
        "",
        *_session_table("tick, at that session timeout", advice.ticks, advice),
        "",
        *_fresh_table("probe interval, at that point", advice.probes, advice),
        "",
        *(line for reason in advice.reasons for line in _wrapped(reason)),
        "",
        *_advised(advice, paint),
    ]
    return "\n".join(lines) + "\n"


def _wrapped(reason: str) -> list[str]:
    return textwrap.wrap(reason, 100, initial_indent="  ", subsequent_indent="    ")


def _watched(advice: Advice) -> str:
    seen = f"at most {advice.coordination_largest_ms:,d} ms (ZooKeeper), {advice.storage_largest_ms:,d} ms (storage)"
    return f"lateness watched for {advice.hours:,.2f} h: {seen}; what is rarer is extrapolated"


def toml_of(setting: Setting) -> str:
    """Write the timers as a scenario's ``[timing]``; the tick belongs into ZooKeeper's own configuration."""
    names = ("session_timeout_ms", "beat_ms", "probe_ms", "fresh_ms", "withdraw_ms")
    return "[timing]\n" + "".join(f"{name} = {getattr(setting, name):_d}\n" for name in names)


def _advised(advice: Advice, paint: Paint) -> list[str]:
    if advice.advised is None:
        return [paint.bad("no setting can be advised")]
    same = advice.advised == advice.present
    head = "the present setting is the advised one" if same else "advised:"
    return [
        paint.good(head),
        *(f"  {line}" for line in toml_of(advice.advised).splitlines()),
        f"  # and tickTime={advice.advised.tick_ms} in ZooKeeper's configuration",
    ]


def _session_table(title: str, rows: Sequence[SessionRow], advice: Advice) -> list[str]:
    head = f"  {title:<32} {'false expiries a year':>24} {'proven p50':>11} {'p99':>8} {'silent p50':>11} {'p99':>8}"
    return [head, *(_session_line(row, advice) for row in rows)]


def _session_line(row: SessionRow, advice: Advice) -> str:
    setting = row.setting
    name = f"{setting.session_timeout_ms:>7,d} ms, tick {setting.tick_ms:,d}"
    rates = f"{row.expiries_yearly:9.3g} (<= {row.expiries_yearly_max:8.3g})"
    times = f"{row.proven_p50_ms:>11,d} {row.proven_p99_ms:>8,d} {row.silent_p50_ms:>11,d} {row.silent_p99_ms:>8,d}"
    advised = advice.advised
    chosen = advised is not None and setting.session_timeout_ms == advised.session_timeout_ms
    return f"{'*' if chosen else ' ':>2} {name:<31} {rates:>24} {times}"


def _fresh_table(title: str, rows: Sequence[FreshRow], advice: Advice) -> list[str]:
    head = f"  {title:<32} {'false withdrawals a year':>24} {'admission':>11} {'':>8} {'proven p50':>11} {'p99':>8}"
    return [head, *(_fresh_line(row, advice) for row in rows)]


def _fresh_line(row: FreshRow, advice: Advice) -> str:
    setting = row.setting
    name = f"{setting.fresh_ms:>7,d} ms, probe {setting.probe_ms:,d}"
    rates = f"{row.withdrawals_yearly:9.3g} (<= {row.withdrawals_yearly_max:8.3g})"
    advised = advice.advised
    chosen = advised is not None and setting.fresh_ms == advised.fresh_ms
    times = f"{row.admission_ms:>11,d} {'':>8} {row.proven_p50_ms:>11,d} {row.proven_p99_ms:>8,d}"
    return f"{'*' if chosen else ' ':>2} {name:<31} {rates:>24} {times}"
