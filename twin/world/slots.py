"""Images on a machine's disk: two slots, of which one runs; staging into the other, and what a restart boots."""

from collections.abc import Callable

from core import effects as fx
from core.events import OpFailed
from core.ports import Emit, ImageEffect


class Slots:
    """``core.ports.ImagePort`` of one node."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock

    def submit(self, effect: ImageEffect, emit: Emit) -> None:
        """Take an order about this machine's image."""
        if isinstance(effect, fx.StageImage):
            emit(OpFailed(at_ms=self._clock(), op=effect.op, reason="unavailable", retryable=False))
