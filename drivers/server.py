"""This node's ZooKeeper server, as a child that is kept running; its command outlives agents, supervisors and boots."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from drivers.children import Born, Child, describe
from drivers.log import event as log
from drivers.loop import Loop, Timer
from drivers.state_file import keep
from drivers.wire import RunServer

RESTART_MS, RESTART_MS_MAX = 200, 10_000
STABLE_MS = 30_000
HOLD_LOOK_MS = 250
END_MS = 5_000
"""A server that has not ended after this is killed; it needs no clean end."""


class Server:
    """Keeps the server running as it was last ordered; ``memory`` is where the order is remembered.

    It starts by itself at the supervisor's start: a rack that lost all power needs its quorum before its agents.
    """

    def __init__(self, loop: Loop, memory: Path, hold: Path) -> None:
        self._loop = loop
        self._memory = memory
        self._hold = hold
        self._order = _remembered(memory)
        self._child: Child | None = None
        self._started_ms = 0
        self._delay_ms = RESTART_MS
        self._next: Timer | None = None
        self._waiting: list[Callable[[], None]] = []
        self._start_after(0)

    @property
    def configured(self) -> bool:
        """Whether this node is to run a server."""
        return self._order is not None

    def run(self, order: RunServer) -> None:
        """Run it with this command from now on; one that runs already is left alone."""
        if order != self._order:
            self._order = order
            keep(self._memory, msgspec.json.encode(order))
        if self._child is None and not self._waiting:
            self._delay_ms = RESTART_MS
            self._start_after(0)

    def end(self, then: Callable[[], None], forget: bool = True) -> None:
        """Stop it (and forget its command); ``then`` follows when it is gone."""
        if forget:
            self._order = None
            self._memory.unlink(missing_ok=True)
        if self._next is not None:
            self._next.cancel()
        child = self._child
        if child is None:
            then()
            return
        self._waiting.append(then)
        child.send(signal.SIGTERM)
        child.send(signal.SIGCONT)
        self._loop.after(END_MS, lambda: child.send_group(signal.SIGKILL))

    def _start_after(self, ms: int) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self._loop.after(ms, self._start)

    def _start(self) -> None:
        order = self._order
        if order is None or self._child is not None:
            return
        if self._hold.exists():
            self._start_after(HOLD_LOOK_MS)
            return
        self._started_ms = self._loop.now()
        try:
            born = Born(argv=order.argv, env=dict(os.environ), log=Path(order.log))
            self._child = Child(self._loop, born, self._ended)
        except OSError as error:
            log("server_not_started", error=str(error))
            self._again()
            return
        log("server_started", pid=self._child.pid)

    def _ended(self, code: int) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.send_group(signal.SIGKILL)
        log("server_ended", detail=describe(code))
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()
        if not waiting:
            self._again()
        elif self._order is not None and self._next is not None and self._next.act is None:
            self._start_after(0)  # it was ordered again while it ended

    def _again(self) -> None:
        if self._loop.now() - self._started_ms >= STABLE_MS:
            self._delay_ms = RESTART_MS
        self._start_after(self._delay_ms)
        self._delay_ms = min(2 * self._delay_ms, RESTART_MS_MAX)


def _remembered(memory: Path) -> RunServer | None:
    with suppress(FileNotFoundError):
        try:
            return msgspec.json.decode(memory.read_bytes(), type=RunServer)
        except msgspec.DecodeError as error:
            log("server_forgotten", error=str(error))
    return None
