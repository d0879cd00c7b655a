"""See ``NewNode``."""

from typing import TYPE_CHECKING

from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.problems import Problems
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class NewNode(Fault, frozen=True, kw_only=True):
    """A bare server is carried in, cabled, and left switched off; the rack must find and take it up by itself.

    The target is a server that the rack file marks ``plugged = false``.
    """

    def check(self, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> None:
        spare = [str(server.spec.id) for server in rack.nodes if not server.plugged]
        if self.target not in spare:
            allowed = f"allowed: one that the rack file marks plugged = false: {', '.join(spare) or 'there is none'}"
            problems.add(f"{key}.target", self.target, allowed, spare)

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.power.plug(node)
