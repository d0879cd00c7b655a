"""Keeping this node's agent running: restarted at once, and replaced by a substitute that hands over if it cannot be.

The substitute is a process that was started while all was well, has everything loaded and waits for one line on its
standard input: it works even if the files on disk are broken.
"""

import os
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from drivers.children import Born, Child, describe
from drivers.log import event as log
from drivers.loop import Loop, Timer

RESTART_MS_MAX = 5_000
STABLE_MS = 30_000
"""An agent that lived this long starts the next backoff anew."""
QUICK_EXITS_MAX = 5
"""So many exits within ``STABLE_MS`` each, without a stable life between, and the agent counts as one that cannot come
back, even if each said hello."""
HOLD_LOOK_MS = 250
RETRY_MS, RETRY_MS_MAX = 5_000, 30_000
"""After a hand-over the agent is tried again, first well before anybody would reset the node (``recover_ms``), then
after pauses that double."""
SPARE_MS = 3_000
"""The substitute is started this long after the agent: it must not slow it down."""
END_MS = 2_000
START_SHARE = 4
"""An agent that starts and has not failed may take this many times ``give_up_ms``: a node that boots is busy."""
MORE_PERCENT = 100
"""By so much the time to say hello is prolonged, once, for a successor that runs: a busy machine starts it slowly, and
a slow one that comes is worth more than a substitute in time."""
HUNG_MS = 120_000
"""The first agent of a boot, which nobody waits for, is ended when it says nothing for so long. Source: a first server
that is emulated starts its storage at the same time, and its agent needs more than half a minute to begin."""
HAND_OVER_MS_MAX = 120_000
HAND_OVER = b"hand-over\n"
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}
"""An agent's many threads, most of them the storage library's, do little: without this each gets memory of its own."""
DONE, STEPPED_DOWN = 0, 75
"""Exit codes of an agent (``drivers.agent``): it ended as it was told; it must not go on, hand over at once."""
SETTLED_MS = 5_000
"""An agent that stays this long after a hand-over is back; one that ends sooner took nothing on."""


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """How the agent is run. ``agent``, ``spare``, ``hand_over``: command lines; ``hold``: a file that keeps it off."""

    agent: tuple[str, ...]
    spare: tuple[str, ...]
    hand_over: tuple[str, ...]
    hold: Path
    restart_ms: int
    give_up_ms: int


class Agents:
    """The agent of this node, through all its processes."""

    def __init__(self, loop: Loop, life: Life) -> None:
        self._loop = loop
        self._life = life
        self._met = self._prolonged = False
        self._agent: Child | None = None
        self._spare: Child | None = None
        self._substitute: Child | None = None
        self._speaker = 0
        self._started_ms = 0
        self._delay_ms = life.restart_ms
        self._retry_ms = RETRY_MS
        self._quick: deque[int] = deque(maxlen=QUICK_EXITS_MAX)
        self._patience: Timer | None = None
        self._next: Timer | None = None
        self._handed_over = False
        self._left = False
        self._held = False
        self._then: Callable[[], None] | None = None
        self._closed = False

    # -- what the supervisor tells ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the agent, and a little later its substitute."""
        self._start_after(0)
        self._loop.after(SPARE_MS, self._start_spare)

    def said_hello(self, pid: int) -> None:
        """Note that an agent is there; it need not be a child of ours (a person may have started it)."""
        self._met = True
        self._speaker = pid
        if self._substitute is None or pid != self._substitute.pid:
            self._left = self._prolonged = False
            self._be_patient_no_more()
            self._loop.after(SETTLED_MS, lambda: self._settled(pid))

    def lost(self) -> None:
        """Note that the agent's connection is gone."""
        self._speaker = 0
        if self._agent is not None and self._agent.alive:
            self._be_patient(self._life.give_up_ms)
        elif not self._handed_over:
            self._start_after(self._delay_ms)

    def _settled(self, pid: int) -> None:
        if self._speaker == pid:
            self._handed_over = False  # it came back to stay: what it takes on may have to be handed over again
            self._retry_ms = RETRY_MS
            self._start_spare()

    def leaving(self) -> None:
        """Note that the agent handed everything over."""
        log("agent_leaving")
        self._left = True

    def restart(self) -> None:
        """Have the agent end and start again (its configuration or its program changed); one that is off is started.

        The agent looks at the configuration first, and stays if it is bad; the substitute follows what it does.
        """
        self._left = self._handed_over = False
        self._delay_ms = self._life.restart_ms
        self._quick.clear()
        if self._agent is not None and self._agent.alive:
            self._agent.send(signal.SIGHUP)
        else:
            self._start_after(0)

    def hand_over(self, ms_max: int, then: Callable[[], None]) -> None:
        """End the agent and let the substitute give everything up; ``then`` follows, at the latest after ``ms_max``."""
        self._then = then
        self._loop.after(ms_max, self._finish)
        if self._next is not None:
            self._next.cancel()
        if self._agent is not None and self._agent.alive:
            self._stop(self._agent)
        elif self._substitute is None:
            self._give_up("the supervisor ends")

    def close(self) -> None:
        """Kill every agent process and start none again."""
        self._closed = True
        for child in (self._agent, self._spare, self._substitute):
            if child is not None:
                child.send(signal.SIGKILL)

    @property
    def quiet(self) -> bool:
        """Whether no process of it lives."""
        return not any(child is not None and child.alive for child in (self._agent, self._spare, self._substitute))

    # -- the agent --------------------------------------------------------------------------------------------------

    def _start_after(self, ms: int) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self._loop.after(ms, self._start)

    def _start(self) -> None:
        busy = (self._agent is not None and self._agent.alive) or self._substitute is not None or self._speaker
        if busy or self._closed or self._then is not None or self._left:
            return
        was_held, self._held = self._held, self._life.hold.exists()
        if was_held and not self._held:
            self._be_patient_no_more()  # it could not start before: its time begins now
        if self._held:
            self._be_patient(self._life.give_up_ms)
            self._start_after(HOLD_LOOK_MS)
            return
        self._be_patient(self._life.give_up_ms * START_SHARE)
        self._started_ms = self._loop.now()
        self._agent = self._spawn(self._life.agent, self._agent_ended)
        if self._agent is None:
            self._agent_ended(127)

    def _agent_ended(self, code: int) -> None:
        self._agent = None
        lived_ms = self._loop.now() - self._started_ms
        log("agent_ended", detail=describe(code), lived_ms=lived_ms)
        if self._closed:
            return
        if self._then is not None:
            self._give_up("the supervisor ends")
            return
        if code == DONE:
            self._start_after(0 if lived_ms > self._life.restart_ms else self._life.restart_ms)
            self._stop(self._spare)  # a new one is started, from what this one was restarted for
            return
        if lived_ms >= STABLE_MS:
            self._quick.clear()
            self._delay_ms = self._life.restart_ms
        else:
            self._quick.append(lived_ms)
        self._be_patient(self._life.give_up_ms)
        if not self._handed_over and (code == STEPPED_DOWN or len(self._quick) == QUICK_EXITS_MAX):
            self._give_up("it stepped down" if code == STEPPED_DOWN else f"it ended {QUICK_EXITS_MAX} times in a row")
            return
        self._start_after(self._next_retry_ms() if self._handed_over else self._delay_ms)
        self._delay_ms = min(2 * self._delay_ms, RESTART_MS_MAX)

    def _next_retry_ms(self) -> int:
        retry_ms, self._retry_ms = self._retry_ms, min(2 * self._retry_ms, RETRY_MS_MAX)
        return retry_ms

    # -- giving up --------------------------------------------------------------------------------------------------

    def _be_patient(self, ms: int) -> None:
        """Give the agent at most ``ms`` from now to say hello; not again after a hand-over."""
        at_ms = self._loop.now() + ms
        if self._handed_over or (self._patience is not None and self._patience.at_ms <= at_ms):
            return
        self._be_patient_no_more()
        self._patience = self._loop.at(at_ms, lambda: self._out_of_patience(ms))

    def _out_of_patience(self, ms: int) -> None:
        """Hand over; before the first agent there is nothing to hand over, and only one that hangs is ended."""
        self._patience = None
        if self._met and self._agent is not None and self._agent.alive and not self._prolonged:
            self._prolonged = True
            more_ms = ms * MORE_PERCENT // 100
            self._patience = self._loop.after(more_ms, lambda: self._out_of_patience(ms + more_ms))
            return
        if self._met:
            self._give_up(f"no hello for {ms} ms")
            return
        if self._agent is not None and self._loop.now() - self._started_ms >= HUNG_MS:
            log("agent_hangs", lived_ms=self._loop.now() - self._started_ms)
            self._agent.send(signal.SIGKILL)
        self._be_patient(max(ms, HUNG_MS))

    def _be_patient_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self, why: str) -> None:
        self._be_patient_no_more()
        self._prolonged = False
        if self._substitute is not None or self._closed:
            return
        self._handed_over = True
        self._quick.clear()
        if self._agent is not None:
            self._agent.send(signal.SIGKILL)
        spare, self._spare = self._spare, None
        told = spare is not None and spare.say(HAND_OVER)
        log("hand_over", why=why, spare=told)
        substitute = spare if told else self._spawn(self._life.hand_over, self._substitute_ended)
        if substitute is None:
            self._substitute_ended(127)
            return
        self._substitute = substitute
        self._loop.after(HAND_OVER_MS_MAX, lambda: substitute.send(signal.SIGKILL))

    def _substitute_ended(self, code: int) -> None:
        self._substitute = None
        self._left = False  # it was asked to leave; the agent itself was not
        log("substitute_ended", detail=describe(code))
        if self._then is not None:
            self._finish()
        elif not self._closed:
            self._start_after(
                HOLD_LOOK_MS if self._held else self._next_retry_ms()
            )  # a hold ends when somebody lets it
            self._loop.after(RETRY_MS_MAX, self._start_spare)

    def _finish(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            self._closed = True
            then()

    # -- the substitute ---------------------------------------------------------------------------------------------

    def _start_spare(self) -> None:
        if self._spare is None and not self._closed and self._then is None:
            self._spare = self._spawn(self._life.spare, self._spare_ended, talk=True)
            if self._spare is None:
                self._loop.after(RETRY_MS_MAX, self._start_spare)

    def _spare_ended(self, code: int) -> None:
        if self._substitute is not None and not self._substitute.alive:
            self._substitute_ended(code)
            return
        self._spare = None
        if not self._closed:
            log("spare_ended", detail=describe(code))
            self._loop.after(SPARE_MS if code < 0 else RETRY_MS_MAX, self._start_spare)

    # -- processes --------------------------------------------------------------------------------------------------

    def _spawn(self, argv: tuple[str, ...], ended: Callable[[int], None], talk: bool = False) -> Child | None:
        try:
            return Child(self._loop, Born(argv=argv, env={**ENVIRONMENT, **os.environ}, talk=talk), ended)
        except OSError as error:
            log("agent_not_started", error=str(error))
            return None

    def _stop(self, child: Child | None) -> None:
        if child is not None and child.alive:
            child.send(signal.SIGTERM)
            self._loop.after(END_MS, lambda: child.send(signal.SIGKILL))
