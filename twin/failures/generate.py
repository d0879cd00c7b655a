"""Outages drawn from a published fit: each node is a renewal process of its own."""

import math

from twin.failures.fits import CAUSE_WEIGHTS, Fit
from twin.failures.outage import Cause, Outage, Trace
from twin.streams import Stream, Streams

HOUR_MS = 3_600_000
_MINUTE_MS = 60_000
_CAUSE_TOTAL = sum(weight for _, weight in CAUSE_WEIGHTS)


def generate(fit: Fit, nodes: int, duration_ms: int, streams: Streams) -> Trace:
    """Draw the outages of ``nodes`` machines within ``duration_ms``, all of them new at 0.

    Node i draws from its own streams ``outages.up.i``, ``outages.down.i`` and ``outages.cause.i``, so another node
    more changes none of the others. Nodes fail independently: bursts over several nodes come only with a recording.
    Cost: O(outages).
    """
    outages = [outage for node in range(nodes) for outage in _of_node(fit, node, duration_ms, streams)]
    outages.sort(key=lambda outage: (outage.start_ms, outage.node))
    return Trace(
        source=fit.source,
        nodes=nodes,
        duration_ms=duration_ms,
        started="",
        records=len(outages),
        merged=0,
        outages=tuple(outages),
    )


def _of_node(fit: Fit, node: int, duration_ms: int, streams: Streams) -> list[Outage]:
    up, down, causes = (streams.get(f"outages.{what}.{node}") for what in ("up", "down", "cause"))
    found: list[Outage] = []
    at_ms = draw_up_ms(fit, up)
    while at_ms < duration_ms:
        end_ms = at_ms + draw_down_ms(fit, down)
        found.append(Outage(node=node, start_ms=at_ms, end_ms=end_ms, cause=_draw_cause(causes)))
        at_ms = end_ms + draw_up_ms(fit, up)
    return found


def draw_up_ms(fit: Fit, stream: Stream) -> int:
    """Draw one time to failure, at least a minute (the resolution of the recordings)."""
    return max(_MINUTE_MS, round(stream.weibull(fit.up_scale, fit.up_shape) * HOUR_MS))


def draw_down_ms(fit: Fit, stream: Stream) -> int:
    """Draw one time to repair, at least a minute."""
    return max(_MINUTE_MS, round(stream.lognormal(math.exp(fit.down_mu), fit.down_sigma) * HOUR_MS))


def _draw_cause(stream: Stream) -> Cause:
    drawn = stream.uniform() * _CAUSE_TOTAL
    for cause, weight in CAUSE_WEIGHTS:
        drawn -= weight
        if drawn < 0:
            return cause
    return CAUSE_WEIGHTS[-1][0]
