"""See ``UpgradeBegins``."""

from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from core.ids import ImageId
from trial.targets import TargetKind
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World

ImageName = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
"""An image: 16 hex digits."""
NEW_IMAGE = "2000000000000002"


class UpgradeBegins(Fault, frozen=True, kw_only=True):
    """The operator has all nodes upgraded to ``image``, ``parallel`` of one power domain at once."""

    STRIKES: ClassVar[TargetKind] = "none"

    image: ImageName = NEW_IMAGE
    parallel: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1

    def apply(self, world: "World", strike: Strike) -> None:
        world.operator.upgrade(ImageId(self.image), world.first_image, self.parallel)

    def text(self, strike: Strike) -> str:
        return f"to {self.image}"
