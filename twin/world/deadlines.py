"""Deadlines by name on a node's own clock, cheap to push forward again and again."""

from collections.abc import Callable

from twin.kernel import Handle, Kernel
from twin.world.clock import Clock


class Deadlines:
    """Calls ``fire(name)`` when the clock has reached the deadline of ``name``; then the deadline is gone.

    Pushing a deadline forward costs no kernel event: what is scheduled for the earlier moment looks again. While
    ``held(name)`` is true a deadline that has passed waits for ``release``; while stopped, all wait for ``go_on``.
    """

    def __init__(
        self, kernel: Kernel, clock: Clock, fire: Callable[[str], None], held: Callable[[str], bool] | None = None
    ) -> None:
        self._kernel = kernel
        self._clock = clock
        self._fire = fire
        self._held = held
        self._at: dict[str, int] = {}
        self._armed: dict[str, tuple[int, Handle]] = {}
        self._stopped = False
        self._closed = False
        clock.on_change(self._rearm)

    def set(self, name: str, local_ms: int) -> None:
        """Set or replace a deadline; one that has passed fires at once, but not from within this call."""
        before = self._at.get(name)
        self._at[name] = local_ms
        if before is None or local_ms < before or name not in self._armed:
            self._arm(name, local_ms)

    def clear(self, name: str) -> None:
        """Forget a deadline, if there is one."""
        self._at.pop(name, None)

    def get(self, name: str) -> int | None:
        """The deadline of ``name``, if there is one."""
        return self._at.get(name)

    def release(self, name: str) -> None:
        """Look again at a deadline that may have been held."""
        at_ms = self._at.get(name)
        if at_ms is not None:
            self._arm(name, at_ms)

    def stop(self) -> None:
        """Let nothing fire for now; the clock runs on."""
        self._stopped = True

    def go_on(self) -> None:
        """Fire at once, earliest first, what has passed meanwhile; go on with the others."""
        self._stopped = False
        now = self._clock.now()
        for at_ms, name in sorted((at_ms, name) for name, at_ms in self._at.items()):
            if at_ms > now:
                self._arm(name, at_ms)
            elif self._at.get(name) == at_ms and not (self._held and self._held(name)):
                del self._at[name]
                self._fire(name)

    def close(self) -> None:
        """Forget everything, for good."""
        self._closed = True
        self._at.clear()
        for _, handle in self._armed.values():
            handle.cancel()
        self._armed.clear()

    def _arm(self, name: str, local_ms: int) -> None:
        due_ms = max(self._kernel.now, self._clock.kernel_at(local_ms))
        armed = self._armed.get(name)
        if armed is not None:
            if armed[0] <= due_ms:
                return
            armed[1].cancel()
        self._armed[name] = (due_ms, self._kernel.at(due_ms, self._due, name))

    def _due(self, name: str) -> None:
        self._armed.pop(name, None)
        at_ms = self._at.get(name)
        if at_ms is None or self._stopped:
            return
        if at_ms > self._clock.now():
            self._arm(name, at_ms)
        elif not (self._held and self._held(name)):
            del self._at[name]
            self._fire(name)

    def _rearm(self) -> None:
        if not self._closed:
            for name, at_ms in list(self._at.items()):
                self._arm(name, at_ms)
