"""Event traces of the Failure Trace Archive: which component of which node was up or down, and from when to when.

Source: Failure Trace Archive, FTA Format (fta.scem.westernsydney.edu.au): the table ``event_trace``; event type 0 is
unavailability, 1 availability; times are UNIX seconds; types above 1 are a data set's own.
"""

from array import array
from pathlib import Path

import msgspec
import numpy as np

from core.errors import InputError
from twin.failures.bursts import Ints
from twin.failures.distributions import Floats
from twin.failures.reading import BadCell, Problems, columns_of, number, sheet, whole

_COLUMNS = ("component_id", "node_id", "event_type", "event_start_time")
_STOPS = ("event_stop_time", "event_end_time")
"""The documentation says ``event_end_time``, the published tables ``event_stop_time``."""
_DOWN, _UP = 0, 1


class EventTrace(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """All events of a trace, in the order of node, component and start; arrays of equal length.

    ``node`` and ``component``: int64 ids of the file; ``up``: bool array; ``start_s`` and ``stop_s``: float64 UNIX
    seconds. ``other``: how many events were neither up nor down. Memory: about 40 bytes an event.
    """

    source: str
    node: Ints
    component: Ints
    up: np.ndarray[tuple[int], np.dtype[np.bool_]]
    start_s: Floats
    stop_s: Floats
    other: int

    def up_h(self) -> Floats:
        """Lengths of the times up, in hours, those of 0 left out."""
        return self._hours(self.up)

    def down_h(self) -> Floats:
        """Lengths of the times down, in hours, those of 0 left out."""
        return self._hours(~self.up)

    def _hours(self, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Floats:
        hours = (self.stop_s - self.start_s)[chosen] / 3_600.0
        return np.asarray(hours[hours > 0])


def load(path: Path) -> EventTrace:
    """Read an ``event_trace.tab``, plain, ``.gz``, ``.xz`` or the only ``.tab`` of a ``.zip``.

    Columns are found by their names in the first line, whatever their order.

    Raises: InputError with every malformed line (at most 20 are named), or if it is another table.
    """
    source = sheet(path, "\t", ".tab")
    _, heading = next(source.rows, (0, []))
    stop = next((name for name in _STOPS if name in [cell.strip().lower() for cell in heading]), _STOPS[0])
    at = columns_of(str(path), heading, (*_COLUMNS, stop))
    problems = Problems(path)
    ids, times, kinds = array("q"), array("d"), array("b")
    other = 0
    for line, cells in source.rows:
        if not "".join(cells).strip():
            continue
        try:
            kind = whole(cells, at["event_type"], "event_type")
            node, component = (whole(cells, at[name], name, 2**62) for name in ("node_id", "component_id"))
            start_s = number(cells, at["event_start_time"], "event_start_time")
            stop_s = number(cells, at[stop], stop)
            if stop_s < start_s:
                raise BadCell(f"{stop}: {stop_s:g} is before event_start_time {start_s:g}")
        except BadCell as bad:
            problems.add(line, bad)
            continue
        if kind > _UP:
            other += 1
            continue
        ids.extend((node, component))
        times.extend((start_s, stop_s))
        kinds.append(kind)
    problems.finish()
    if not kinds:
        raise InputError([f"{path}: holds no event of type 0 (down) or 1 (up)"])
    return _sorted(str(path), ids, times, kinds, other)


def _sorted(path: str, ids: "array[int]", times: "array[float]", kinds: "array[int]", other: int) -> EventTrace:
    node, component = np.asarray(ids).reshape(-1, 2).T
    start_s, stop_s = np.asarray(times).reshape(-1, 2).T
    order = np.lexsort((stop_s, start_s, component, node))
    return EventTrace(
        source=path,
        node=node[order],
        component=component[order],
        up=(np.asarray(kinds) == _UP)[order],
        start_s=start_s[order],
        stop_s=stop_s[order],
        other=other,
    )
