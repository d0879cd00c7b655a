"""See ``GroupSlow``."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from core.ids import VolumeName
from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.load import PositiveMs
from formats.problems import Problems, one_of
from trial.targets import TargetKind
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class GroupSlow(Fault, frozen=True, kw_only=True):
    """One placement group takes ``delay_ms`` longer for every write: that of a volume's probe writes, or of its data.

    Source: facts/ceph.md section 5 (groups show ``+wait`` for up to 26 s while others go on; recovery sleeps 0.1 s
    between objects).
    """

    STRIKES: ClassVar[TargetKind] = "none"
    TARGET_NEEDED: ClassVar[bool] = False

    volume: str
    what: Literal["probes", "data"] = "probes"
    delay_ms: PositiveMs = 800

    def check(self, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> None:
        names = list(dict.fromkeys(str(spec.volume) for spec in catalog.specs if spec.volume))
        if self.volume not in names:
            problems.add(f"{key}.volume", self.volume, f"no such volume; allowed: {one_of(names)}", names)

    def apply(self, world: "World", strike: Strike) -> None:
        volume, payload = VolumeName(self.volume), int(self.what == "data")
        world.storage.group_slow(volume, payload, self.delay_ms)
        strike.undo(partial(world.storage.group_slow, volume, payload, 0))

    def text(self, strike: Strike) -> str:
        return f"{self.what} of {self.volume}"
