"""The socket where the agent gives its orders to the netboot service and hears what happens."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from core.ids import NodeId
from drivers.log import event as log
from drivers.netboot.reports import Reports
from drivers.netboot.wire import LINE_MAX, Allow, Heard, Told, Welcome, decode_from_agent, encode

BACKLOG_MAX = 1 << 20
"""What an agent that does not read may have waiting; beyond it, it is cut off and has to come again."""


class Door:
    """Listens on a Unix socket that only its owner may use; the agent is whoever came last."""

    def __init__(self, path: Path, node: NodeId, reports: Reports, allow: Callable[[Allow], None]) -> None:
        self._path = path
        self._node = node
        self._reports = reports
        self._allow = allow
        self._server: asyncio.Server | None = None
        self._agent: asyncio.StreamWriter | None = None
        reports.listener = self._tell

    async def open(self) -> None:
        """Let agents come. Raises: OSError."""
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_MAX)
        finally:
            os.umask(mask)

    async def close(self) -> None:
        """Hang up and remove the socket."""
        if self._server is not None:
            self._server.close()
        if self._agent is not None:
            self._agent.transport.abort()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        before, self._agent = self._agent, writer
        if before is not None:
            before.transport.abort()
        log("agent_here")
        try:
            writer.write(encode(Welcome(pid=os.getpid(), node=self._node)))
            for told in self._reports.kept:
                writer.write(encode(told))
            while line := await reader.readline():
                self._take(line)
        except (OSError, ValueError, msgspec.DecodeError) as error:  # ValueError: a line that is too long
            log("agent_not_understood", error=str(error))
        finally:
            writer.transport.abort()
            if self._agent is writer:
                self._agent = None
                log("agent_gone")

    def _take(self, line: bytes) -> None:
        match decode_from_agent(line):
            case Allow() as order:
                self._allow(order)
            case Heard() as heard:
                self._reports.heard(heard.number)

    def _tell(self, told: Told) -> None:
        writer = self._agent
        if writer is None:
            return
        if writer.transport.get_write_buffer_size() > BACKLOG_MAX:
            log("agent_does_not_read")
            writer.transport.abort()
            return
        with suppress(OSError):
            writer.write(encode(told))
