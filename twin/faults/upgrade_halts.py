"""See ``UpgradeHalts``."""

from typing import TYPE_CHECKING, ClassVar

from trial.targets import TargetKind
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class UpgradeHalts(Fault, frozen=True, kw_only=True):
    """The operator halts the upgrade; healing does not resume it."""

    STRIKES: ClassVar[TargetKind] = "none"

    def apply(self, world: "World", strike: Strike) -> None:
        world.operator.halt_upgrade()

    def text(self, strike: Strike) -> str:
        return "by the operator"
