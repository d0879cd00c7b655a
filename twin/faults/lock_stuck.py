"""See ``LockStuck``."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from core.ids import VolumeName
from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.problems import Problems, one_of
from trial.targets import TargetKind
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class LockStuck(Fault, frozen=True, kw_only=True):
    """The exclusive lock of a volume is not given back by its last owner: opening it is refused.

    ``volume`` is the volume's name in the catalog.
    """

    STRIKES: ClassVar[TargetKind] = "none"

    volume: str

    def check(self, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> None:
        volumes = [str(spec.volume) for spec in catalog.specs if spec.volume]
        if self.volume not in volumes:
            problems.add(f"{key}.volume", self.volume, f"no such volume; allowed: {one_of(volumes)}", volumes)

    def apply(self, world: "World", strike: Strike) -> None:
        volume = VolumeName(self.volume)
        world.storage.lock_stuck(volume, True)
        strike.undo(partial(world.storage.lock_stuck, volume, False))

    def text(self, strike: Strike) -> str:
        return self.volume
