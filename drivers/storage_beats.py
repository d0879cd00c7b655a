"""Standing storage beats: probes through each volume's own client instance, asked with or without an agent (rule 5)."""

from collections.abc import Callable
from typing import Literal, Protocol

from core import effects as fx
from core.events import AnyEvent, BeatAnswered
from core.ids import Epoch, ServiceName, VolumeName
from drivers.guard import Guard
from drivers.log import event as log
from drivers.loop import Crew, Loop

Outcome = Literal["ok", "refused", "unanswered"]

OUTSTANDING_MAX = 3
"""Questions of one beat on their way at once: with one only, a storage that takes longer than half of ``fresh_ms`` to
answer would already end the right. Each may hold a thread for as long as the storage is silent."""


class Probes(Protocol):
    """What a beat needs of the storage (``drivers.volumes.Volumes``)."""

    def probe(self, volume: VolumeName, epoch: Epoch, ms_max: int) -> Outcome:
        """Write through the instance that was attached for ``epoch``; blocks, if it must for ever."""


class _Beat:
    """One standing beat; ``silent`` since the agent was told that it is unanswered."""

    __slots__ = ("active", "crew", "order", "outstanding")

    def __init__(self, order: fx.StartBeat, crew: Crew) -> None:
        self.order = order
        self.crew = crew
        self.outstanding = 0
        self.active = True


class StorageBeats:
    """All storage beats of one node. A success pushes the right to ``asked_ms + fresh_ms``, a refusal ends it."""

    def __init__(self, loop: Loop, probes: Probes, guard: Guard, tell: Callable[[AnyEvent], None]) -> None:
        self._loop = loop
        self._probes = probes
        self._guard = guard
        self._tell_agent = tell
        self._beats: dict[ServiceName, _Beat] = {}
        self._crews: dict[ServiceName, Crew] = {}

    def start(self, order: fx.StartBeat) -> None:
        """Start a beat, in place of one of the same service; it asks at once."""
        self._drop(order.service)
        crew = self._crews.get(order.service)
        if crew is None:  # threads of its own: a volume that hangs must not silence the beats of another
            crew = Crew(self._loop, f"beat-{order.service}", OUTSTANDING_MAX, OUTSTANDING_MAX)
            self._crews[order.service] = crew
        beat = self._beats[order.service] = _Beat(order, crew)
        self._tick(beat)

    def stop(self, service: ServiceName, epoch: Epoch) -> None:
        """Stop a beat of exactly this epoch, if there is one."""
        beat = self._beats.get(service)
        if beat is not None and beat.order.epoch == epoch:
            self._drop(service)

    def _drop(self, service: ServiceName) -> None:
        beat = self._beats.pop(service, None)
        if beat is not None:
            beat.active = False

    def _tick(self, beat: _Beat) -> None:
        if not beat.active:
            return
        self._loop.after(beat.order.every_ms, lambda: self._tick(beat))
        if beat.outstanding < OUTSTANDING_MAX and beat.crew.busy < OUTSTANDING_MAX:
            self._ask(beat)

    def _ask(self, beat: _Beat) -> None:
        order, asked_ms = beat.order, self._loop.now()
        ms_max = max(order.fresh_ms, order.every_ms) * OUTSTANDING_MAX  # late, it gives no right, but is progress
        late = self._loop.after(ms_max, lambda: self._tell(beat, asked_ms, "unanswered"))
        beat.outstanding += 1

        def answered(how: Outcome) -> None:
            beat.outstanding -= 1
            in_time = late.act is not None
            late.cancel()
            if in_time or how == "refused":
                self._answered(beat, asked_ms, how)

        beat.crew.do(lambda: self._probes.probe(order.volume, order.epoch, ms_max), answered)

    def _answered(self, beat: _Beat, asked_ms: int, how: Outcome) -> None:
        if not beat.active:
            return
        order = beat.order
        unit = self._guard.units.get(order.service)
        match how:
            case "ok":
                if unit is not None and unit.epoch == order.epoch:
                    self._guard.push(unit, asked_ms + order.fresh_ms)
            case "refused":
                self._drop(order.service)
                log("probe_refused", service=order.service, epoch=order.epoch)
                if unit is not None and unit.instance == order.instance:
                    self._guard.revoke(unit, expired=False)
            case "unanswered":
                pass
        self._tell_agent(self._event(order, asked_ms, how))

    def _tell(self, beat: _Beat, asked_ms: int, how: Outcome) -> None:
        if beat.active:
            self._tell_agent(self._event(beat.order, asked_ms, how))

    def _event(self, order: fx.StartBeat, asked_ms: int, how: Outcome) -> BeatAnswered:
        return BeatAnswered(
            at_ms=self._loop.now(),
            service=order.service,
            epoch=order.epoch,
            kind="storage",
            asked_ms=asked_ms,
            outcome=how,
        )
