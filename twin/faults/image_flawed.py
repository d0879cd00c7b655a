"""See ``ImageFlawed``."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from core.ids import ImageId
from formats.load import PositiveMs
from trial.targets import TargetKind
from twin.faults.base import Fault, Strike
from twin.faults.upgrade_begins import NEW_IMAGE, ImageName
from twin.world.slots import Flaw, FlawKind

if TYPE_CHECKING:
    from twin.world.world import World


class ImageFlawed(Fault, frozen=True, kw_only=True):
    """An image is bad, on every node alike: ``flaw`` says how; ``crashes_later`` is ``after_ms`` after it came up."""

    STRIKES: ClassVar[TargetKind] = "none"

    image: ImageName = NEW_IMAGE
    flaw: FlawKind = "does_not_boot"
    after_ms: PositiveMs = 5_000

    def apply(self, world: "World", strike: Strike) -> None:
        image = ImageId(self.image)
        world.images.flaws[image] = Flaw(kind=self.flaw, after_ms=self.after_ms)
        strike.undo(partial(_mend, world, image))

    def text(self, strike: Strike) -> str:
        return f"{self.image} {self.flaw.replace('_', ' ')}"


def _mend(world: "World", image: ImageId) -> None:
    """From now on the image is good, also where it runs already; an agent that did not start does at the next boot."""
    world.images.flaws.pop(image, None)
    for slots in world.slots.values():
        if slots.running == image:
            slots.went_down()
