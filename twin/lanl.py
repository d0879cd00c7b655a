"""Failure records in the public format of Los Alamos National Laboratory's release LA-UR-05-7318.

The data are Los Alamos's, who ask to be named as their source; the project ships none of them.
"""

import csv
import io
import lzma
from datetime import datetime
from pathlib import Path

from core.errors import InputError
from twin.failures.outage import Cause, Outage, Trace, merge

_COLUMNS = 26
_SYSTEM, _NODES, _NODE, _STARTED, _FIXED = 0, 2, 6, 16, 17
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
_PROBLEMS_MAX = 20


class _Bad(Exception):
    """One cell that does not hold what it should."""


def load(path: Path, system: int = 2) -> Trace:
    """Read the outages of one system from a CSV file, also compressed (``.xz``).

    Time 0 is the system's first record; all nodes exist from then on (their production dates lie before or are
    missing). Times have a resolution of a minute, so an outage of no length lasted a minute. Records of one node that
    overlap are merged (``outage.merge``). A record without a root cause counts as undetermined.

    Raises: InputError with every malformed line (at most 20 are named), or if the system is not in the file.
    """
    rows = _rows(path)
    if len(rows) < 2 or len(rows[0]) != _COLUMNS or rows[0][_SYSTEM].strip() != "System":
        raise InputError([f"{path}: line 1: not LANL's failure data; {_COLUMNS} columns from 'System' on are expected"])
    problems: list[str] = []
    records: list[tuple[datetime, datetime, int, Cause, str]] = []
    nodes = 0
    for number, row in enumerate(rows[1:], start=2):
        try:
            if not row or _whole(row, _SYSTEM) != system:
                continue
            started, fixed, node, cause, detail = _record(row)
            nodes = max(nodes, node + 1, _whole(row, _NODES) if row[_NODES].strip() else 0)
        except _Bad as bad:
            problems.append(f"{path}: line {number}: {bad}")
            continue
        records.append((started, fixed, node, cause, detail))
    if problems:
        rest = [f"{path}: {len(problems) - _PROBLEMS_MAX} more"] if len(problems) > _PROBLEMS_MAX else []
        raise InputError(problems[:_PROBLEMS_MAX] + rest)
    if not records:
        raise InputError([f"{path}: trace.system: {system}: no record of it; systems there: {_systems(rows)}"])
    return _trace(path, system, nodes, records)


def _trace(path: Path, system: int, nodes: int, records: list[tuple[datetime, datetime, int, Cause, str]]) -> Trace:
    first = min(record[0] for record in records)
    raw = [
        Outage(
            node=node,
            start_ms=_ms(first, started),
            end_ms=max(_ms(first, fixed), _ms(first, started) + _MINUTE_MS),
            cause=cause,
            detail=detail,
        )
        for started, fixed, node, cause, detail in records
    ]
    outages = merge(raw)
    return Trace(
        source=f"LANL LA-UR-05-7318, system {system} ({path.name}); data provided by Los Alamos National Laboratory",
        nodes=nodes,
        duration_ms=max(outage.end_ms for outage in outages),
        started=first.strftime("%Y-%m-%d"),
        records=len(raw),
        merged=len(raw) - len(outages),
        outages=outages,
    )


def _rows(path: Path) -> list[list[str]]:
    try:
        raw = path.read_bytes()
        text = (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8")
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except OSError as error:
        raise InputError([f"{path}: cannot be read: {error.strerror}"]) from error
    except lzma.LZMAError as error:
        raise InputError([f"{path}: is not a whole .xz file: {error}"]) from error
    except UnicodeDecodeError as error:
        raise InputError([f"{path}: is not text: byte {error.start} is not UTF-8"]) from error
    except csv.Error as error:
        raise InputError([f"{path}: is not CSV: {error}"]) from error


def _record(row: list[str]) -> tuple[datetime, datetime, int, Cause, str]:
    if len(row) != _COLUMNS:
        raise _Bad(f"{len(row)} columns; {_COLUMNS} are expected")
    started, fixed = _date(row, _STARTED, "Prob Started"), _date(row, _FIXED, "Prob Fixed")
    if fixed < started:
        raise _Bad(f"Prob Fixed: {row[_FIXED]!r} is before Prob Started {row[_STARTED]!r}")
    node = _whole(row, _NODE)
    if node >= _NODES_MAX:
        raise _Bad(f"nodenumz: {node} is more than {_NODES_MAX - 1}")
    named = [(cause, row[column].strip()) for column, cause in _CAUSES if row[column].strip()]
    if len(named) > 1:
        raise _Bad(f"root cause: {', '.join(cause for cause, _ in named)}; one at most is expected")
    cause, detail = named[0] if named else ("undetermined", "")
    return started, fixed, node, cause, detail


def _whole(row: list[str], column: int) -> int:
    text = row[column].strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise _Bad(f"column {column + 1}: {text[:40]!r} is not a number from 0 on")
    return int(text)


def _date(row: list[str], column: int, name: str) -> datetime:
    try:
        return datetime.strptime(row[column].strip(), _FORMAT)  # noqa: DTZ007  # the records have no time zone
    except ValueError as error:
        raise _Bad(f"{name}: {row[column][:40]!r} is not a date as 6/21/2005 10:54") from error


def _ms(first: datetime, date: datetime) -> int:
    return round((date - first).total_seconds()) * 1_000


def _systems(rows: list[list[str]]) -> str:
    found = {row[_SYSTEM].strip() for row in rows[1:] if row}
    return ", ".join(sorted(found, key=lambda name: (len(name), name)))[:200] or "none"
