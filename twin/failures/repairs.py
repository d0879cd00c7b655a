"""What a recording says about repairs and lifetimes: summaries by cause and by system, and the times to fit."""

from collections.abc import Iterable

import msgspec
import numpy as np

from twin.failures.distributions import Floats
from twin.failures.lanl import Record
from twin.failures.outage import CAUSES
from twin.table import Table

_HOUR_S = 3_600.0
_DAYS_A_YEAR = 365.25


class Times(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Lifetimes and repairs of many nodes, in hours, each a float64 array in the order of node and time.

    ``up_h``: from the end of one record of a node to the start of its next. ``up_censored_h``: from each node's last
    record to the end of the recording, when it was still up. ``down_h``: of each record, also of those that overlap.
    """

    up_h: Floats
    up_censored_h: Floats
    down_h: Floats


def times_of(records: Iterable[Record]) -> Times:
    """Collect the times of records, of several systems or one. Nodes of different systems are different nodes.

    Times of 0 and below (records that overlap) are left out, and records that name no node say nothing about times up:
    so the numbers and means are those of the Failure Trace Archive's own fits of these data.
    """
    nodes: dict[tuple[int, int], list[tuple[float, float]]] = {}
    ends: dict[int, float] = {}
    down: list[float] = []
    for record in records:
        start_h, end_h = record.started.timestamp() / _HOUR_S, record.fixed.timestamp() / _HOUR_S
        if record.node is not None:
            nodes.setdefault((record.system, record.node), []).append((start_h, end_h))
        ends[record.system] = max(ends.get(record.system, end_h), end_h)
        down.append(record.down_min / 60.0)
    up: list[float] = []
    censored: list[float] = []
    for (system, _), spans in sorted(nodes.items()):
        last_h: float | None = None
        for start_h, end_h in sorted(spans):
            if last_h is not None and start_h > last_h:
                up.append(start_h - last_h)
            last_h = end_h
        if last_h is not None:
            censored.append(ends[system] - last_h)
    return Times(up_h=_positive(up), up_censored_h=_positive(censored), down_h=_positive(down))


def by_cause(records: Iterable[Record]) -> Table:
    """Summarise the minutes down by root cause, and of all records, also of those without a cause.

    ``sd_min`` is the sample deviation, ``c2`` the squared coefficient of variation: 1 for an exponential distribution.
    """
    minutes: dict[str, list[float]] = {cause: [] for cause in CAUSES}
    every: list[float] = []
    for record in records:
        every.append(record.down_min)
        if record.cause is not None:
            minutes[record.cause].append(record.down_min)
    minutes["all"] = every
    kept = {cause: np.asarray(values) for cause, values in minutes.items() if values}
    means = [float(values.mean()) for values in kept.values()]
    deviations = [float(values.std(ddof=1)) if len(values) > 1 else 0.0 for values in kept.values()]
    return Table(
        {
            "root_cause": list(kept),
            "records": [len(values) for values in kept.values()],
            "mean_min": means,
            "median_min": [float(np.median(values)) for values in kept.values()],
            "sd_min": deviations,
            "c2": [(sd / mean) ** 2 if mean else 0.0 for sd, mean in zip(deviations, means, strict=True)],
        },
        {"mean_min": "min", "median_min": "min", "sd_min": "min"},
        "Repair times by root cause",
    )


def by_system(records: Iterable[Record]) -> Table:
    """Summarise each system: its size, its failures a year between first and last record, and its repairs."""
    systems: dict[int, list[Record]] = {}
    for record in records:
        systems.setdefault(record.system, []).append(record)
    rows = [_system(number, systems[number]) for number in sorted(systems)]
    names = ("system", "nodes", "processors", "failures", "first", "last", "years", "failures_per_year")
    return Table(
        {name: [row[i] for row in rows] for i, name in enumerate((*names, "mean_min", "median_min"))},
        {"years": "a", "failures_per_year": "1/a", "mean_min": "min", "median_min": "min"},
        "Failures and repairs by system",
    )


def _system(number: int, records: list[Record]) -> tuple[object, ...]:
    first, last = min(record.started for record in records), max(record.started for record in records)
    years = (last - first).days / _DAYS_A_YEAR
    minutes = np.asarray([record.down_min for record in records])
    return (
        number,
        max(record.nodes for record in records),
        max(record.processors for record in records),
        len(records),
        first.strftime("%Y-%m-%d"),
        last.strftime("%Y-%m-%d"),
        years,
        len(records) / years if years else float("nan"),
        float(minutes.mean()),
        float(np.median(minutes)),
    )


def _positive(hours: list[float]) -> Floats:
    values = np.asarray(hours, dtype=np.float64)
    return values[values > 0]
