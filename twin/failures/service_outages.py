"""Outages of whole services as users reported them, in the format of OpenDC's failure traces.

Source: OpenDC (AtLarge Research), failure traces: each line says how long after the start of the one before an outage
starts, how long it lasts, and which share of the hosts it takes; times in milliseconds.
"""

from array import array
from pathlib import Path

import msgspec
import numpy as np

from core.errors import InputError
from twin.failures.bursts import Ints
from twin.failures.distributions import Floats
from twin.failures.reading import BadCell, Problems, columns_of, number, sheet, whole

_COLUMNS = ("failure_interval", "failure_duration", "failure_intensity")
_LONGEST_MS = 10**14


class ServiceOutages(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Outages by start: int64 milliseconds from the beginning of the trace, and the share that is out, in (0, 1]."""

    source: str
    start_ms: Ints
    end_ms: Ints
    intensity: Floats


def load(path: Path) -> ServiceOutages:
    """Read a trace, plain, ``.gz``, ``.xz`` or the only ``.csv`` of a ``.zip``.

    Raises: InputError with every malformed line (at most 20 are named), or if it is another table.
    """
    source = sheet(path)
    _, heading = next(source.rows, (0, []))
    at = columns_of(str(path), heading, _COLUMNS)
    problems = Problems(path)
    starts, lengths, shares = array("q"), array("q"), array("d")
    now_ms = 0
    for line, cells in source.rows:
        if not cells:
            continue
        try:
            interval_ms = whole(cells, at["failure_interval"], "failure_interval", _LONGEST_MS)
            length_ms = whole(cells, at["failure_duration"], "failure_duration", _LONGEST_MS)
            share = number(cells, at["failure_intensity"], "failure_intensity")
            if not 0 < share <= 1:
                raise BadCell(f"failure_intensity: {share:g} is not above 0 and at most 1")
            if now_ms + interval_ms + length_ms > _LONGEST_MS * 10:
                raise BadCell(f"failure_interval: the trace is longer than {_LONGEST_MS * 10} ms")
        except BadCell as bad:
            problems.add(line, bad)
            continue
        now_ms += interval_ms
        starts.append(now_ms)
        lengths.append(length_ms)
        shares.append(share)
    problems.finish()
    if not starts:
        raise InputError([f"{path}: holds no outage"])
    start_ms = np.asarray(starts)
    return ServiceOutages(
        source=str(path), start_ms=start_ms, end_ms=start_ms + np.asarray(lengths), intensity=np.asarray(shares)
    )
