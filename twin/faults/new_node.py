"""See ``NewNode``."""

from typing import TYPE_CHECKING

from core.ids import NodeId
from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.problems import Problems
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class NewNode(Fault, frozen=True, kw_only=True):
    """A bare server is carried in, cabled, and left switched off; the rack must find and take it up by itself.

    The target is a server that the rack file marks ``plugged = false``. ``in_place_of``: the server that is carried out
    for it; the new one gets its place on the management network.
    """

    in_place_of: str | None = None

    def check(self, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> None:
        spare = [str(server.spec.id) for server in rack.nodes if not server.plugged]
        if self.target not in spare:
            allowed = f"allowed: one that the rack file marks plugged = false: {', '.join(spare) or 'there is none'}"
            problems.add(f"{key}.target", self.target, allowed, spare)
        names = [str(node) for node in rack.node_ids]
        if self.in_place_of is not None and self.in_place_of not in names:
            problems.add(
                f"{key}.in_place_of", self.in_place_of, f"allowed: a server of the rack: {', '.join(names)}", names
            )

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            if self.in_place_of:
                world.power.node_power_off(world.called(NodeId(self.in_place_of)), standby_too=True)
            if self.in_place_of and world.census is not None:
                world.census.take_address(node, world.called(NodeId(self.in_place_of)))
            world.power.plug(node)
