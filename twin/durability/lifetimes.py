"""Lifetimes of groups of shards, simulated event by event: for any distribution, and as a check of the chain."""

import numpy as np

from twin.durability.durations import Duration, Hours, draw
from twin.durability.markov import Code, Repair

EVENTS_MAX = 3_000_000
"""No lifetime is followed for longer: a code that durable wants another method."""


def draw_lifetimes(
    code: Code, life: Duration, repair_time: Duration, repair: Repair, count: int, rng: np.random.Generator
) -> Hours:
    """Draw how long groups keep their data, all shards new at the start. Returns float64 hours, shape (count,).

    With serial repair the shards are repaired one after another, in the order in which they failed.
    Raises: ValueError if a lifetime has more than ``EVENTS_MAX`` events.
    """
    due = draw(life, rng, (count, code.shards))
    failed = np.zeros((count, code.shards), dtype=bool)
    since = np.full((count, code.shards), np.inf)
    ends = np.full(count, np.nan)
    alive = np.arange(count)
    for _ in range(EVENTS_MAX):
        rows = np.arange(len(alive))
        which = due.argmin(axis=1)
        now = due[rows, which]
        mended = failed[rows, which]
        _mend(rows[mended], which[mended], now[mended], due, failed, since, draw(life, rng, int(mended.sum())))
        fresh = ~mended
        failed[rows[fresh], which[fresh]] = True
        since[rows[fresh], which[fresh]] = now[fresh]
        due[rows[fresh], which[fresh]] = np.inf
        _start(repair, now, due, failed, since, repair_time, rng)
        lost = failed.sum(axis=1) > code.tolerance
        if lost.any():
            ends[alive[lost]] = now[lost]
            alive, due, failed, since = alive[~lost], due[~lost], failed[~lost], since[~lost]
            if not len(alive):
                return ends
    raise ValueError(f"a group of {code.name} outlived {EVENTS_MAX} events")


def _mend(
    rows: "np.ndarray[tuple[int], np.dtype[np.intp]]",
    which: "np.ndarray[tuple[int], np.dtype[np.intp]]",
    now: Hours,
    due: Hours,
    failed: "np.ndarray[tuple[int, int], np.dtype[np.bool_]]",
    since: Hours,
    lives: Hours,
) -> None:
    failed[rows, which] = False
    since[rows, which] = np.inf
    due[rows, which] = now + lives


def _start(
    repair: Repair,
    now: Hours,
    due: Hours,
    failed: "np.ndarray[tuple[int, int], np.dtype[np.bool_]]",
    since: Hours,
    repair_time: Duration,
    rng: np.random.Generator,
) -> None:
    """Begin the repairs that may begin: of all waiting shards, or of the oldest one where none is under way."""
    waiting = failed & np.isinf(due)
    if repair == "serial":
        idle = waiting.any(axis=1) & ~(failed & np.isfinite(due)).any(axis=1)
        rows = np.flatnonzero(idle)
        which = np.where(waiting[rows], since[rows], np.inf).argmin(axis=1)
    else:
        rows, which = np.nonzero(waiting)
    due[rows, which] = now[rows] + draw(repair_time, rng, len(rows))
