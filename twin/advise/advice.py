"""What to set, and why: false alarms a year against failover times, for each setting that was swept."""

from collections.abc import Callable, Sequence

import msgspec

from core.specs import Timing
from twin.advise.jitter import Jitter
from twin.advise.sweep import Measure, Setting, Times, quantile
from twin.advise.tail import Rarity, rarity_of
from twin.streams import Streams
from twin.table import NEGLIGIBLE

SESSIONS_MS = (1_000, 1_500, 2_000, 3_000, 4_000, 6_000, 8_000, 10_000, 15_000, 20_000, 30_000)
TICKS_PER_SESSION = (2, 4, 8)
"""ZooKeeper gives no session less than two ticks (Administrator's Guide, minSessionTimeout)."""
FRESH_MS = (300, 400, 500, 750, 1_000, 1_500, 2_000, 3_000)
PROBES_PER_FRESH = (2, 3, 5)
"""How many storage probes are asked while evidence stays fresh: one may be lost with two."""
PING_SHARE = 3
"""A client that has nothing to say pings after a third of its session timeout (kazoo and the Java client do)."""


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One session timeout. ``*_yearly`` for the whole rack, with the upper end of the 95 % interval; times in ms.

    ``expiries_yearly``: sessions of healthy nodes that expire, each a failover of what the node holds.
    """

    setting: Setting
    expiries_yearly: float
    expiries_yearly_max: float
    proven_p50_ms: int
    proven_p99_ms: int
    silent_p50_ms: int
    silent_p99_ms: int


class FreshRow(msgspec.Struct, frozen=True, kw_only=True):
    """One self-demotion point: how often a year healthy holders withdraw, and what the successor's wait costs."""

    setting: Setting
    withdrawals_yearly: float
    withdrawals_yearly_max: float
    admission_ms: int
    proven_p50_ms: int
    proven_p99_ms: int


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of both sweeps and of the two finer ones at the advised setting, and what is advised.

    ``advised`` is None if no setting keeps the false alarms within ``yearly_max``; ``reasons`` say why in sentences.
    """

    rack: str
    service: str
    nodes: int
    holders: int
    yearly_max: float
    hours: float
    coordination_largest_ms: int
    storage_largest_ms: int
    sessions: tuple[SessionRow, ...]
    ticks: tuple[SessionRow, ...]
    fresh: tuple[FreshRow, ...]
    probes: tuple[FreshRow, ...]
    advised: Setting | None
    present: Setting
    reasons: tuple[str, ...]


def present_setting(tick_ms: int) -> Setting:
    """The timers as they are set when nobody says otherwise."""
    timing = Timing()
    return Setting(
        session_timeout_ms=timing.session_timeout_ms,
        tick_ms=tick_ms,
        beat_ms=timing.beat_ms,
        probe_ms=timing.probe_ms,
        fresh_ms=timing.fresh_ms,
        withdraw_ms=timing.withdraw_ms,
    )


class Sweep:
    """Everything one piece of advice is made from. ``advise`` does the work and tells ``progress(done, of)``.

    ``guessed``: nobody measured the jitter, so nothing shorter than the present setting is advised.
    """

    def __init__(
        self,
        jitter: Jitter,
        measure: Measure,
        *,
        nodes: int,
        holders: int,
        yearly_max: float,
        tick_ms: int,
        guessed: bool,
        progress: Callable[[int, int], None],
    ) -> None:
        streams = Streams(1)
        self.coordination = rarity_of(jitter.coordination, "coordination", streams.get("resample/coordination"))
        self.storage = rarity_of(jitter.storage, "storage", streams.get("resample/storage"))
        self.nodes, self.holders, self.yearly_max = nodes, holders, yearly_max
        self.present = present_setting(tick_ms)
        self._guessed = guessed
        self._measure, self._progress = measure, progress
        self._known: dict[Setting, Times] = {}
        self._of = len(SESSIONS_MS) + len(FRESH_MS) + len(TICKS_PER_SESSION) + len(PROBES_PER_FRESH)

    def advise(self, rack: str, service: str) -> Advice:
        """Sweep the session timeout and the self-demotion point, then tick and probes at the best of them."""
        sessions = tuple(self._session_row(with_session(self.present, ms)) for ms in SESSIONS_MS)
        fresh = tuple(self._fresh_row(with_fresh(self.present, ms)) for ms in FRESH_MS)
        shortest = msgspec.structs.replace(self.present, session_timeout_ms=0, fresh_ms=0)
        shortest = self.present if self._guessed else shortest
        session = first_within(
            [
                (row.setting, row.expiries_yearly_max)
                for row in sessions
                if row.setting.session_timeout_ms >= shortest.session_timeout_ms
            ],
            self.yearly_max,
        )
        point = first_within(
            [(row.setting, row.withdrawals_yearly_max) for row in fresh if row.setting.fresh_ms >= shortest.fresh_ms],
            self.yearly_max,
        )
        base = session or sessions[-1].setting
        near = point or fresh[-1].setting
        ticks = tuple(
            self._session_row(msgspec.structs.replace(base, tick_ms=base.session_timeout_ms // (2 * per) or 1))
            for per in TICKS_PER_SESSION
        )
        probes = tuple(
            self._fresh_row(msgspec.structs.replace(near, probe_ms=near.fresh_ms // per)) for per in PROBES_PER_FRESH
        )
        advised = None
        if session is not None and point is not None:
            advised = msgspec.structs.replace(
                session,
                tick_ms=_cheapest_tick(ticks),
                fresh_ms=point.fresh_ms,
                withdraw_ms=point.withdraw_ms,
                probe_ms=_calmest_probe(probes, self.yearly_max),
            )
        return Advice(
            rack=rack,
            service=service,
            nodes=self.nodes,
            holders=self.holders,
            yearly_max=self.yearly_max,
            hours=self.coordination.hours,
            coordination_largest_ms=self.coordination.largest_ms,
            storage_largest_ms=self.storage.largest_ms,
            sessions=sessions,
            ticks=ticks,
            fresh=fresh,
            probes=probes,
            advised=advised,
            present=self.present,
            reasons=self._reasons(sessions, fresh, session, point),
        )

    def _times(self, setting: Setting) -> Times:
        if setting not in self._known:
            self._known[setting] = self._measure(setting)
        self._progress(len(self._known), self._of)
        return self._known[setting]

    def _session_row(self, setting: Setting) -> SessionRow:
        times = self._times(setting)
        yearly, yearly_max = _rate(self.coordination, expiry_slack_ms(setting), self.nodes)
        return SessionRow(
            setting=setting,
            expiries_yearly=yearly,
            expiries_yearly_max=yearly_max,
            proven_p50_ms=quantile(times.proven_ms, 0.5),
            proven_p99_ms=quantile(times.proven_ms, 0.99),
            silent_p50_ms=quantile(times.silent_ms, 0.5),
            silent_p99_ms=quantile(times.silent_ms, 0.99),
        )

    def _fresh_row(self, setting: Setting) -> FreshRow:
        times = self._times(setting)
        yearly, yearly_max = _rate(self.storage, setting.fresh_ms - setting.probe_ms, self.holders)
        timing = Timing(fresh_ms=setting.fresh_ms, withdraw_ms=setting.withdraw_ms)
        return FreshRow(
            setting=setting,
            withdrawals_yearly=yearly,
            withdrawals_yearly_max=yearly_max,
            admission_ms=timing.admission_ms,
            proven_p50_ms=quantile(times.proven_ms, 0.5),
            proven_p99_ms=quantile(times.proven_ms, 0.99),
        )

    def _reasons(
        self,
        sessions: Sequence[SessionRow],
        fresh: Sequence[FreshRow],
        session: Setting | None,
        point: Setting | None,
    ) -> tuple[str, ...]:
        said = []
        if self._guessed:
            said.append("nobody measured this rack's jitter, so nothing shorter than the present setting is advised")
        if session is None:
            said.append(
                f"no session timeout up to {SESSIONS_MS[-1]:,d} ms keeps false expiries under {self.yearly_max:g} "
                "a year: mend the stalls first (disks of the ensemble, garbage collection, an overloaded network)"
            )
        else:
            row = next(row for row in sessions if row.setting == session)
            said.append(
                f"session timeout {session.session_timeout_ms:,d} ms: the shortest with at most {self.yearly_max:g} "
                f"false expiries a year ({small(row.expiries_yearly_max)}, upper end); a silent holder is replaced in "
                f"{row.silent_p50_ms:,d} ms (p50) to {row.silent_p99_ms:,d} ms (p99)"
            )
        if point is None:
            said.append(f"no self-demotion point up to {FRESH_MS[-1]:,d} ms keeps withdrawals that rare")
        else:
            near = next(row for row in fresh if row.setting == point)
            said.append(
                f"self-demotion point {point.fresh_ms:,d} ms: the earliest with at most {self.yearly_max:g} false "
                f"withdrawals a year ({small(near.withdrawals_yearly_max)}); every successor waits "
                f"{near.admission_ms:,d} ms for it"
            )
        return tuple(said)


def with_session(setting: Setting, session_timeout_ms: int) -> Setting:
    """Return the setting with another session timeout: tick a quarter and beat an eighth of it, as now."""
    return msgspec.structs.replace(
        setting,
        session_timeout_ms=session_timeout_ms,
        tick_ms=session_timeout_ms // 4,
        beat_ms=min(session_timeout_ms // 8, 1_000),
    )


def with_fresh(setting: Setting, fresh_ms: int) -> Setting:
    """Return the setting with another self-demotion point: withdrawal and probe keep their share of it."""
    return msgspec.structs.replace(
        setting, fresh_ms=fresh_ms, withdraw_ms=max(100, fresh_ms * 2 // 5), probe_ms=fresh_ms * 2 // 5
    )


def expiry_slack_ms(setting: Setting) -> int:
    """How late a sign of life may be before its session expires: the timeout, less the time between two of them."""
    return setting.session_timeout_ms - max(setting.session_timeout_ms // PING_SHARE, setting.beat_ms)


def first_within(rows: Sequence[tuple[Setting, float]], yearly_max: float) -> Setting | None:
    """The first setting from which on no longer one exceeds ``yearly_max`` false alarms a year."""
    for index, (setting, _) in enumerate(rows):
        if all(rate <= yearly_max for _, rate in rows[index:]):
            return setting
    return None


def _rate(rarity: Rarity, limit_ms: int, count: int) -> tuple[float, float]:
    yearly, yearly_max = rarity.yearly(limit_ms)
    return yearly * count, yearly_max * count


def _cheapest_tick(rows: Sequence[SessionRow]) -> int:
    """The longest tick whose silent failovers are within 5 % of the fastest at p99: a tick costs work all the time."""
    best = min(row.silent_p99_ms for row in rows)
    return max(row.setting.tick_ms for row in rows if row.silent_p99_ms <= best * 1.05)


def _calmest_probe(rows: Sequence[FreshRow], yearly_max: float) -> int:
    """The longest probe interval that keeps withdrawals rare: a probe is a write on the volume."""
    good = [row.setting.probe_ms for row in rows if row.withdrawals_yearly_max <= yearly_max]
    return max(good) if good else min(row.setting.probe_ms for row in rows)


def small(rate: float) -> str:
    """A rate in two digits; one that nobody will live to see is only called so small."""
    return f"{rate:.2g}" if rate == 0 or rate >= NEGLIGIBLE else f"under {NEGLIGIBLE:g}"
