"""The small worlds that are explored: a few nodes, one singleton, and the protocol's timers in a few ticks each."""

import msgspec

from core.ids import ServiceName, VolumeName
from core.specs import ServiceSpec, Timing
from twin.check import faults
from twin.check.brains import RememberedBrains
from twin.check.fair import is_served, run_fairly, run_ticks
from twin.check.faults import Slots
from twin.check.options import Options, Order
from twin.check.world import World

WITH_VOLUME = ServiceSpec(
    name=ServiceName("db"), run="singleton", volume=VolumeName("vol"), address="10.0.0.1", cores=1
)
WITHOUT_VOLUME = ServiceSpec(name=ServiceName("cron"), run="singleton", address="10.0.0.2", cores=1)
TICK_MS = 100
SMALL = Timing(
    session_timeout_ms=400,
    beat_ms=100,
    probe_ms=100,
    fresh_ms=200,
    withdraw_ms=100,
    stall_ms=700,
    claim_step_ms=100,
    unfit_ms=600,
    retry_ms=100,
    retry_ms_max=100,
    commit_ms_max=200,
    fence_ms_max=300,
    block_ms=3_600_000,
    power_ms_max=200,
    suspect_ms=200,
    recover_ms=3_600_000,
    boot_ms_max=3_600_000,
    backoff_ms=3_600_000,
    backoff_ms_max=3_600_000,
    stable_ms=3_600_000,
    brake_hold_ms=1_000,
    ensemble_repair_ms=3_600_000,
)
"""The protocol's timers in a few ticks each; repairs of nodes and of the ensemble never come due."""
HORIZON_MS = 900
"""Older times are all alike: longer than any timer above that a comparison uses."""
SETTLE_STEPS_MAX = 4_000
SETTLE_TICKS = 12
"""Ticks from the first service to a world that only repeats itself."""


NODES_MIN, NODES_MAX = 2, 3
FAULTS_MAX = 3


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """Where an exploration begins: ``nodes`` nodes and one singleton, up and serving, with everything settled.

    ``faults``: for each fault that may strike, the kinds it may be of. ``order``: which orders are explored.
    """

    volume: bool
    nodes: int = 2
    faults: Slots = ()
    order: Order = "reduced"


def root_of(root: Root, **more: object) -> World:
    """Return the world where an exploration begins; ``more`` are other fields of ``twin.check.options.Options``."""
    names = tuple(f"n{number}" for number in range(1, root.nodes + 1))
    fields: dict[str, object] = {
        "names": names,
        "specs": (WITH_VOLUME if root.volume else WITHOUT_VOLUME,),
        "timing": SMALL,
        "tick_ms": TICK_MS,
        "payloads": 2 if root.volume else 0,
        "fault_targets": names,
        "order": root.order,
        **more,
    }
    world = World(Options(**fields), RememberedBrains(HORIZON_MS))  # type: ignore[arg-type]  # checked by the record itself
    for index in range(root.nodes):
        faults.boot(world, index)
    run_fairly(world, lambda: is_served(world), SETTLE_STEPS_MAX)
    run_ticks(world, SETTLE_TICKS)
    world.faults_left = root.faults
    world.share()
    return world


def any_of(kinds: tuple[str, ...], count: int) -> Slots:
    """Return what lets up to ``count`` faults of these kinds strike, in any order."""
    return (kinds,) * count


def each_of(kinds: tuple[str, ...]) -> Slots:
    """Return what lets each of these faults strike once, in any order."""
    return tuple((kind,) for kind in kinds)
