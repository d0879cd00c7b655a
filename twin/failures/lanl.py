"""Failure records in the public format of Los Alamos National Laboratory's release LA-UR-05-7318.

The data are Los Alamos's, who ask to be named as their source; the project ships none of them.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from core.errors import InputError
from twin.failures.outage import Cause, Outage, Trace, merge
from twin.failures.reading import BadCell, Problems, sheet

_COLUMNS = 26
_SYSTEM, _NODES, _PROCESSORS, _NODE, _STARTED, _FIXED, _DOWN = 0, 2, 3, 6, 16, 17, 18
_CAUSES: tuple[tuple[int, Cause], ...] = (
    (19, "facilities"),
    (20, "hardware"),
    (21, "human error"),
    (22, "network"),
    (23, "undetermined"),
    (24, "software"),
)
_FORMAT = "%m/%d/%Y %H:%M"
_MINUTE_MS = 60_000
_NODES_MAX = 100_000


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the file. ``cause`` is None where none of the six is named, ``node`` where the file names none.

    ``down_min``: the minutes down as they were recorded, which in 2 % of the lines are not those between the dates.
    ``nodes`` and ``processors`` are those of the whole system, 0 where the file does not say.
    """

    line: int
    system: int
    nodes: int
    processors: int
    node: int | None
    started: datetime
    fixed: datetime
    down_min: float
    cause: Cause | None
    detail: str


def load(path: Path, system: int = 2) -> Trace:
    """Read the outages of one system from a CSV file, also compressed (``.xz``, ``.gz``, ``.zip``).

    Time 0 is the system's first record; all nodes exist from then on (their production dates lie before or are
    missing). Times have a resolution of a minute, so an outage of no length lasted a minute. Records of one node that
    overlap are merged (``outage.merge``). A record without a root cause counts as undetermined.

    Raises: InputError with every malformed line (at most 20 are named), or if the system is not in the file.
    """
    others: dict[str, None] = {}
    found = list(records(path, system, others))
    nameless = [record.line for record in found if record.node is None]
    if nameless:
        raise InputError(
            [f"{path}: line {nameless[0]}: nodenumz: is empty in {len(nameless)} lines of system {system}"]
        )
    if not found:
        listed = ", ".join(sorted(others, key=lambda name: (len(name), name)))[:200] or "none"
        raise InputError([f"{path}: trace.system: {system}: no record of it; systems there: {listed}"])
    return _trace(path, system, found)


def records(path: Path, system: int | None = None, others: dict[str, None] | None = None) -> Iterator[Record]:
    """Read the records of one system, or of all, in the order of the file, one at a time.

    ``others`` collects the names of all systems that occur.

    Raises: InputError at the end with every malformed line (at most 20 are named), or at once if it is another file.
    """
    source = sheet(path)
    problems = Problems(path)
    _, heading = next(source.rows, (0, []))
    if len(heading) != _COLUMNS or heading[_SYSTEM].strip() != "System":
        raise InputError([f"{path}: line 1: not LANL's failure data; {_COLUMNS} columns from 'System' on are expected"])
    lines = 1
    for line, row in source.rows:
        lines += 1
        try:
            if not row:
                continue
            if others is not None:
                others[row[_SYSTEM].strip()[:40]] = None
            if system is None or _whole(row, _SYSTEM) == system:
                yield _record(line, row)
        except BadCell as bad:
            problems.add(line, bad)
    if lines == 1:
        raise InputError([f"{path}: line 1: not LANL's failure data; only a heading is there"])
    problems.finish()


def _trace(path: Path, system: int, found: list[Record]) -> Trace:
    first = min(record.started for record in found)
    raw = [
        Outage(
            node=record.node,
            start_ms=_ms(first, record.started),
            end_ms=max(_ms(first, record.fixed), _ms(first, record.started) + _MINUTE_MS),
            cause=record.cause or "undetermined",
            detail=record.detail,
        )
        for record in found
        if record.node is not None
    ]
    outages = merge(raw)
    return Trace(
        source=f"LANL LA-UR-05-7318, system {system} ({path.name}); data provided by Los Alamos National Laboratory",
        nodes=max(max((record.node or 0) + 1, record.nodes) for record in found),
        duration_ms=max(outage.end_ms for outage in outages),
        started=first.strftime("%Y-%m-%d"),
        records=len(raw),
        merged=len(raw) - len(outages),
        outages=outages,
    )


def _record(line: int, row: list[str]) -> Record:
    if len(row) != _COLUMNS:
        raise BadCell(f"{len(row)} columns; {_COLUMNS} are expected")
    started, fixed = _date(row, _STARTED, "Prob Started"), _date(row, _FIXED, "Prob Fixed")
    if fixed < started:
        raise BadCell(f"Prob Fixed: {row[_FIXED]!r} is before Prob Started {row[_STARTED]!r}")
    node = _whole(row, _NODE) if row[_NODE].strip() else None
    if node is not None and node >= _NODES_MAX:
        raise BadCell(f"nodenumz: {node} is more than {_NODES_MAX - 1}")
    named = [(cause, row[column].strip()) for column, cause in _CAUSES if row[column].strip()]
    if len(named) > 1:
        raise BadCell(f"root cause: {', '.join(cause for cause, _ in named)}; one at most is expected")
    return Record(
        line=line,
        system=_whole(row, _SYSTEM),
        nodes=_whole(row, _NODES) if row[_NODES].strip() else 0,
        processors=_whole(row, _PROCESSORS) if row[_PROCESSORS].strip() else 0,
        node=node,
        started=started,
        fixed=fixed,
        down_min=_whole(row, _DOWN) if row[_DOWN].strip() else (fixed - started).total_seconds() / 60,
        cause=named[0][0] if named else None,
        detail=named[0][1] if named else "",
    )


def _whole(row: list[str], column: int) -> int:
    text = row[column].strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise BadCell(f"column {column + 1}: {text[:40]!r} is not a number from 0 on")
    return int(text)


def _date(row: list[str], column: int, name: str) -> datetime:
    try:
        return datetime.strptime(row[column].strip(), _FORMAT)  # noqa: DTZ007  # the records have no time zone
    except ValueError as error:
        raise BadCell(f"{name}: {row[column][:40]!r} is not a date as 6/21/2005 10:54") from error


def _ms(first: datetime, date: datetime) -> int:
    return round((date - first).total_seconds()) * 1_000
