"""See ``HeartbeatsLost``."""

from functools import partial
from typing import TYPE_CHECKING

from core.ids import NodeId
from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.problems import Problems, one_of
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class HeartbeatsLost(Fault, frozen=True, kw_only=True):
    """A node does not get the heartbeats of another (``of``; of everybody if empty); all other traffic passes.

    Datagrams are lost in bursts. Late, doubled and reordered ones change nothing: they are counted (``drivers.peers``).
    Source: RFC 7680 and RFC 3357 (loss on real paths comes in bursts); RFC 8085 section 3 (UDP may lose, repeat,
    reorder).
    """

    of: str = ""

    def check(self, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> None:
        names = [str(node) for node in rack.node_ids]
        if self.of and self.of not in names:
            problems.add(f"{key}.of", self.of, f"no such node; allowed: {one_of(names)}", names)

    def apply(self, world: "World", strike: Strike) -> None:
        peers = (NodeId(self.of),) if self.of else world.nodes
        for node in strike.nodes:
            for peer in peers:
                world.peers.lose(node, peer, 1)
                strike.undo(partial(world.peers.lose, node, peer, -1))

    def text(self, strike: Strike) -> str:
        return f"{', '.join(strike.nodes)} without those of {self.of or 'everybody'}"
