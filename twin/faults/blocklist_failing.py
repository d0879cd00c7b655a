"""See ``BlocklistFailing``."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from trial.targets import TargetKind
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class BlocklistFailing(Fault, frozen=True, kw_only=True):
    """The storage fences nobody: blocklist commands fail."""

    STRIKES: ClassVar[TargetKind] = "none"

    def apply(self, world: "World", strike: Strike) -> None:
        world.storage.fence_failing(True)
        strike.undo(partial(world.storage.fence_failing, False))

    def text(self, strike: Strike) -> str:
        return "the whole storage"
