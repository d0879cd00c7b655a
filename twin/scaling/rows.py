"""What was measured at each size, over its seeds: one row a size, in the units of a reader."""

from collections.abc import Callable, Sequence
from statistics import fmean, median

import msgspec

from core.specs import Timing
from formats.catalog import Catalog
from formats.hardware import RackFile
from twin.scaling.delivered import (
    YEAR_S,
    Delivered,
    Share,
    beats_per_s,
    churn_yearly,
    deliver,
    step_ns,
    usable,
)
from twin.scaling.figures import figure
from twin.scaling.meter import Traffic
from twin.scaling.site import Sample
from twin.scaling.storm import Storm


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One size. Times are medians over the seeds with their smallest and largest, the rest are means.

    ``delivered``: node-equivalents (``twin.scaling.delivered``), ``shares`` what is taken off them.
    ``*_per_join``, ``*_per_loss``: of all nodes together; ``messages_per_node_day``, ``bytes_per_node_day``: at the
    stated churn, without the beats of a node at rest, which are ``beats_per_node_s``.
    ``zookeeper_requests_per_s``: pings and the requests of the churn. ``step_us``: processor time of one step of an
    agent alone on its server; ``churn_us``: of all its steps for one loss and one join anywhere in the rack.
    ``usable_bytes`` takes all disks as equally full and keeps room for the loss of a node; ``usable_placed_bytes`` does
    neither, but ends with the fullest disk as CRUSH fills them. ``cold_start``, ``usable_placed_bytes``: None if not
    measured.
    """

    nodes: int
    seeds: int
    delivered: float
    usable_bytes: int
    usable_vms: int
    join_ms: float
    join_ms_min: int
    join_ms_max: int
    order_ms: float
    failover_ms: float
    failover_ms_min: int
    failover_ms_max: int
    silent_failover_ms: float
    watch_events_per_join: float
    requests_per_join: float
    bytes_per_join: float
    watch_events_per_loss: float
    requests_per_loss: float
    bytes_per_loss: float
    watch_events_per_change: float
    messages_per_node_day: float
    bytes_per_node_day: float
    beats_per_node_s: float
    zookeeper_requests_per_s: float
    zookeeper_watches: float
    zookeeper_znodes: float
    zookeeper_snapshot_bytes: float
    step_us: float
    churn_us: float
    control_cores: float
    memory_bytes: float
    shares: tuple[Share, ...]
    cold_start: Storm | None = None
    usable_placed_bytes: int | None = None


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same at every size."""

    catalog: Catalog
    timing: Timing
    heartbeat_ms: int


def row_of(
    samples: Sequence[Sample], rack: RackFile, around: Surroundings, cold: Storm | None, lying: int | None
) -> Row:
    """Sum up the samples of one size. ``rack``: the one they were measured in."""
    nodes, yearly = samples[0].nodes, churn_yearly()
    done = [deliver(sample, rack, around.timing, around.heartbeat_ms, yearly) for sample in samples]
    beats = beats_per_s(around.timing, around.heartbeat_ms)
    churn_per_s = yearly * nodes / YEAR_S
    room = [usable(rack, around.catalog, sample) for sample in samples]

    def mean(of: Callable[[Sample], float]) -> float:
        return fmean(of(sample) for sample in samples)

    def both(of: Callable[[Traffic], float]) -> float:
        return mean(lambda s: of(s.join) + of(s.loss))

    requests, joins, losses = both(lambda t: t.requests), [s.join_ms for s in samples], [s.failover_ms for s in samples]
    churn_us = mean(lambda s: (step_ns(s, s.join) + step_ns(s, s.loss)) / 1000)
    return Row(
        nodes=nodes,
        seeds=len(samples),
        delivered=fmean(one.node_equivalents for one in done),
        usable_bytes=min(one.usable_bytes for one in room),
        usable_vms=min(one.usable_vms for one in room),
        join_ms=median(joins),
        join_ms_min=min(joins),
        join_ms_max=max(joins),
        order_ms=median(s.order_ms for s in samples),
        failover_ms=median(losses),
        failover_ms_min=min(losses),
        failover_ms_max=max(losses),
        silent_failover_ms=median(s.silent_failover_ms for s in samples),
        watch_events_per_join=mean(lambda s: s.join.watch_events),
        requests_per_join=mean(lambda s: s.join.requests),
        bytes_per_join=mean(lambda s: s.join.bytes),
        watch_events_per_loss=mean(lambda s: s.loss.watch_events),
        requests_per_loss=mean(lambda s: s.loss.requests),
        bytes_per_loss=mean(lambda s: s.loss.bytes),
        watch_events_per_change=both(lambda t: t.watch_events) / max(1.0, both(lambda t: t.changes)),
        messages_per_node_day=churn_per_s * 86_400 * both(lambda t: t.messages) / nodes,
        bytes_per_node_day=churn_per_s * 86_400 * both(lambda t: t.bytes) / nodes,
        beats_per_node_s=beats,
        zookeeper_requests_per_s=nodes * 3000 / around.timing.session_timeout_ms + churn_per_s * requests,
        zookeeper_watches=mean(lambda s: s.watches),
        zookeeper_znodes=mean(lambda s: s.znodes),
        zookeeper_snapshot_bytes=mean(lambda s: s.snapshot_bytes),
        step_us=mean(lambda s: _step_us(s)),
        churn_us=churn_us,
        control_cores=figure("idle_cores") + churn_per_s * churn_us / 1e6,
        memory_bytes=mean(lambda s: s.memory_bytes),
        shares=_mean_shares(done),
        cold_start=cold,
        usable_placed_bytes=lying,
    )


def _step_us(sample: Sample) -> float:
    steps = sample.join.probe_steps + sample.loss.probe_steps
    return (sample.join.probe_ns + sample.loss.probe_ns) / 1000 / max(1, steps)


def _mean_shares(done: Sequence[Delivered]) -> tuple[Share, ...]:
    return tuple(
        msgspec.structs.replace(first, ratio=fmean(one.shares[at].ratio for one in done))
        for at, first in enumerate(done[0].shares)
    )
