"""See ``Partition``."""

from functools import partial
from typing import TYPE_CHECKING, Literal

from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.problems import Problems, one_of
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World

NETWORKS_OF: dict[str, tuple[Literal["data", "management"], ...]] = {
    "data": ("data",),
    "management": ("management",),
    "both": ("data", "management"),
}


class Partition(Fault, frozen=True, kw_only=True):
    """The target and the other nodes no longer hear each other; the storage stays reachable for both.

    ``direction``: "both", or one way only: "out" (the target is not heard) or "in" (the target does not hear).
    ``network``: "data", "management" (then no BMC of the other side is reached), or "both".
    ``away_from``: cut the target off from these nodes only (a partial partition); the default is all others.
    """

    direction: Literal["both", "out", "in"] = "both"
    away_from: tuple[str, ...] = ()
    network: Literal["data", "management", "both"] = "data"

    def check(self, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> None:
        names = [str(node) for node in rack.node_ids]
        for index, name in enumerate(self.away_from):
            if name not in names:
                problems.add(f"{key}.away_from[{index}]", name, f"no such node; allowed: {one_of(names)}", names)

    def apply(self, world: "World", strike: Strike) -> None:
        inside = strike.nodes
        outside = tuple(n for n in world.nodes if n not in inside and (not self.away_from or n in self.away_from))
        for network in NETWORKS_OF[self.network]:
            if self.direction != "in":
                world.fabric.cut(inside, outside, network)
                strike.undo(partial(world.fabric.mend, inside, outside, network))
            if self.direction != "out":
                world.fabric.cut(outside, inside, network)
                strike.undo(partial(world.fabric.mend, outside, inside, network))

    def text(self, strike: Strike) -> str:
        words = {"both": "", "out": " (not heard)", "in": " (does not hear)"}[self.direction]
        return f"{', '.join(strike.nodes)} | {', '.join(self.away_from) or 'the others'}{words}"
