"""The volumes of this node as its supervisor's loop sees them: each order in a thread, each answer back in the loop."""

from collections.abc import Callable
from typing import Literal, TypeVar

from core.ids import Epoch, VolumeName
from drivers.loop import Crew, Loop
from drivers.units import Mounted
from drivers.volumes import Trouble, Volumes
from drivers.wire import Attach, Attached, Detach, Detached

T = TypeVar("T")

THREADS_MAX = 16
NONE = "this node has no [ceph] in its node file, so no volumes"


class Disks:
    """``drivers.units.Disks`` over ``drivers.volumes``; ``volumes`` None: a node without storage.

    Each order is for one epoch: what was attached for another is not touched.
    """

    def __init__(self, loop: Loop, volumes: Volumes | None) -> None:
        self._volumes = volumes
        self._loop = loop
        self._crew = Crew(loop, "volumes", THREADS_MAX)

    def attach(self, order: Attach, then: Callable[[Attached], None]) -> None:
        """Open a volume without writing to it."""
        volumes = self._volumes

        def attach() -> Attached:
            if volumes is None:
                return Attached(op=order.op, error=NONE)
            done = volumes.attach(order.volume, order.service, order.epoch, order.ms_max)
            return Attached(op=order.op, error=done.detail if isinstance(done, Trouble) else "")

        self._do(attach, then, lambda problem: Attached(op=order.op, error=problem))

    def detach(self, order: Detach, then: Callable[[Detached], None]) -> None:
        """Flush and close what was attached for the order's epoch."""
        volumes = self._volumes

        def detach() -> Detached:
            if volumes is None:
                return Detached(op=order.op, error=NONE)
            return Detached(op=order.op, error=volumes.detach(order.volume, order.epoch, order.ms_max))

        self._do(detach, then, lambda problem: Detached(op=order.op, error=problem))

    def mount(self, volume: VolumeName, epoch: Epoch, ms_max: int, then: Callable[[Mounted], None]) -> None:
        """Mount it, with a file system made or its journal recovered as needed."""
        volumes = self._volumes

        def mount() -> Mounted:
            if volumes is None or not self._is(volume, epoch):
                return Mounted(problem=f"{volume} is not attached for epoch {epoch}")
            done = volumes.mount(volume, ms_max)
            return Mounted(problem=done.detail) if isinstance(done, Trouble) else Mounted(path=str(done))

        self._do(mount, then, lambda problem: Mounted(problem=problem))

    def unmount(self, volume: VolumeName, epoch: Epoch, ms_max: int, then: Callable[[str], None]) -> None:
        """Unmount it; "" if that went well."""
        volumes = self._volumes

        def unmount() -> str:
            if volumes is None or not self._is(volume, epoch):
                return f"{volume} is not attached for epoch {epoch}"
            return volumes.unmount(volume, ms_max)

        self._do(unmount, then, lambda problem: problem)

    def discard(self, volume: VolumeName, epoch: Epoch) -> None:
        """Take the volume away at once, whatever it had not written."""
        volumes = self._volumes
        if volumes is not None and self._is(volume, epoch):
            self._do(lambda: volumes.kill(volume), lambda _: None, lambda _: None)

    def probe(self, volume: VolumeName, epoch: Epoch, ms_max: int) -> Literal["ok", "refused", "unanswered"]:
        """Write through the volume's own client instance; blocks: not to be called in the loop."""
        if self._volumes is None:
            return "unanswered"
        how = self._volumes.probe(volume, epoch, ms_max)
        return "unanswered" if how == "failed" else how

    def _is(self, volume: VolumeName, epoch: Epoch) -> bool:
        found = self._volumes.attached(volume) if self._volumes is not None else None
        return found is not None and found.epoch == epoch

    def _do(self, work: Callable[[], T], then: Callable[[T], None], failed: Callable[[str], T]) -> None:
        if not self._crew.do(work, then):
            self._loop.after(0, lambda: then(failed("too many calls to the storage are waiting")))
