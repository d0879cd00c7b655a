"""The socket where the agent talks to its supervisor: one agent at a time, whoever came last."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from drivers.log import event as log
from drivers.loop import Loop
from drivers.wire import FromAgent, FromSupervisor, Hello, decode_from_agent, encode

LINE_MAX = 1 << 20
BACKLOG_MAX = 4 << 20
"""What an agent that does not read (stopped, hung) may have waiting; beyond it, it is cut off and has to come again."""
SLOW_BYTES = 64 << 10
"""From here on what changes nothing but time is left out (see ``Door.slow``)."""
HELLO_MS_MAX = 5_000


class _Line:
    """One connection."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.heard = bytearray()
        self.waiting = bytearray()
        self.is_agent = False
        self.open = True


class Door:
    """Listens on a Unix socket that only its owner may use.

    ``heard`` is told every record of the agent (the first is its ``Hello``); ``gone`` that its connection ended and no
    other came in its place.
    """

    def __init__(self, loop: Loop, path: Path, heard: Callable[[FromAgent], None], gone: Callable[[], None]) -> None:
        """Open it. Raises: OSError."""
        self._loop = loop
        self._path = path
        self._heard = heard
        self._gone = gone
        self._lines: dict[int, _Line] = {}
        self._agent: _Line | None = None
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        mask = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(mask)
        self._listener.listen(8)
        loop.watch(self._listener.fileno(), self._accept)

    @property
    def occupied(self) -> bool:
        """Whether an agent is connected."""
        return self._agent is not None

    @property
    def slow(self) -> bool:
        """Whether the agent has not read for a while."""
        return self._agent is not None and len(self._agent.waiting) > SLOW_BYTES

    def say(self, record: FromSupervisor) -> None:
        """Send a record to the agent, if there is one."""
        if self._agent is not None:
            self._send(self._agent, record)

    def voice(self) -> Callable[[FromSupervisor], None]:
        """Return what speaks to the agent of this moment only: its successor must not hear answers meant for it."""
        line = self._agent

        def say(record: FromSupervisor) -> None:
            if line is not None and line is self._agent:
                self._send(line, record)

        return say

    def close(self) -> None:
        """Hang up and remove the socket."""
        for line in list(self._lines.values()):
            line.is_agent = False
            self._hang_up(line)
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            link, _ = self._listener.accept()
            link.setblocking(False)
            line = self._lines[link.fileno()] = _Line(link)
            self._loop.watch(link.fileno(), lambda: self._on_ready(line))
            self._loop.after(HELLO_MS_MAX, lambda: None if line.is_agent else self._hang_up(line))

    def _on_ready(self, line: _Line) -> None:
        if line.waiting:
            self._flush(line)
        try:
            got = line.link.recv(1 << 16) if line.open else b""
        except BlockingIOError:
            return
        except OSError:
            got = b""
        if not got:
            self._hang_up(line)
            return
        line.heard += got
        while line.open:
            first, newline, rest = line.heard.partition(b"\n")
            if not newline:
                break
            line.heard = rest
            self._take(line, bytes(first))
        if len(line.heard) > LINE_MAX:
            log("agent_line_too_long")
            self._hang_up(line)

    def _take(self, line: _Line, text: bytes) -> None:
        try:
            record = decode_from_agent(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log("agent_not_understood", error=str(error))
            self._hang_up(line)
            return
        if not line.is_agent:
            if not isinstance(record, Hello):
                log("agent_without_hello")
                self._hang_up(line)
                return
            before, self._agent = self._agent, line
            line.is_agent = True
            if before is not None:
                before.is_agent = False
                self._hang_up(before)
        self._heard(record)

    def _send(self, line: _Line, record: FromSupervisor) -> None:
        line.waiting += encode(record)
        if len(line.waiting) > BACKLOG_MAX:
            log("agent_does_not_read")
            self._hang_up(line)
        else:
            self._flush(line)

    def _flush(self, line: _Line) -> None:
        try:
            sent = line.link.send(line.waiting)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._loop.post(lambda: self._hang_up(line))
            return
        del line.waiting[:sent]
        self._loop.watch(line.link.fileno(), lambda: self._on_ready(line), write=bool(line.waiting))

    def _hang_up(self, line: _Line) -> None:
        if not line.open:
            return
        line.open = False
        self._lines.pop(line.link.fileno(), None)
        self._loop.unwatch(line.link.fileno())
        line.link.close()
        if line is self._agent:
            self._agent = None
            if line.is_agent:
                self._gone()
