"""Machines that nobody has listed: what a world does as they are found, named, and let in or kept out."""

from typing import TYPE_CHECKING

import msgspec

from core.events import AnyEvent
from core.ids import NodeId
from core.records import AnyRecord
from twin.truth import NodeChange

if TYPE_CHECKING:
    from twin.world.world import World


def watch(world: "World") -> None:
    """Let the boot servers tell their agents and the truth, and take up what the core makes of machines."""
    gates, census = world.netboot.gates, world.census

    def tell(server: NodeId, event: AnyEvent) -> None:
        host = world.agents[server].host if server in world.agents else None
        if host is not None:
            host.emit(event)

    gates.tell = tell
    gates.mark = world.truth.joins.append
    if census is None:
        return

    def changed(record: AnyRecord | None) -> None:
        gates.retire(census.learn(record))

    world.truth.founders = tuple(spec.id for spec in world.listed)
    world.truth.machines.update({spec.id: str(spec.id) for spec in world.listed})
    world.ensemble.on_machine(changed)
    world.power.bmc.book = census
    for node in world.nodes:
        world.netboot.identify(node, census.server(node).id, census.identities[node])


def take_in(world: "World", place: NodeId, node: NodeId) -> None:
    """A machine was found and named: from now on it is that node."""
    assert world.census is not None
    server, number = world.census.server(node), int(node.removeprefix("n"))
    world.specs[node] = msgspec.structs.replace(server.spec, id=node, number=number)
    del world.specs[place]
    world.domains[node] = server.spec.power_domain
    world.fabric.rename(place, node)
    world.power.rename(place, node)
    world.clocks[node] = world.clocks.pop(place)
    world.visible[node] = world.visible.pop(place)
    world.state[node] = state = world.state.pop(place, "off")
    world.truth.machines[node] = str(server.id)
    if state != "off":
        world.truth.nodes.append(NodeChange(at_ms=world.kernel.now, node=node, axis="power", state=state))
    world.add_agent(node)
