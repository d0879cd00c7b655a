"""Coordination beats (rule 5a): a commit of nothing but checks, asked again and again while the agent lives.

Storage beats are the supervisor's, because they must outlive the agent; these must not.
"""

from collections.abc import Callable
from typing import Literal, Protocol

from core import effects as fx
from core.events import BeatAnswered
from core.ids import ServiceName, SessionId
from core.ports import Emit
from drivers.clock import now_ms
from drivers.loop import Loop, Timer

OUTSTANDING_MAX = 4
"""A beat that has so many questions unanswered asks no more until one is answered or given up."""

Outcome = Literal["ok", "refused", "unanswered"]


class Asks(Protocol):
    """Who carries a question to ZooKeeper: ``drivers.zookeeper_port.ZooKeeper``."""

    @property
    def loop(self) -> Loop:
        """Where answers arrive."""
        ...

    def check(
        self, session: SessionId, checks: tuple[fx.Check, ...], answer: Callable[[Outcome], None], ms_max: int
    ) -> None:
        """Commit nothing but checks; ``answer`` is called once, in the loop."""
        ...


class _Beat:
    """One standing beat."""

    __slots__ = ("emit", "order", "outstanding", "timer")

    def __init__(self, order: fx.StartBeat, emit: Emit) -> None:
        self.order, self.emit = order, emit
        self.outstanding = 0
        self.timer: Timer | None = None


class CoordinationBeats:
    """All coordination beats of one agent. ``submit`` may be called from any thread."""

    def __init__(self, asks: Asks) -> None:
        self._asks = asks
        self._loop = asks.loop
        self._beats: dict[ServiceName, _Beat] = {}

    def submit(self, effect: fx.StartBeat | fx.StopBeat, emit: Emit) -> None:
        match effect:
            case fx.StartBeat():
                self._loop.post(lambda: self._start(effect, emit))
            case fx.StopBeat():
                self._loop.post(lambda: self._stop(effect))

    def _start(self, order: fx.StartBeat, emit: Emit) -> None:
        """Start a beat, in place of one of the same service; it asks at once."""
        self._drop(order.service)
        beat = self._beats[order.service] = _Beat(order, emit)
        self._tick(beat)

    def _stop(self, order: fx.StopBeat) -> None:
        """Stop a beat of exactly this epoch, if there is one."""
        beat = self._beats.get(order.service)
        if beat is not None and beat.order.epoch == order.epoch:
            self._drop(order.service)

    def _drop(self, service: ServiceName) -> None:
        beat = self._beats.pop(service, None)
        if beat is not None and beat.timer is not None:
            beat.timer.cancel()

    def _tick(self, beat: _Beat) -> None:
        """Ask, and come again a period from now: a process that was stopped does not make up for what it missed."""
        order = beat.order
        beat.timer = self._loop.after(order.every_ms, lambda: self._tick(beat))
        if beat.outstanding < OUTSTANDING_MAX:
            beat.outstanding += 1
            asked_ms = now_ms()
            self._asks.check(
                order.session,
                order.checks,
                lambda outcome: self._answered(beat, asked_ms, outcome),
                order.every_ms * OUTSTANDING_MAX,
            )

    def _answered(self, beat: _Beat, asked_ms: int, outcome: Outcome) -> None:
        beat.outstanding -= 1
        order = beat.order
        if self._beats.get(order.service) is not beat:
            return
        if outcome == "refused":
            self._drop(order.service)
        beat.emit(
            BeatAnswered(
                at_ms=now_ms(),
                service=order.service,
                epoch=order.epoch,
                kind="coordination",
                asked_ms=asked_ms,
                outcome=outcome,
            )
        )
