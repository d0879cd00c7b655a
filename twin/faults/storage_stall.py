"""See ``StorageStall``."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from trial.targets import TargetKind
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class StorageStall(Fault, frozen=True, kw_only=True):
    """The whole storage stops answering (full, or without enough replicas) and goes on where it was."""

    STRIKES: ClassVar[TargetKind] = "none"

    def apply(self, world: "World", strike: Strike) -> None:
        world.storage.stall(True)
        strike.undo(partial(world.storage.stall, False))

    def text(self, strike: Strike) -> str:
        return "the whole storage"
