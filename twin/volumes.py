"""What the storage of a run accepted and fenced, judged as it happens: a record for each instance, none for a write."""

from typing import Literal

from core.ids import VolumeName
from core.records import Instance

Change = Literal[
    "blocked",  # entered, or kept for longer
    "complete",  # the barrier passed and the fence was confirmed
    "lifted",  # removed on order
    "expired",  # it ran out, so the instance may write again
]


class _Volume:
    """What is kept of one volume. ``fenced``: instances whose fence is confirmed and stands, and since when."""

    __slots__ = ("current", "fenced", "fenced_ms", "name", "seen")

    def __init__(self, name: VolumeName) -> None:
        self.name = name
        self.current: Instance | None = None
        self.seen: dict[Instance, None] = {}
        self.fenced: dict[Instance, int] = {}
        self.fenced_ms = -1  # since when the current instance is fenced


class Volumes:
    """Watches the writes of all volumes. Fed in order of time."""

    def __init__(self) -> None:
        self._volumes: dict[VolumeName, _Volume] = {}
        self._late = ""
        self._breach = ""
        self._breach_of: tuple[VolumeName, Instance, int] | None = None
        self.writes = 0

    def wrote(self, at_ms: int, volume: VolumeName, instance: Instance) -> bool:
        """The storage accepted a write; say whether it is the instance's first one in this volume."""
        self.writes += 1
        own = self._volumes.get(volume)
        if own is None:
            own = self._volumes[volume] = _Volume(volume)
        first = instance is not own.current and instance != own.current and self._switched(own, instance, at_ms)
        if 0 <= own.fenced_ms < at_ms and not self._breach:
            since_ms = own.fenced_ms
            self._breach = f"{volume}: a write of {instance.address} at {at_ms} ms, fenced at {since_ms} ms"
            self._breach_of = (volume, instance, at_ms)
        return first

    def blocked(self, at_ms: int, volume: VolumeName, instance: Instance, change: Change) -> None:
        """The storage's blocklist changed for an instance."""
        own = self._volumes.get(volume)
        if own is None:
            own = self._volumes[volume] = _Volume(volume)
        if change == "complete":
            own.fenced[instance] = at_ms
        elif change in ("lifted", "expired"):
            own.fenced.pop(instance, None)
            if self._breach_of == (volume, instance, at_ms):
                self._breach, self._breach_of = "", None  # the entry ended in the very millisecond of the write
        if instance == own.current:
            own.fenced_ms = own.fenced.get(instance, -1)

    def single_writer(self) -> str:
        """Say which write of an instance the storage accepted after one of a newer instance had written, or ""."""
        return self._late

    def fence_holds(self) -> str:
        """Say which write was accepted of an instance whose fence was confirmed (rule 6), or ""."""
        return self._breach

    def kept(self) -> int:
        """How many records are remembered."""
        return sum(len(own.seen) + len(own.fenced) for own in self._volumes.values())

    def _switched(self, own: _Volume, instance: Instance, at_ms: int) -> bool:
        """Another instance writes than before; say whether for the first time."""
        before, first = own.current, instance not in own.seen
        late = not first or (before is not None and instance.epoch < before.epoch)
        if late and not self._late:
            self._late = _told(own.name, at_ms, instance, before or instance)
        own.seen[instance] = None
        own.current = instance
        own.fenced_ms = own.fenced.get(instance, -1)
        return first


def _told(volume: VolumeName, at_ms: int, old: Instance, new: Instance) -> str:
    return (
        f"{volume}: at {at_ms} ms the storage accepted a write of {old.address} ({old.node}, epoch {old.epoch}) after "
        f"{new.address} ({new.node}, epoch {new.epoch}) had written"
    )
