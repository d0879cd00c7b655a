"""Whether a service is healthy: one question at a time, asked in the loop without a thread."""

import errno
import os
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from drivers.children import Born, Child, describe, environment
from drivers.loop import Loop
from formats.catalog import Health

SETTLE_MS = 100
"""A process that lives this long counts as started, where only its life is asked for."""
ANSWER_BYTES = 64
START_MS, ANSWER_MS_MAX = 100, 2_000
"""How often a service that starts is asked, and how long any answer may take."""


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Where a service is asked: the addresses tried in turn, and what a command needs.

    ``command`` is filled already. The service's own address is not among ``hosts``: it may be off.
    """

    hosts: tuple[str, ...]
    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    mark: str


class Vigil:
    """Asks about one service again and again: often while it starts, then every ``every_ms``; not while ``paused``.

    ``answered`` is called after each question, with "" or what is wrong.
    """

    def __init__(self, loop: Loop, health: Health, where: Where, answered: Callable[[str], None]) -> None:
        self.starting = True
        self.paused = False
        self._loop = loop
        self._health = health
        self._where = where
        self._answered = answered
        self._open = True
        self._question: Question | None = None
        self._ask()

    def drop(self) -> None:
        """Ask no more."""
        self._open = False
        if self._question is not None:
            self._question.drop()
            self._question = None

    def _ask(self) -> None:
        if not self._open:
            return
        if self.paused:
            self._again()
            return
        ms_max = max(min(self._health.every_ms, ANSWER_MS_MAX), START_MS)
        self._question = Question(self._loop, self._health, self._where, ms_max, self._on_answer)

    def _on_answer(self, problem: str) -> None:
        self._question = None
        if self._open and not self.paused:  # what is frozen does not answer
            self._answered(problem)
        self._again()

    def _again(self) -> None:
        every_ms = self._health.every_ms
        if self._open and (self.starting or self._health.kind != "process"):  # its end is heard of by itself
            self._loop.after(min(every_ms, START_MS) if self.starting else every_ms, self._ask)


class Question:
    """One health check under way; ``answered`` is called once, with "" or what is wrong, unless it is dropped first."""

    def __init__(self, loop: Loop, health: Health, where: Where, ms_max: int, answered: Callable[[str], None]) -> None:
        self._loop = loop
        self._health = health
        self._where = where
        self._answered = answered
        self._open = True
        self._socket: socket.socket | None = None
        self._child: Child | None = None
        self._hosts = list(where.hosts)
        self._sent = False
        match health.kind:
            case "process":
                self._limit = loop.after(SETTLE_MS, lambda: self._answer(""))
            case "tcp" | "http":
                self._limit = loop.after(ms_max, lambda: self._answer(f"no answer within {ms_max} ms"))
                self._connect()
            case "command":
                self._limit = loop.after(ms_max, lambda: self._answer(f"no answer within {ms_max} ms"))
                self._run()

    def drop(self) -> None:
        """Forget the question."""
        self._open = False
        self._limit.cancel()
        self._close()
        child, self._child = self._child, None
        if child is not None and child.alive:
            child.send_group(signal.SIGKILL)

    def _answer(self, problem: str) -> None:
        if self._open:
            self.drop()
            self._answered(problem)

    # -- over the network -------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._close()
        host = self._hosts.pop(0)
        self._socket = link = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        link.setblocking(False)
        error = link.connect_ex((host, self._health.port))
        if error in (0, errno.EINPROGRESS):
            self._loop.watch(link.fileno(), self._on_ready, write=True)
        else:
            self._loop.after(0, lambda: self._refused(error))

    def _on_ready(self) -> None:
        link = self._socket
        if link is None:
            return
        error = link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._refused(error)
        elif self._health.kind == "tcp":
            self._answer("")
        else:
            self._converse(link)

    def _converse(self, link: socket.socket) -> None:
        try:
            if not self._sent:
                host = f"{link.getpeername()[0]}:{self._health.port}"
                link.send(f"GET {self._health.path or '/'} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                self._sent = True
                self._loop.watch(link.fileno(), self._on_ready)
                return
            first = link.recv(ANSWER_BYTES)
        except OSError as error:
            self._refused(error.errno or 0)
            return
        parts = first.split()
        status = parts[1].decode("ascii", "replace") if len(parts) > 1 and parts[0].startswith(b"HTTP/") else "nothing"
        self._answer("" if status[:1] in ("2", "3") else f"{self._health.path or '/'} answers {status}")

    def _refused(self, error: int) -> None:
        self._sent = False
        if not self._open:
            return
        if self._hosts:
            self._connect()
        else:
            self._answer(f"port {self._health.port}: {os.strerror(error)}")

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    # -- by a command -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        where = self._where
        born = Born(
            argv=where.command,
            env=environment(where.env, where.mark),
            cwd=where.cwd,
            log=where.log,
        )
        try:
            self._child = Child(self._loop, born, self._on_ended)
        except OSError as error:
            problem = f"{where.command[0] if where.command else 'no command'}: {error.strerror or error}"
            self._loop.after(0, lambda: self._answer(problem))

    def _on_ended(self, code: int) -> None:
        self._answer("" if code == 0 else f"{self._where.command[0]}: {describe(code)}")
