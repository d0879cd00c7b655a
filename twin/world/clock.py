"""The clock of one node: what its monotonic clock shows at a given moment of the kernel's time."""

from collections.abc import Callable

from twin.kernel import Kernel

MILLION = 1_000_000


class Clock:
    """A monotonic clock that may drift and may jump forward; integers only.

    ``local(at_ms)`` must be asked for moments at or after the last change. ``before_change`` listeners settle what they
    have to say by the old clock, ``on_change`` listeners re-arm what they scheduled by this clock.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._base_ms = 0
        self._local_ms = 0
        self._ppm = 0
        self._before: list[Callable[[], None]] = []
        self._listeners: list[Callable[[], None]] = []

    @property
    def drift_ppm(self) -> int:
        return self._ppm

    def local(self, at_ms: int) -> int:
        """What the clock shows at ``at_ms`` of the kernel's time."""
        passed = at_ms - self._base_ms
        if self._ppm:
            passed += passed * self._ppm // MILLION
        return self._local_ms + passed

    def now(self) -> int:
        """What the clock shows now."""
        passed = self._kernel.now - self._base_ms
        if self._ppm:
            passed += passed * self._ppm // MILLION
        return self._local_ms + passed

    def kernel_at(self, local_ms: int) -> int:
        """The first moment of the kernel's time at which the clock shows ``local_ms`` or more."""
        wanted = local_ms - self._local_ms
        if not self._ppm:
            return self._base_ms + wanted
        at_ms = self._base_ms + wanted * MILLION // (MILLION + self._ppm)
        while self.local(at_ms) < local_ms:
            at_ms += 1
        while self.local(at_ms - 1) >= local_ms:
            at_ms -= 1
        return at_ms

    def set_drift(self, ppm: int) -> None:
        """Run fast (positive) or slow from now on.

        Raises: ValueError if the clock would stand still or go backwards.
        """
        if ppm <= -MILLION:
            raise ValueError(f"drift of {ppm} ppm: a monotonic clock goes forward, so more than {-MILLION}")
        self._changes()
        self._rebase(0)
        self._ppm = ppm
        self._changed()

    def jump(self, by_ms: int) -> None:
        """Jump forward.

        Raises: ValueError for a jump backwards, which a monotonic clock cannot make.
        """
        if by_ms < 0:
            raise ValueError(f"jump of {by_ms} ms: a monotonic clock never goes back, so 0 or more")
        self._changes()
        self._rebase(by_ms)
        self._changed()

    def before_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` before every change of drift and every jump."""
        self._before.append(listener)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every change of drift and every jump."""
        self._listeners.append(listener)

    def _rebase(self, by_ms: int) -> None:
        now = self._kernel.now
        self._local_ms = self.local(now) + by_ms
        self._base_ms = now

    def _changes(self) -> None:
        for listener in list(self._before):
            listener()

    def _changed(self) -> None:
        for listener in list(self._listeners):
            listener()
