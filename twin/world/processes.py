"""The processes of one boot of a node: what is scheduled for them waits while they are stopped, and dies with them."""

from collections import deque
from collections.abc import Callable

from twin.kernel import Kernel


class Processes:
    """Runs callbacks on behalf of processes that can be stopped (SIGSTOP, a frozen machine) and can die."""

    def __init__(self, kernel: Kernel) -> None:
        self.stopped = False
        self.dead = False
        self._kernel = kernel
        self._waiting: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()

    def after(self, delay_ms: int, fn: Callable[..., None], *args: object) -> None:
        """Call ``fn(*args)`` after ``delay_ms``, or when the processes go on, if that is later."""
        self._kernel.after(delay_ms, self.run, fn, *args)

    def run(self, fn: Callable[..., None], *args: object) -> None:
        """Call ``fn(*args)`` now, or when the processes go on; never if they died."""
        if self.dead:
            return
        if self.stopped:
            self._waiting.append((fn, args))
        else:
            fn(*args)

    def stop(self) -> None:
        """Execute nothing from now on."""
        self.stopped = True

    def go_on(self) -> None:
        """Execute what has waited, in order of arrival."""
        self.stopped = False
        while self._waiting and not self.stopped and not self.dead:
            fn, args = self._waiting.popleft()
            fn(*args)

    def die(self) -> None:
        """Forget everything, for good."""
        self.dead = True
        self._waiting.clear()
