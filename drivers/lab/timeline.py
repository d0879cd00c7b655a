"""What happens when in a run on the lab: callbacks at times of the machine's clock, run by whoever waits."""

import heapq
import itertools
import time
from collections.abc import Callable

from drivers.clock import now_ms

STEP_MS = 20


class Planned:
    """One callback to come."""

    __slots__ = ("at_ms", "cancelled", "do")

    def __init__(self, at_ms: int, do: Callable[[], object]) -> None:
        self.at_ms = at_ms
        self.do = do
        self.cancelled = False

    def cancel(self) -> None:
        """It does not happen any more."""
        self.cancelled = True


class Timeline:
    """Callbacks in order of time; late ones run at once."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Planned]] = []
        self._order = itertools.count()

    def at(self, at_ms: int, do: Callable[[], object]) -> Planned:
        """Call ``do`` when the clock shows ``at_ms``."""
        planned = Planned(at_ms, do)
        heapq.heappush(self._heap, (at_ms, next(self._order), planned))
        return planned

    def after(self, delay_ms: int, do: Callable[[], object]) -> Planned:
        """Call ``do`` in ``delay_ms``."""
        return self.at(now_ms() + delay_ms, do)

    @property
    def busy(self) -> bool:
        """Whether anything is to come."""
        return any(not planned.cancelled for _, _, planned in self._heap)

    def clear(self) -> None:
        """Nothing happens any more."""
        self._heap.clear()

    def run_due(self) -> None:
        """Call what is due."""
        while self._heap and self._heap[0][0] <= now_ms():
            planned = heapq.heappop(self._heap)[2]
            if not planned.cancelled:
                planned.do()

    def run_until(self, end_ms: int, over: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass until ``end_ms``, or until ``over`` says so; whether it did."""
        while now_ms() < end_ms:
            self.run_due()
            if over():
                return True
            next_ms = min(end_ms, self._heap[0][0] if self._heap else end_ms, now_ms() + STEP_MS)
            time.sleep(max(0, next_ms - now_ms()) / 1_000)
        self.run_due()
        return over()
