"""What the agent and the services of one node of a world are made from, and live in."""

from typing import TYPE_CHECKING

from core import invariants
from core.ids import BootId, NodeId
from core.journal import Opening
from trial.scenario import Fidelity
from twin.world.agents import AgentTimes, Around
from twin.world.build import pace
from twin.world.unit import Site

if TYPE_CHECKING:
    from twin.world.world import World

CHECK_EVERY: dict[Fidelity, int] = {"protocol": 1, "campaign": 1, "capacity": 64}
"""Steps of one machine between two looks at its invariants."""


def opening_of(world: "World", node: NodeId) -> Opening:
    """What a node is told of the rack: all of it, or its first server and where others may be found."""
    return Opening(
        node=world.specs[node],
        timing=world.timing,
        services=world.catalog.specs,
        inventory=world.listed,
        networks=world.census.networks if world.census is not None else (),
    )


def around(world: "World", node: NodeId) -> Around:
    """What the agent of a node lives in."""
    opening = opening_of(world, node)
    client = world.ensemble.client(node)
    client.on_change(world.look_later)
    return Around(
        opening=opening,
        kernel=world.kernel,
        clock=world.clocks[node],
        stream=world.streams.get(f"agent/{node}"),
        times=world.calibration.section("agent", AgentTimes),
        recorder=world.recorder,
        truth=world.truth,
        make=world.make,
        client=client,
        storage=world.storage.port(node, world.clocks[node].now),
        power=world.power.port(node, world.clocks[node].now),
        netboot=world.netboot.port(node),
        image=world.slots[node],
        configured=world.ensemble.configured,
        storage_seen=world.storage.reachable,
        implicit=world.fidelity != "protocol",
        check_every=CHECK_EVERY[world.fidelity],
        check=lambda machine, at_ms: invariants.check_services(machine.singletons(), node, at_ms, opening),
    )


def site_of(world: "World", node: NodeId, boot_id: BootId) -> Site:
    """What the supervisor of one boot of a node lives in."""
    return Site(
        node=node,
        boot_id=boot_id,
        kernel=world.kernel,
        clock=world.clocks[node],
        truth=world.truth,
        probes=world.storage,
        pace=pace(world.catalog, world.calibration, world.streams.get(f"services/{node}")),
        services=world.services,
        sick=world.sick,
        dirty=world.dirty,
        visible=world.visible.__getitem__,
        on_explicit=world.explicit,
        on_serving=world.clients.stir,
        quirks=world.power.chassis[node].quirks,
        implicit=world.fidelity != "protocol",
    )
