"""The only loop around a machine on a real node: events in, effects to their ports, everything into the journal.

One host is one agent process. The twin's host has the same shape; who advances time is the only difference. Ports emit
from any thread into one inbox; one thread, the caller of ``run``, steps.
"""

import heapq
import queue
from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from core import effects as fx
from core.events import AnyEvent, BeatAnswered, OpFailed, OpSucceeded, TimerFired
from core.ids import OpId
from core.journal import Opening
from core.ports import Emit, HostEffect, Ports, route
from core.view import NodeView
from drivers.clock import now_ms, seconds

INBOX_MAX = 100_000
"""More events than this unhandled: the loop does not keep up and never will."""
STEPS_AT_ONCE_MAX = 10_000
"""More steps than this in one millisecond are an endless loop between a machine and its ports."""
LOOK_MS = 1_000
"""How often the loop shows that it lives when nothing happens."""
LAST_MS = 1_000
"""How long the loop waits for the answer to the machine's last order before it ends."""
LATE_MS, CATCH_UP_MS = 50, 20
"""After being this late (the process stood still, or the machine was starved), events that wait in sockets get this
long to arrive before timers judge by what is known."""

End = Literal["handed_over", "stopped", "reload", "orphaned", "broken"]
"""Why ``run`` returned: the machine's ``Exit``; or what ``stop`` was told."""


class Brain(Protocol):
    """What a host needs of ``core.machine.Machine``."""

    def step(self, event: AnyEvent) -> tuple[fx.AnyEffect, ...]: ...

    def view(self) -> NodeView: ...

    def snapshot(self) -> bytes: ...


class Record(Protocol):
    """Where the journal goes: ``drivers.journal_file.JournalFile``."""

    def event(self, at_ms: int, event: AnyEvent) -> None: ...

    def effect(self, at_ms: int, effect: fx.AnyEffect) -> None: ...

    def step(self, at_ms: int, snapshot: Callable[[], bytes]) -> None: ...


class Surroundings(msgspec.Struct, kw_only=True):
    """What a host lives in.

    ``on_note`` hears of notes; ``on_step`` of each step but answers of beats that changed nothing but how fresh the
    evidence is; ``on_taken`` of every step, with its effects and how many seconds machine and journal took; ``on_look``
    that the loop lives, at least once a second.
    """

    record: Record
    on_note: Callable[[fx.Note], None]
    on_step: Callable[[Brain], None]
    on_look: Callable[[], None]
    on_taken: Callable[[AnyEvent, tuple[fx.AnyEffect, ...], float], None] | None = None
    clock: Callable[[], int] = now_ms


class _Stop(msgspec.Struct, frozen=True):
    """In the inbox: end the loop."""

    why: End


class Host:
    """One agent process on one node: ``alive`` until it exits or is stopped."""

    def __init__(self, opening: Opening, incarnation: int, machine: Brain, around: Surroundings) -> None:
        self.node = opening.node.id
        self.incarnation = incarnation
        self.machine = machine
        self.alive = True
        self.steps = 0
        self._around = around
        self._clock = around.clock
        self._inbox: queue.SimpleQueue[AnyEvent | _Stop] = queue.SimpleQueue()
        self._waiting: deque[AnyEvent] = deque()
        self._timers = Timers()
        self._end: End | None = None
        self._last_op = OpId(0)
        self._last_ms = 0
        self._at_once = 0
        self._looked_ms = -1
        self._ports: Ports | None = None

    def run(self, ports: Ports, first: AnyEvent) -> End:
        """Start with the event ``first``; step until the machine exits or ``stop`` is called; say why it ended.

        Raises: InvariantViolation for a bug of ours, JournalBroken when nothing can be written down any more.
        """
        self._ports = ports
        self._step(first)
        while self._end is None:
            self._turn()
        if self._end == "handed_over" and self._last_op:
            self._await_last(self._clock() + LAST_MS)
        self.alive = False
        return self._end

    def emit(self, event: AnyEvent) -> None:
        """Take an event from a port, in any thread or signal handler; it is stamped when it is handled."""
        if self.alive and self._inbox.qsize() < INBOX_MAX:
            self._inbox.put(event)

    @property
    def waiting(self) -> int:
        """How many events wait to be handled."""
        return self._inbox.qsize() + len(self._waiting)

    def stop(self, why: End) -> None:
        """End the loop soon, after the step under way; from any thread or signal handler."""
        self._inbox.put(_Stop(why))

    def submit(self, effect: HostEffect, emit: Emit) -> None:
        """Do what the machine asks of its host itself."""
        match effect:
            case fx.SetTimer():
                self._timers.set(effect.timer, effect.at_ms)
            case fx.CancelTimer():
                self._timers.clear(effect.timer)
            case fx.Note():
                self._around.on_note(effect)
            case fx.Exit():
                self._end = "handed_over"

    # -- the loop ---------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Wait for something to do; take what has arrived; then the timers that are due."""
        self._look()
        now, look_ms = self._clock(), self._looked_ms + LOOK_MS
        due_ms = max(now, min(look_ms, self._timers.next_ms(look_ms)))
        self._receive(due_ms - now)
        if self._clock() - due_ms > LATE_MS:
            self._receive(CATCH_UP_MS)
        while self._waiting and self._end is None:
            self._step(self._waiting.popleft())
        for timer, at_ms in self._timers.due(self._clock()):
            if self._end is None and self._timers.take(timer, at_ms):
                self._step(TimerFired(at_ms=0, timer=timer))

    def _receive(self, ms_max: int) -> None:
        """Take what is in the inbox, waiting up to ``ms_max`` for the first; what only refreshes comes first."""
        if self._inbox.qsize() > INBOX_MAX - 1:
            raise RuntimeError(f"{self.node}: {INBOX_MAX} events wait to be handled")
        taken: list[AnyEvent] = []
        try:
            item = self._inbox.get(timeout=ms_max / 1_000) if ms_max else self._inbox.get_nowait()
            while True:
                if isinstance(item, _Stop):
                    self._end = item.why
                    return
                taken.append(item)
                item = self._inbox.get_nowait()
        except queue.Empty:
            self._waiting.extend(freshest_first(taken))

    def _await_last(self, until_ms: int) -> None:
        """Wait for the answer to the last order (to end the session), which no machine takes any more."""
        while (left_ms := until_ms - self._clock()) > 0:
            try:
                item = self._inbox.get(timeout=left_ms / 1_000)
            except queue.Empty:
                return
            if isinstance(item, OpSucceeded | OpFailed) and item.op == self._last_op:
                return

    def _look(self) -> None:
        now = self._clock()
        if self._looked_ms < 0 or now - self._looked_ms >= LOOK_MS:
            self._looked_ms = now
            self._around.on_look()

    def _step(self, event: AnyEvent) -> None:
        around = self._around
        local_ms = self._now()
        self._bound_steps(local_ms)
        event = msgspec.structs.replace(event, at_ms=local_ms)
        begun = seconds()
        effects = self._take(event)
        self.steps += 1
        if around.on_taken is not None:
            around.on_taken(event, effects, seconds() - begun)
        if type(event) is not BeatAnswered:
            around.on_step(self.machine)  # a beat judges its own service only, the others follow with the next event
        ports, self._last_op = self._ports, OpId(0)
        for effect in effects:
            self._last_op = getattr(effect, "op", self._last_op)
            if ports is not None:
                route(effect, ports, self.emit)

    def _now(self) -> int:
        """The node's clock, never backwards."""
        return max(self._clock(), self._last_ms)

    def _bound_steps(self, now: int) -> None:
        """Raise RuntimeError for an endless loop: too many steps without time passing."""
        if now != self._last_ms:
            self._last_ms, self._at_once = now, 0
        self._at_once += 1
        if self._at_once > STEPS_AT_ONCE_MAX:
            raise RuntimeError(f"{self.node}: {STEPS_AT_ONCE_MAX} steps at {now} ms without an end")

    def _take(self, event: AnyEvent) -> tuple[fx.AnyEffect, ...]:
        """Let the machine step, and write the step down before anything of it is done; an event it dies of as well."""
        record = self._around.record
        record.event(event.at_ms, event)
        try:
            effects = self.machine.step(event)
        except Exception:
            record.step(event.at_ms, self.machine.snapshot)
            raise
        for effect in effects:
            record.effect(event.at_ms, effect)
        record.step(event.at_ms, self.machine.snapshot)
        return effects


def freshest_first(events: list[AnyEvent]) -> list[AnyEvent]:
    """Order events that arrived together: what only refreshes evidence first, of each beat only the newest.

    After a pause the older answers would let the machine find its evidence stale that is not.
    """
    newest: dict[tuple[str, int, str], BeatAnswered] = {}
    others: list[AnyEvent] = []
    for event in events:
        if isinstance(event, BeatAnswered) and event.outcome == "ok":
            key = (event.service, event.epoch, event.kind)
            if key not in newest or newest[key].asked_ms < event.asked_ms:
                newest[key] = event
        else:
            others.append(event)
    return [*newest.values(), *others]


class Timers:
    """Timers by name on the node's clock, cheap to push forward again and again. For one thread."""

    def __init__(self) -> None:
        self._at: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def set(self, timer: str, at_ms: int) -> None:
        """Set a timer, instead of one of that name."""
        if self._at.get(timer) != at_ms:
            self._at[timer] = at_ms
            heapq.heappush(self._heap, (at_ms, timer))
            if len(self._heap) > 64 + 4 * len(self._at):
                self._heap = sorted((at, name) for name, at in self._at.items())

    def clear(self, timer: str) -> None:
        """Forget a timer; one that is not set is fine."""
        self._at.pop(timer, None)

    def next_ms(self, otherwise: int) -> int:
        """When the next timer is due, or ``otherwise`` if none is set."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else otherwise

    def due(self, now: int) -> list[tuple[str, int]]:
        """Take out the timers due by now, in order of time; ``take`` each: the step of one may forestall another."""
        found: list[tuple[str, int]] = []
        while self.next_ms(now + 1) <= now:
            at_ms, timer = heapq.heappop(self._heap)
            found.append((timer, at_ms))
        return found

    def take(self, timer: str, at_ms: int) -> bool:
        """Whether a due timer is still set for that time; it is set no more."""
        if self._at.get(timer) != at_ms:
            return False
        del self._at[timer]
        return True
