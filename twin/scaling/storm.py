"""Cold-start storms: every node of a rack dark but the first, until all have joined and everything runs."""

import msgspec

from core.errors import InputError
from twin.converge import has_converged, waiting
from twin.scaling.meter import Clock, Meter
from twin.scaling.site import Plan, grown
from twin.world.clients import ClientLoad
from twin.world.world import World

STORM_MS_MAX = 6 * 3_600_000
SLICE_MS = 5_000


class Storm(msgspec.Struct, frozen=True, kw_only=True):
    """One cold start: simulated time until the last node was a member, and what it took all machines together.

    ``cpu_ms``: processor time of the simulation (0 without a clock). News of joining nodes are told in bundles of up
    to a second (capacity fidelity), but each change in a bundle counts as a watch event.
    """

    nodes: int
    seed: int
    joined_ms: int
    watch_events: int
    requests: int
    bytes: int
    steps: int
    cpu_ms: float


def storm(nodes: int, seed: int, plan: Plan, clock: Clock | None = None) -> Storm:
    """Let one server boot and find all others switched off.

    Raises: InputError if not all of them join within six simulated hours.
    """
    meter = Meter((), None, plan.make)
    world = World(
        grown(nodes, 0, plan),
        plan.catalog,
        seed=seed,
        fidelity="capacity",
        start="first",
        clients=ClientLoad(every_ms=0),
        make=meter.make,
    )
    begun = clock() if clock is not None else 0
    world.start()
    while not has_converged(world):
        if world.kernel.now >= STORM_MS_MAX:
            raise InputError([f"a cold start of {nodes} nodes did not end: {'; '.join(waiting(world)[:3])}"])
        world.run_until(world.kernel.now + SLICE_MS)
    taken = clock() - begun if clock is not None else 0
    joined = [note.at_ms for note in world.truth.notes if note.kind == "joined"]
    traffic = meter.take()
    return Storm(
        nodes=nodes,
        seed=seed,
        joined_ms=max(joined),
        watch_events=traffic.watch_events,
        requests=traffic.requests,
        bytes=traffic.bytes,
        steps=traffic.steps,
        cpu_ms=taken / 1e6,
    )
