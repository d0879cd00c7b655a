"""See ``EphemeralLate``."""

from typing import TYPE_CHECKING, ClassVar

from formats.load import PositiveMs
from trial.targets import TargetKind
from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class EphemeralLate(Fault, frozen=True, kw_only=True):
    """The next ``count`` sessions that expire or are closed by order end ``delay_ms`` late, their ephemerals with them.

    Source: facts/zookeeper.md section 2 (expiry is a commit of the leader, up to 1.5 s after the median; closing
    another's session 10 to 116 ms and more; a new leader gives every session its full time again).
    """

    STRIKES: ClassVar[TargetKind] = "none"
    TARGET_NEEDED: ClassVar[bool] = False

    count: Count = 1
    delay_ms: PositiveMs = 1_500

    def apply(self, world: "World", strike: Strike) -> None:
        strike.arm(world.ensemble.sessions.quirks, "ephemeral_late", self.count, self.delay_ms)
