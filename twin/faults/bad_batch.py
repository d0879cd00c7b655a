"""See ``BadBatch``."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from core.ids import NodeId
from trial.targets import TargetKind
from twin.faults.base import Fault, Strike
from twin.world.bmc import BmcMode

if TYPE_CHECKING:
    from twin.world.world import World

Share = Annotated[float, msgspec.Meta(ge=0, le=0.5)]
ASSORTED: tuple[BmcMode, ...] = (
    "slow",
    "locked",
    "forgetful",
    "deaf_to_on",
    "lying_on",
    "no_bootdev",
    "dead",
    "lying_off",
    "contrary",
)


class BadBatch(Fault, frozen=True, kw_only=True):
    """Of the servers that are off, some have bad BMCs of all sorts, and some are dead; nothing heals that.

    ``bmcs`` and ``dead``: which shares of all servers, rounded down. Those whose BMC does not pass on what to boot from
    boot what is left on their disks.
    """

    STRIKES: ClassVar[TargetKind] = "none"

    bmcs: Share = 0.03
    dead: Share = 0.01

    def apply(self, world: "World", strike: Strike) -> None:
        stream = world.streams.get("bad-batch")
        off = [node for node in world.nodes if not world.power.chassis[node].on]
        bad = _draw(off, int(self.bmcs * len(world.nodes)), stream.integers)
        dead = _draw([node for node in off if node not in bad], int(self.dead * len(world.nodes)), stream.integers)
        for index, node in enumerate(bad):
            mode = ASSORTED[index % len(ASSORTED)]
            world.power.bmc.set_mode(node, mode)
            world.power.chassis[node].foreign = mode == "no_bootdev"
        for node in dead:
            world.power.chassis[node].broken = True


def _draw(nodes: Sequence[NodeId], count: int, integers: Callable[[int, int], int]) -> list[NodeId]:
    """So many of the nodes, each once."""
    left = list(nodes)
    return [left.pop(integers(0, len(left))) for _ in range(min(count, len(left)))]
