"""See ``UpgradeResumes``."""

from typing import TYPE_CHECKING, ClassVar

from trial.targets import TargetKind
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class UpgradeResumes(Fault, frozen=True, kw_only=True):
    """The operator resumes an upgrade that halted."""

    STRIKES: ClassVar[TargetKind] = "none"

    def apply(self, world: "World", strike: Strike) -> None:
        world.operator.resume_upgrade()

    def text(self, strike: Strike) -> str:
        return "by the operator"
