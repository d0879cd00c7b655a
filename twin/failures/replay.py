"""Outages of a scenario: recorded ones if there is a file, else generated from the fits."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from core.errors import InputError
from core.ids import NodeId
from trial.scenario import TraceTable
from twin.failures.fits import FITS
from twin.failures.generate import HOUR_MS, generate
from twin.failures.lanl import load
from twin.failures.outage import Cause, FaultKind, Trace
from twin.streams import Streams

FIT = "lanl05"
"""The fit that stands for a recording: it was made from the same release of LANL."""

YEAR_HOURS = 8_766

LEAD_IN_MS = 600_000
"""A trace begins with an outage; the rack gets this long to settle first, so all its times are later by that."""


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """An outage of a node of the rack. ``fault`` is the fault kind that shows it to the core (``outage.FAULT_OF``).

    Until ``end_ms`` the machine is really broken: however often it is powered on, it does not come up.
    """

    node: NodeId
    start_ms: int
    end_ms: int
    cause: Cause
    detail: str
    fault: FaultKind


def trace_of(table: TraceTable, path: Path | None, streams: Streams) -> Trace:
    """Read the recorded system of a ``[trace]`` table from ``path``, or generate a trace of its nodes and years.

    Raises: InputError for a broken file or a system that is not in it.
    """
    if path is not None:
        return load(path, table.system)
    return generate(FITS[FIT], table.nodes, round(table.years * YEAR_HOURS * HOUR_MS), streams)


def outages_for(
    table: TraceTable,
    path: Path | None,
    nodes: Sequence[NodeId],
    streams: Streams,
    duration_ms: int | None = None,
) -> list[Replay]:
    """List the outages of a rack by start, then node; node i of the trace is ``nodes[i]``.

    Times are ``LEAD_IN_MS`` later than in the trace. Outages of one node never overlap. With ``duration_ms`` later ones
    are left out, and one that lasts longer is cut.

    Raises: InputError for a broken file, or a rack smaller than the system.
    """
    trace = trace_of(table, path, streams)
    if trace.nodes > len(nodes):
        wanted = f"system {table.system} has {trace.nodes} nodes, the rack only {len(nodes)}"
        raise InputError([f"{path or 'trace.nodes'}: {wanted}; needed: a rack of that size"])
    end_ms = trace.duration_ms + LEAD_IN_MS if duration_ms is None else duration_ms
    return [
        Replay(
            node=nodes[outage.node],
            start_ms=outage.start_ms + LEAD_IN_MS,
            end_ms=min(outage.end_ms + LEAD_IN_MS, end_ms),
            cause=outage.cause,
            detail=outage.detail,
            fault=outage.fault,
        )
        for outage in trace.outages
        if outage.start_ms + LEAD_IN_MS < end_ms
    ]
