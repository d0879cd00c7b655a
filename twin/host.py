"""The only loop around a machine in the twin: events in, effects to their ports, everything into the journal.

One host is one agent process. The drivers' host has the same shape; who advances time is the only difference.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from core import effects as fx
from core.events import AnyEvent, BeatAnswered, Started, TimerFired
from core.ids import NodeId
from core.journal import Opening
from core.ports import Emit, HostEffect, Ports, route
from core.view import NodeView, ServiceView
from twin.kernel import Kernel
from twin.recorder import Recorder
from twin.world.clock import Clock
from twin.world.deadlines import Deadlines

STEPS_AT_ONCE_MAX = 10_000
"""More steps than this without time passing are an endless loop between a machine and its ports."""

FRESH = "fresh/"
"""Timers of this prefix watch the age of a service's evidence; they are held back while its beats are implicit."""


class Brain(Protocol):
    """What a host needs of ``core.machine.Machine``."""

    def step(self, event: AnyEvent) -> tuple[fx.AnyEffect, ...]: ...

    def view(self) -> NodeView: ...

    def singletons(self) -> tuple[ServiceView, ...]: ...


class Surroundings(msgspec.Struct, kw_only=True):
    """What a host lives in.

    ``implicit``: whether a service's beats go without events (never in protocol fidelity); ``refreshed``: what those
    have to tell before any other event. The others hear of notes, of the machine's own end, of each step but answers of
    beats that changed nothing but how fresh the evidence is, and (``on_done``) of each step with its effects.
    """

    kernel: Kernel
    clock: Clock
    recorder: Recorder | None
    implicit: Callable[[str], bool]
    refreshed: Callable[[], tuple[BeatAnswered, ...]]
    on_note: Callable[[NodeId, fx.Note], None]
    on_exit: Callable[[], None]
    on_step: Callable[[Brain], None] | None = None
    on_done: Callable[[AnyEvent, tuple[fx.AnyEffect, ...]], None] | None = None


class Host:
    """One agent process on one node: ``alive`` until it crashes or exits; while ``frozen`` its events queue up."""

    def __init__(self, opening: Opening, incarnation: int, machine: Brain, around: Surroundings) -> None:
        self.node = opening.node.id
        self.incarnation = incarnation
        self.machine = machine
        self.alive = True
        self.frozen = False
        self.steps = 0
        self._last_ms = -1
        self._at_once = 0
        self._around = around
        self._kernel = around.kernel
        self._clock = around.clock
        self._recorder = around.recorder
        self._queue: deque[AnyEvent] = deque()
        self._busy = False
        self._timers = Deadlines(around.kernel, around.clock, self._timer_fires, self._timer_held)
        self._ports: Ports | None = None
        if self._recorder is not None:
            self._recorder.write(self._kernel.now, self.node, incarnation, "open", opening)

    def run(self, ports: Ports, first: AnyEvent) -> None:
        """Start with the event ``first``."""
        self._ports = ports
        self.emit(first)

    def emit(self, event: AnyEvent) -> None:
        """Take an event from a port; it is handled at once, unless another is being handled or the agent is frozen.

        Nothing reaches a machine whose agent has died. The event is stamped with the node's clock when it is handled.
        """
        if self.alive:
            self._queue.append(event)
            if not self._busy and not self.frozen:
                self._drain()

    def crash(self) -> None:
        """End at once: no event, timer or answer reaches the machine any more."""
        self.alive = False
        self._queue.clear()
        self._timers.close()

    def freeze(self) -> None:
        """Stop executing; what arrives waits."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on with what has arrived meanwhile."""
        self.frozen = False
        if not self._busy:
            self._drain()

    def release(self, service: str) -> None:
        """Let the timer that watches ``service``'s evidence fire again: its beats are no longer implicit."""
        self._timers.release(FRESH + service)

    def submit(self, effect: HostEffect, emit: Emit) -> None:
        """Do what the machine asks of its host itself."""
        match effect:
            case fx.SetTimer():
                self._timers.set(effect.timer, effect.at_ms)
            case fx.CancelTimer():
                self._timers.clear(effect.timer)
            case fx.Note():
                self._around.on_note(self.node, effect)
            case fx.Exit():
                self.crash()
                self._around.on_exit()

    def _drain(self) -> None:
        self._busy = True
        while self._queue and not self.frozen:
            self._step(self._queue.popleft())
        self._busy = False

    def _step(self, event: AnyEvent) -> None:
        if type(event) is not Started:
            for told in self._around.refreshed():
                self._handle(told)
        self._handle(event)

    def _handle(self, event: AnyEvent) -> None:
        local_ms, around, now = self._clock.now(), self._around, self._kernel.now
        if now != self._last_ms:
            self._last_ms, self._at_once = now, 0
        self._at_once += 1
        if self._at_once > STEPS_AT_ONCE_MAX:
            raise RuntimeError(f"{self.node}: {STEPS_AT_ONCE_MAX} steps at {now} ms without an end")
        if event.at_ms != local_ms:
            event = msgspec.structs.replace(event, at_ms=local_ms)
        effects = self.machine.step(event)
        self.steps += 1
        if self._recorder is not None:
            self._recorder.step(now, self.node, self.incarnation, event, effects)
        if around.on_step is not None and type(event) is not BeatAnswered:
            around.on_step(self.machine)  # a beat judges its own service only, the others follow with the next event
        if around.on_done is not None:
            around.on_done(event, effects)
        ports = self._ports
        for effect in effects:
            if ports is not None and self.alive:
                route(effect, ports, self.emit)

    def _timer_fires(self, timer: str) -> None:
        self.emit(TimerFired(at_ms=self._clock.now(), timer=timer))

    def _timer_held(self, timer: str) -> bool:
        return timer.startswith(FRESH) and self._around.implicit(timer[len(FRESH) :])
