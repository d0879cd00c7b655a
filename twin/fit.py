"""Fits the twin's calibration to what was measured: samples of named phases become quantiles of the entries they time.

Only entries that a phase measures are fitted, each from its own samples and nothing else: no total is aimed at, so a
total that comes out right was predicted. What is fitted from one half of the scenarios is judged on the other
(``twin compare --half``).
"""

import re
from collections.abc import Mapping, Sequence

import msgspec

from core.errors import InputError
from core.specs import Timing
from trial.reports import Half, half_of
from trial.verdict import PHASES, Outcome
from twin.calibration import SERVICE, Calibration, Sampled

SAMPLES_MIN = 5
"""Fewer samples than this say little about a distribution; the entry stays as it is."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """``phase`` times ``entry`` and, besides, the entries ``less``, whose medians are taken off."""

    phase: str
    entry: str
    less: tuple[str, ...] = ()


RULES = (
    Rule(phase="commit_ms", entry="zookeeper.write_ms"),
    Rule(phase="session_close_ms", entry="zookeeper.other_close_ms"),
    Rule(phase="reconnect_ms", entry="zookeeper.reconnect_ms", less=("zookeeper.write_ms",)),
    Rule(phase="power_query_ms", entry="bmc.login_ms", less=("bmc.command_ms",)),
    Rule(phase="attach_ms", entry="storage.open_ms"),
    Rule(phase="agent_restart_ms", entry="agent.restart_ms"),
)
"""In order: what one rule fits, a later one takes off."""

SERVICE_PHASES = ("service_start_ms", "service_stop_ms")
"""The phases that the twin times for each service by itself."""

_PHASE = re.compile(f"({'|'.join(PHASES)})(\\.[A-Za-z0-9_-]+)?")

STRAY = 10
"""A sample this many times further above the p90 than that is above the median met an outage; the twin has its own."""

WAITED = 3
"""A fence this many times as long as the shortest tenth waited for placement groups that had lost their daemons."""
DEATHS = ("power_loss", "node_crash")
"""Causes that end a node's storage daemons without a word."""

COMMAND_SHARE = 0.3
"""Of the shortest fence, what is given to the monitors' command; the barrier has the rest and all of the spread."""


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """One entry as it was and as it is now; ``samples`` is how many it was fitted from."""

    entry: str
    before: Sampled | None
    after: Sampled
    samples: int


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """What was fitted, from which scenarios; ``skipped`` says what was measured too rarely, or not known."""

    scenarios: tuple[str, ...]
    entries: tuple[Fitted, ...]
    skipped: tuple[str, ...]


def fit(outcomes: Sequence[Outcome], base: Calibration, half: Half | None = None) -> Fit:
    """Fit all entries that the outcomes of that half have samples of.

    Raises: InputError if they have none.
    """
    scenarios = half_of((outcome.scenario for outcome in outcomes), half)
    chosen = [outcome for outcome in outcomes if outcome.scenario in scenarios]
    samples = _samples(chosen)
    skipped = [f"{name}: {len(own)} samples, {SAMPLES_MIN} needed" for name, own in samples.items() if _few(own)]
    skipped += [f"{name}: no such phase" for name in samples if not _PHASE.fullmatch(name)]
    usable = {name: own for name, own in samples.items() if _PHASE.fullmatch(name) and not _few(own)}
    where = f"{len(scenarios)} scenarios" + (f", the {half} half" if half else "")
    changes = _Changes(base, where)
    for rule in RULES:
        if rule.phase in usable:
            off_ms = sum(changes.now(name).number for name in rule.less)
            changes.spread(rule.entry, rule.phase, [ms - off_ms for ms in usable[rule.phase]])
    _fence(usable.get("fence_ms", ()), chosen, changes)
    _expiry(usable.get("session_expiry_ms", ()), changes)
    _starts(usable, changes)
    if not changes.fitted:
        needed = f"needed: at least {SAMPLES_MIN} of one phase, such as {', '.join(list(PHASES)[:3])}"
        raise InputError([f"the report has no samples to fit from; {needed}", *skipped])
    return Fit(scenarios=scenarios, entries=tuple(changes.fitted.values()), skipped=tuple(skipped))


def _few(samples: Sequence[float]) -> bool:
    return len(samples) < SAMPLES_MIN


def _samples(outcomes: Sequence[Outcome]) -> dict[str, tuple[int, ...]]:
    """All samples by phase; by service only where the twin tells services apart."""
    found: dict[str, list[int]] = {}
    for outcome in outcomes:
        for name, own in outcome.samples.items():
            phase = name.partition(".")[0]
            found.setdefault(name if phase in SERVICE_PHASES else phase, []).extend(own)
    return {phase: tuple(sorted(own)) for phase, own in sorted(found.items())}


class _Changes:
    """The calibration as fitted so far."""

    def __init__(self, base: Calibration, where: str) -> None:
        self._base = base
        self._where = where
        self.fitted: dict[str, Fitted] = {}

    def now(self, entry: str) -> Sampled:
        return self.fitted[entry].after if entry in self.fitted else self._base[entry]

    def spread(self, entry: str, phase: str, samples: Sequence[float]) -> None:
        """Give an entry the quantiles of the samples; none is below 0."""
        p90 = interpolated(samples, 0.9)
        most = p90 + STRAY * max(1.0, p90 - interpolated(samples, 0.5))
        usual = [ms for ms in samples if ms <= most]
        low, p50, p90, high = (max(0.0, round(interpolated(usual, share), 1)) for share in (0.0, 0.5, 0.9, 1.0))
        source = self._source(phase, len(samples))
        self._set(entry, Sampled(min=low, p50=p50, p90=p90, max=high, source=source), len(samples))

    def fix(self, entry: str, phase: str, value: float, samples: int) -> None:
        """Give an entry one value."""
        self._set(entry, Sampled(value=max(0.0, round(value, 1)), source=self._source(phase, samples)), samples)

    def _source(self, phase: str, samples: int) -> str:
        return f"fitted to {phase}: {samples} samples, {self._where}"

    def _set(self, entry: str, after: Sampled, samples: int) -> None:
        self.fitted[entry] = Fitted(entry=entry, before=self._base.quantities.get(entry), after=after, samples=samples)


def interpolated(samples: Sequence[float], share: float) -> float:
    """The quantile at ``share`` of the samples, linear between neighbours; ``samples`` not empty."""
    ordered = sorted(samples)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def _fence(samples: Sequence[int], outcomes: Sequence[Outcome], changes: _Changes) -> None:
    """Fit fences that found the storage whole, and from those that waited, when it lost its dead daemons."""
    if samples:
        longest = WAITED * max(1.0, interpolated(samples, 0.1))
        _divide([ms for ms in samples if ms <= longest], changes)
        _silent(outcomes, longest, changes)


def _silent(outcomes: Sequence[Outcome], longest: float, changes: _Changes) -> None:
    """From the death of a node until its storage daemons are down: what a fence before that has to wait for.

    Only scenarios in which most fences waited tell it: elsewhere the few that waited are those that died slowly.
    """
    ends: list[float] = []
    barrier = changes.now("storage.barrier_ms").number
    for scenario in dict.fromkeys(outcome.scenario for outcome in outcomes):
        moves = [
            move
            for outcome in outcomes
            if outcome.scenario == scenario
            for move in outcome.failovers
            if move.cause in DEATHS and move.fence_ms > 0
        ]
        waited = [move.detect_ms + move.fence_ms - barrier for move in moves if move.fence_ms > longest]
        ends += waited if 2 * len(waited) > len(moves) else []
    if not _few(ends):
        changes.spread("storage.down_silent_ms", "fences that waited", sorted(ends))


def _divide(samples: Sequence[int], changes: _Changes) -> None:
    """Divide a whole fence: a fixed command and its answer, then a barrier with all of the spread.

    The groups learn of the entry before the barrier ends: that is what a barrier is for.
    """
    shortest = samples[0]
    answer = min(changes.now("storage.command_answer_ms").number, COMMAND_SHARE * shortest / 2)
    command = min(changes.now("storage.command_ms").number, COMMAND_SHARE * shortest)
    spread = changes.now("storage.spread_ms")
    assert spread.max is not None
    scale = min(1.0, max(0.0, shortest - command - 1) / spread.max)
    changes.fix("storage.command_answer_ms", "fence_ms", int(answer), len(samples))
    changes.fix("storage.command_ms", "fence_ms", int(command), len(samples))
    changes.spread("storage.barrier_ms", "fence_ms", [ms - int(command) - int(answer) for ms in samples])
    if scale < 1.0:
        known = [value * scale for value in (spread.min, spread.p50, spread.p90, spread.max) if value is not None]
        low, p50, p90, high = (round(value, 1) for value in known)
        source = f"scaled by {scale:.2f}: within the shortest fence_ms of {len(samples)} samples"
        changes.fitted["storage.spread_ms"] = Fitted(
            entry="storage.spread_ms",
            before=spread,
            after=Sampled(min=low, p50=p50, p90=p90, max=high, source=source),
            samples=len(samples),
        )


def _expiry(samples: Sequence[int], changes: _Changes) -> None:
    """What an expiry takes longer than its model says on average, for a holder that commits every ``beat_ms``.

    Source: facts/zookeeper.md section 2, detect = T - age + F + U(0, tick) + lag; F as for a client of a follower.
    """
    if samples:
        count = len(samples)
        timing, tick_ms = Timing(), changes.now("zookeeper.tick_ms").number
        expected = timing.session_timeout_ms - timing.beat_ms / 2 + tick_ms / 4 + tick_ms / 2
        changes.fix("zookeeper.expiry_lag_ms", "session_expiry_ms", sum(samples) / count - expected, count)


def _starts(usable: Mapping[str, Sequence[int]], changes: _Changes) -> None:
    """Starts and stops as they were measured: of each service, or of all; recovery was part of the start."""
    for phase, own in usable.items():
        name, _, service = phase.partition(".")
        entry = f"{SERVICE}.{service}" if service else SERVICE
        if name == "service_stop_ms":
            changes.spread(f"{entry}.stop_ms", phase, own)
        elif name == "service_start_ms":
            changes.spread(f"{entry}.start_ms", phase, own)
            changes.fix(f"{entry}.recovery_ms", f"{phase}, which contains it", 0, len(own))


# -- the file ----------------------------------------------------------------------------------------------------------


def to_toml(found: Fit, report: str) -> str:
    """The fitted entries as a calibration file that replaces those of the twin (``twin run --calibration``)."""
    sections: dict[str, list[str]] = {}
    for one in found.entries:
        section, _, name = one.entry.rpartition(".")
        sections.setdefault(section, []).append(f"{name} = {_inline(one.after)}")
    origin = " ".join(f"{report}: {', '.join(found.scenarios)}".split())
    lines = [f"# Written by `twin fit` from {origin}."]
    for section, entries in sections.items():
        lines += ["", f"[{section}]", *entries]
    return "\n".join(lines) + "\n"


def _inline(entry: Sampled) -> str:
    names = ("value",) if entry.value is not None else ("min", "p50", "p90", "max")
    numbers = ", ".join(f"{name} = {getattr(entry, name):g}" for name in names)
    return f'{{ {numbers}, source = "{entry.source}" }}'


def to_text(found: Fit) -> str:
    """What was fitted, for a terminal: medians before and after."""
    width = max(len(one.entry) for one in found.entries)
    lines = []
    for one in found.entries:
        before = f"{one.before.number:g}" if one.before is not None else "catalog"
        lines.append(f"{one.entry:<{width}}  {before:>8} -> {one.after.number:>8g}  ({one.samples} samples)")
    return "\n".join([*lines, *found.skipped]) + "\n"
