"""See ``MountReplayLong``."""

from typing import TYPE_CHECKING

from formats.load import PositiveMs
from twin.faults.base import Count, Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class MountReplayLong(Fault, frozen=True, kw_only=True):
    """The next ``count`` mounts of volumes on a node replay a long journal first: ``delay_ms``.

    Source: ext4(5) and the Linux kernel's "ext4 journal (jbd2)" (recovery at mount); facts/ceph.md section 4 (mounted
    and recovered 0.43 s after the device was there, journal nearly empty).
    """

    count: Count = 1
    delay_ms: PositiveMs = 6_000

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            strike.arm(world.power.chassis[node].quirks, "mount_replay_long", self.count, self.delay_ms)
