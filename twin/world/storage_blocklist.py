"""The blocklist: all that keeps a client instance from writing. It reaches the groups one by one, and it expires.

The monitors' decision is not the fence: a daemon that has not the new map yet goes on taking writes (seen up to 93 ms
after the monitors' answer), and one that hangs takes what had been queued when it wakes. Source: facts/ceph.md 3.
"""

from collections.abc import Callable
from typing import Literal

from core.ids import VolumeName
from core.records import Instance
from twin.kernel import Handle, Kernel
from twin.streams import Stream
from twin.world.storage_map import Group, StorageMap
from twin.world.storage_times import StorageTimes

BlockChange = Literal["blocked", "complete", "lifted", "expired"]
NEVER = 1 << 62


class Block:
    """One entry. ``effective[g]`` is when group ``g`` has it (``NEVER``: not before it takes operations again)."""

    __slots__ = ("effective", "expiry", "instance", "until_ms", "volume")

    def __init__(self, volume: VolumeName, instance: Instance, until_ms: int, effective: list[int]) -> None:
        self.volume = volume
        self.instance = instance
        self.until_ms = until_ms
        self.effective = effective
        self.expiry: Handle | None = None


class Blocklist:
    """All entries by the storage address of the instance. ``tell(volume, instance, change)`` hears every change."""

    def __init__(
        self,
        kernel: Kernel,
        stream: Stream,
        times: StorageTimes,
        osds: StorageMap,
        tell: Callable[[VolumeName, Instance, BlockChange], None],
    ) -> None:
        self._kernel, self._stream, self._times = kernel, stream, times
        self._map = osds
        self._tell = tell
        self._blocks: dict[str, Block] = {}

    def add(self, volume: VolumeName, instance: Instance, block_ms: int, stalled: bool) -> Block:
        """Enter an instance for at least ``block_ms`` from now; an entry that is there is kept longer instead."""
        now = self._kernel.now
        block = self._blocks.get(instance.address)
        if block is None:
            block = Block(volume, instance, now + block_ms, self._spread(now, stalled))
            self._blocks[instance.address] = block
        block.until_ms = max(block.until_ms, now + block_ms)
        if block.expiry is not None:
            block.expiry.cancel()
        block.expiry = self._kernel.at(block.until_ms, self._expire, block)
        self._tell(volume, instance, "blocked")
        return block

    def lift(self, instance: Instance) -> None:
        """Forget an instance; if its client still runs, it may write again."""
        block = self._blocks.pop(instance.address, None)
        if block is not None:
            if block.expiry is not None:
                block.expiry.cancel()
            self._tell(block.volume, instance, "lifted")

    def has(self, instance: Instance) -> bool:
        """Whether the monitors have an entry for this instance."""
        return instance.address in self._blocks

    def blocks(self, instance: Instance, group: Group) -> bool:
        """Whether this group refuses this instance now."""
        block = self._blocks.get(instance.address)
        return block is not None and block.effective[group.index] <= self._kernel.now

    def group_active(self, group: Group) -> None:
        """Let a group that takes operations again learn the entries that it does not know, a little later."""
        for block in self._blocks.values():
            if block.effective[group.index] == NEVER:
                block.effective[group.index] = self._kernel.now + self._stream.integers(1, 40)

    def group_inactive(self, group: Group) -> None:
        """A group that stops before an entry reached it knows nothing of the entry when it wakes."""
        for block in self._blocks.values():
            if block.effective[group.index] > self._kernel.now:
                block.effective[group.index] = NEVER

    def _spread(self, now: int, stalled: bool) -> list[int]:
        last = self._times.spread_ms.draw(self._stream)
        by_daemon: dict[tuple[str, int], int] = {}
        effective = []
        for group in self._map.groups:
            if stalled or not group.active:
                effective.append(NEVER)
                continue
            first = next(osd for osd in group.copies if osd.up)
            key = (first.node.id, first.disk)
            if key not in by_daemon:
                late = first.node.quirks.look("map_late") if first.node.quirks.armed else None
                by_daemon[key] = self._stream.integers(0, last + 1) if late is None else late.ms
            effective.append(now + by_daemon[key])
        for node in self._map.nodes.values():
            if node.quirks.armed:
                node.quirks.take("map_late")
        return effective

    def _expire(self, block: Block) -> None:
        if self._blocks.pop(block.instance.address, None) is not None:
            self._tell(block.volume, block.instance, "expired")
