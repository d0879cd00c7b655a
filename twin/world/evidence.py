"""Standing beats of one node's services: who asks, when, and what an answer does (rules 5 and 11).

The storage beat is asked by the supervisor and outlives the agent; the coordination beat is asked by the agent and dies
with it. In campaign and capacity fidelity a beat whose path is healthy is *implicit*: it costs no kernel events, and
the last time it was asked is computed when the path breaks, the agent stops, or the clock is set.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from core import effects as fx
from core.events import AnyEvent, BeatAnswered
from core.ids import Epoch, ServiceName, SessionId, VolumeName
from core.records import Instance
from twin.kernel import Kernel
from twin.world.clock import Clock
from twin.world.processes import Processes

Outcome = Literal["ok", "refused", "unanswered"]

DEAD_MS, DEAD_ROUNDS = 30_000, 40
"""In those a path that has been broken for this long is asked only every so many rounds, until something in the world
changes."""
OUTSTANDING_MAX = 4
"""Questions of one beat on their way at once; more are not asked, so that a dead path fills no memory."""


class Probes(Protocol):
    """What beats and services need of the storage."""

    def write(
        self, instance: Instance, volume: VolumeName, payload: int, answer: Callable[[str], None], ms_max: int
    ) -> None: ...

    def mount(self, instance: Instance, volume: VolumeName, answer: Callable[[str], None], ms_max: int) -> None: ...

    def probe_healthy(self, instance: Instance, volume: VolumeName) -> bool: ...

    def last_payload(self, volume: VolumeName) -> int: ...


class Checks(Protocol):
    """What beats need of the node's ZooKeeper client: a commit of nothing but checks."""

    def check(
        self, session: SessionId, checks: tuple[fx.Check, ...], answer: Callable[[str], None], ms_max: int
    ) -> None: ...

    def beat_healthy(self, session: SessionId, checks: tuple[fx.Check, ...]) -> bool: ...


class Beat:
    """One standing beat. ``asked_ms`` is the latest question known to be answered ok (own clock)."""

    __slots__ = ("active", "asked_ms", "begun_ms", "chain", "explicit_ms", "implicit", "order", "outstanding")

    def __init__(self, order: fx.StartBeat, begun_ms: int) -> None:
        self.order = order
        self.begun_ms = self.explicit_ms = begun_ms
        self.asked_ms = -1
        self.outstanding = 0
        self.chain = 0
        self.implicit = False
        self.active = True


class Listener(Protocol):
    """Who hears of answers: the supervisor."""

    def evidence_ok(self, order: fx.StartBeat, asked_ms: int) -> None:
        """A storage beat succeeded: push the right to ``asked_ms + fresh_ms``."""

    def evidence_refused(self, order: fx.StartBeat) -> None:
        """The instance is fenced, or the lease is not ours."""

    def evidence_explicit(self, service: ServiceName, until_ms: int) -> None:
        """The beats of ``service`` are implicit no more; its right lasts until ``until_ms``, if that is later."""

    def tell(self, event: AnyEvent) -> None:
        """Send an event to the agent, if one lives."""


class Setting(msgspec.Struct, kw_only=True):
    """What the beats of a node live in; ``checks`` is None while no agent runs."""

    kernel: Kernel
    clock: Clock
    processes: Processes
    probes: Probes
    checks: Checks | None = None
    implicit: bool = False
    agent_paused: bool = False


class Evidence:
    """All standing beats of one node."""

    def __init__(self, setting: Setting, listener: Listener) -> None:
        self._setting = setting
        self._listener = listener
        self._beats: dict[tuple[ServiceName, str], Beat] = {}
        setting.clock.before_change(self._clock_changes)

    def start(self, order: fx.StartBeat) -> None:
        """Start a beat, in place of one of the same service and kind; it asks at once."""
        self._drop(order.service, order.kind)
        beat = Beat(order, self._setting.kernel.now)
        self._beats[(order.service, order.kind)] = beat
        self._tick(beat, beat.chain)

    def stop(self, service: ServiceName, epoch: Epoch, kind: str) -> None:
        """Stop a beat of exactly this epoch, if there is one."""
        beat = self._beats.get((service, kind))
        if beat is not None and beat.order.epoch == epoch:
            self._drop(service, kind)

    def agent_died(self) -> None:
        """Stop the coordination beats: nobody asks any more."""
        self._setting.checks = None
        for service, kind in list(self._beats):
            if kind == "coordination":
                self._drop(service, kind)

    def close(self) -> None:
        """Forget all beats, for good."""
        for beat in self._beats.values():
            beat.active = beat.implicit = False
        self._beats.clear()

    @property
    def beating(self) -> bool:
        """Whether there is any beat."""
        return bool(self._beats)

    def implicit(self, service: str) -> bool:
        """Whether a beat of this service goes without events now."""
        return any(beat.implicit for beat in self._of(service))

    def refreshed(self) -> tuple[BeatAnswered, ...]:
        """What implicit beats would have told the agent by now and have not; to be told before any other event."""
        told = []
        for beat in self._beats.values():
            if beat.implicit:
                asked_ms = self._last_asked(beat)
                if asked_ms > beat.asked_ms:
                    beat.asked_ms = asked_ms
                    told.append(self._event(beat, asked_ms, "ok"))
        return tuple(told)

    def reevaluate(self) -> None:
        """Look at every implicit beat again: something in the world changed."""
        for beat in list(self._beats.values()):
            if beat.active and beat.implicit and not self._may_hide(beat):
                self._go_explicit(beat)
            elif beat.active and self._is_old(beat) and self._healthy(beat):
                beat.explicit_ms = self._setting.kernel.now
                beat.chain += 1
                self._tick(beat, beat.chain)

    def _clock_changes(self) -> None:
        """Ask in events while the clock is set: what was asked by the old one is as old as the new one makes it."""
        for beat in list(self._beats.values()):
            if beat.active and beat.implicit:
                self._go_explicit(beat)

    def _is_old(self, beat: Beat) -> bool:
        explicit_for_ms = self._setting.kernel.now - beat.explicit_ms
        return self._setting.implicit and not beat.implicit and explicit_for_ms > DEAD_MS

    def _of(self, service: str) -> list[Beat]:
        name = ServiceName(service)
        found = (self._beats.get((name, "coordination")), self._beats.get((name, "storage")))
        return [beat for beat in found if beat is not None]

    # -- asking -----------------------------------------------------------------------------------------------------

    def _tick(self, beat: Beat, chain: int) -> None:
        if not beat.active or beat.implicit or chain != beat.chain:
            return
        rounds = DEAD_ROUNDS if self._is_old(beat) and not self._healthy(beat) else 1
        self._setting.processes.after(rounds * beat.order.every_ms, self._tick, beat, chain)
        if beat.outstanding < OUTSTANDING_MAX:
            self._ask(beat)

    def _ask(self, beat: Beat) -> None:
        order, setting = beat.order, self._setting
        asked_ms = setting.clock.now()
        if order.kind == "coordination":
            if setting.checks is None or setting.agent_paused:
                return
            beat.outstanding += 1
            ms_max = order.every_ms * OUTSTANDING_MAX
            setting.checks.check(order.session, order.checks, lambda how: self._answer(beat, asked_ms, how), ms_max)
        elif order.instance is not None:
            beat.outstanding += 1
            ms_max = max(order.fresh_ms, order.every_ms) * OUTSTANDING_MAX  # late, it gives no right, but is progress
            setting.probes.write(order.instance, order.volume, 0, lambda how: self._answer(beat, asked_ms, how), ms_max)

    def _answer(self, beat: Beat, asked_ms: int, how: str) -> None:
        self._setting.processes.run(self._answered, beat, asked_ms, how)

    def _answered(self, beat: Beat, asked_ms: int, how: str) -> None:
        beat.outstanding -= 1
        if not beat.active:
            return
        if how == "ok":
            self._succeeded(beat, asked_ms)
        elif how == "refused":
            self._drop(beat.order.service, beat.order.kind)
            self._listener.evidence_refused(beat.order)
            self._tell(beat, asked_ms, "refused")
        else:
            self._tell(beat, asked_ms, "unanswered")

    def _succeeded(self, beat: Beat, asked_ms: int) -> None:
        if beat.implicit:
            return
        beat.asked_ms = max(beat.asked_ms, asked_ms)
        beat.implicit = self._setting.implicit and self._may_hide(beat)
        if beat.implicit:
            beat.begun_ms = self._setting.kernel.now
        if beat.order.kind == "storage":
            self._listener.evidence_ok(beat.order, asked_ms)
        self._tell(beat, asked_ms, "ok")

    def _tell(self, beat: Beat, asked_ms: int, how: Outcome) -> None:
        self._listener.tell(self._event(beat, asked_ms, how))

    def _event(self, beat: Beat, asked_ms: int, how: Outcome) -> BeatAnswered:
        order = beat.order
        return BeatAnswered(
            at_ms=self._setting.clock.now(),
            service=order.service,
            epoch=order.epoch,
            kind=order.kind,
            asked_ms=asked_ms,
            outcome=how,
        )

    # -- implicit beats ---------------------------------------------------------------------------------------------

    def _may_hide(self, beat: Beat) -> bool:
        """Whether a beat may go without events: nothing is wrong on its way, and the agent takes its answers."""
        return not self._setting.agent_paused and self._healthy(beat)

    def _healthy(self, beat: Beat) -> bool:
        setting, order = self._setting, beat.order
        if setting.processes.stopped or setting.processes.dead:
            return False
        if order.kind == "coordination":
            checks = None if setting.agent_paused else setting.checks
            return checks is not None and checks.beat_healthy(order.session, order.checks)
        return order.instance is not None and setting.probes.probe_healthy(order.instance, order.volume)

    def _last_asked(self, beat: Beat) -> int:
        """The latest question of an implicit beat (own clock): the largest multiple of its period since it began."""
        setting, every_ms = self._setting, beat.order.every_ms
        rounds = (setting.kernel.now - beat.begun_ms) // every_ms
        at_ms = beat.begun_ms + rounds * every_ms
        return max(beat.asked_ms, setting.clock.local(at_ms)) if rounds else beat.asked_ms

    def _go_explicit(self, beat: Beat) -> None:
        """Ask in events again, from the next question on; tell how fresh the evidence is."""
        asked_ms = self._last_asked(beat)
        beat.implicit = False
        beat.asked_ms = asked_ms
        beat.explicit_ms = self._setting.kernel.now
        beat.chain += 1
        every_ms = beat.order.every_ms
        passed_ms = (self._setting.kernel.now - beat.begun_ms) % every_ms
        self._setting.processes.after(every_ms - passed_ms, self._tick, beat, beat.chain)
        self._tell(beat, asked_ms, "ok")
        self._listener.evidence_explicit(beat.order.service, asked_ms + beat.order.fresh_ms)

    def _drop(self, service: ServiceName, kind: str) -> None:
        beat = self._beats.pop((service, kind), None)
        if beat is None:
            return
        beat.active = False
        if beat.implicit:
            beat.implicit = False
            self._listener.evidence_explicit(service, self._last_asked(beat) + beat.order.fresh_ms)
