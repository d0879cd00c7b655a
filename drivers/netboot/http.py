"""A small HTTP/1.1 server for files and a few texts: GET and HEAD, ranges, bounded in every direction.

It exists because what it serves is paced: pieces of a file are sent when the bandwidth of all transfers together has
room for them. It never looks for a file by a name that somebody sent: what to answer is decided by ``Routes``.
"""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote

import msgspec

from drivers.join.crowd import Crowd, Limits
from drivers.log import event as log
from drivers.netboot.pace import Pace

HEAD_BYTES_MAX = 8 << 10
FIELDS_MAX = 64
PIECE_BYTES = 256 << 10
"""Sent at once: at 1 Gbit/s 2 ms, so that every stream has its turn soon."""
SMALL_BYTES = 1 << 20
"""Files up to here need no place among the streams."""
HEAD_S_MAX, IDLE_S_MAX = 10, 30
PIECE_S_MAX = 20
"""Whoever does not take a piece in this time (13 kB/s) is cut off."""
PATIENCE_MS = 12_000
"""So long somebody stands in line for a stream before being told to come again. Clients give up after 20 s."""
RETRY_S = 5
REQUESTS_MAX = 1_000
"""On one connection."""
CROWD = Limits(connections_max=512, each_max=8, knocks_max=200, knocks_ms=10_000)
REASONS = {
    200: "OK",
    206: "Partial Content",
    302: "Found",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    416: "Range Not Satisfiable",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
RANGE = re.compile(r"^bytes=([0-9]{0,15})-([0-9]{0,15})$")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked, and from where. ``fields`` by name in lower case."""

    method: Literal["GET", "HEAD"]
    path: str
    query: dict[str, str]
    fields: dict[str, str]
    address: str
    again: bool = True


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """A file to send. ``tag``: what it is, changed with every byte of it. ``sent`` is told when bytes have gone out.

    It is called with the offset behind the last byte sent, while the file is on its way and at its end.
    """

    path: Path
    size: int
    tag: str
    sent: Callable[[int], None]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered: a text, a file, or where it is (``elsewhere``, a URL)."""

    status: int = 200
    text: str = ""
    file: Served | None = None
    retry_s: int = 0
    elsewhere: str = ""


Routes = Callable[[Request], "Reply"]


class Part(msgspec.Struct, frozen=True):
    """Bytes ``first`` to ``end`` (without ``end``); ``partial`` if that is less than was there to ask for."""

    first: int
    end: int
    partial: bool = True


def part_of(asked: str, condition: str, size: int, tag: str) -> Part | None:
    """The part of a file that ``Range`` and ``If-Range`` ask for; None: there is no such part.

    What is no range that we know (several at once, another unit) is ignored, as is allowed. Source: RFC 9110, 14.2.
    """
    whole = Part(0, size, False)
    found = RANGE.match(asked.replace(" ", ""))
    if found is None or (condition and condition != tag):
        return whole
    first, last = found.groups()
    if not first and not last:
        return whole
    if not first:
        length = int(last)
        return Part(max(0, size - length), size) if length and size else None
    begin, end = int(first), min(int(last) + 1 if last else size, size)
    if last and int(last) < begin:
        return whole
    return Part(begin, end) if begin < size else None


def parse(head: bytes, address: str) -> Request | int:
    """Read a request's head; a status if it is none that is answered."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1") or not words[1].startswith("/"):
        return 400
    if words[0] not in ("GET", "HEAD"):
        return 405
    if len(lines) > FIELDS_MAX:
        return 431
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            return 400
        fields[name.lower()] = value.strip()
    if fields.get("content-length", "0") != "0" or "transfer-encoding" in fields:
        return 400  # nobody sends us anything
    path, _, query = words[1].partition("?")
    wishes = fields.get("connection", "").lower()
    return Request(
        method="HEAD" if words[0] == "HEAD" else "GET",
        path=unquote(path, errors="replace"),
        query=dict(parse_qsl(query, keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="replace")),
        fields=fields,
        address=address,
        again=wishes == "keep-alive" or (words[2] == "HTTP/1.1" and wishes != "close"),
    )


class HttpServer:
    """Serves one boot network. ``admits``: whether an address may ask at all. ``heard`` gets a line for each answer."""

    def __init__(
        self,
        routes: Routes,
        pace: Pace,
        admits: Callable[[str], bool],
        heard: Callable[[Request, int, int], None],
    ) -> None:
        self._routes = routes
        self._pace = pace
        self._admits = admits
        self._heard = heard
        self._crowd = Crowd(CROWD)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, address: str, port: int) -> int:
        """Listen; the port. Raises: OSError if it is taken."""
        server = await asyncio.start_server(self._serve, address, port, limit=HEAD_BYTES_MAX, backlog=128)
        self._servers.append(server)
        found: int = server.sockets[0].getsockname()[1]
        return found

    async def stop(self) -> None:
        """Stop listening and hang up on everybody."""
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._servers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = writer.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        entered = bool(address) and self._admits(address) and self._crowd.enter(address, int(self._pace.clock_ms()))
        try:
            if entered:
                await self._converse(reader, writer, address)
        except (OSError, EOFError, TimeoutError):
            pass  # gone, or too slow: what was begun is asked for again
        finally:
            if entered:
                self._crowd.leave(address)
            self._tasks.discard(task)
            await _hang_up(writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        for count in range(REQUESTS_MAX):
            try:
                async with asyncio.timeout(IDLE_S_MAX if count else HEAD_S_MAX):
                    head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                await self._answer(writer, None, Reply(status=431))
                return
            request = parse(head, address)
            if isinstance(request, int):
                await self._answer(writer, None, Reply(status=request))
                return
            await self._answer(writer, request, self._routes(request))
            if not request.again:
                return

    async def _answer(self, writer: asyncio.StreamWriter, request: Request | None, reply: Reply) -> None:
        if reply.file is None or request is None:
            body = (reply.text or REASONS[reply.status] + "\n").encode()
            fields = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
            if reply.retry_s:
                fields["Retry-After"] = str(reply.retry_s)
            if reply.elsewhere:
                fields["Location"] = reply.elsewhere
            again = request is not None and request.again
            bare = request is not None and request.method == "HEAD"
            writer.write(_head(reply.status, fields, again) + (b"" if bare else body))
            async with asyncio.timeout(PIECE_S_MAX):
                await writer.drain()
            if request is not None:
                self._heard(request, reply.status, 0 if bare else len(body))
            return
        await self._answer_file(writer, request, reply.file)

    async def _answer_file(self, writer: asyncio.StreamWriter, request: Request, file: Served) -> None:
        part = part_of(request.fields.get("range", ""), request.fields.get("if-range", ""), file.size, file.tag)
        fields = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "ETag": file.tag}
        if part is None:
            fields |= {"Content-Range": f"bytes */{file.size}", "Content-Length": "0"}
            writer.write(_head(416, fields, request.again))
            self._heard(request, 416, 0)
            return
        fields["Content-Length"] = str(part.end - part.first)
        if part.partial:
            fields["Content-Range"] = f"bytes {part.first}-{part.end - 1}/{file.size}"
        status = 206 if part.partial else 200
        if request.method == "HEAD":
            writer.write(_head(status, fields, request.again))
            self._heard(request, status, 0)
            return
        large = part.end - part.first > SMALL_BYTES
        if large and not await self._pace.streams.enter(PATIENCE_MS):
            await self._answer(writer, request, Reply(status=503, retry_s=RETRY_S))
            return
        sent = part.first
        try:
            writer.write(_head(status, fields, request.again))
            async with asyncio.timeout(PIECE_S_MAX):
                await writer.drain()
            with file.path.open("rb") as source:
                while sent < part.end:
                    size = min(PIECE_BYTES, part.end - sent)
                    await self._pace.pause(size)
                    async with asyncio.timeout(PIECE_S_MAX):
                        went = await asyncio.get_running_loop().sendfile(writer.transport, source, sent, size)
                    if went < size:
                        raise EOFError  # the file is shorter than it was: hang up, the asker sees that it is not whole
                    sent += went
                    file.sent(sent)
        finally:
            if large:
                self._pace.streams.leave()
            self._heard(request, status, sent - part.first)


def _head(status: int, fields: dict[str, str], again: bool) -> bytes:
    kept = {**fields, "Server": "moxie", "Connection": "keep-alive" if again else "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in kept.items())
    return f"HTTP/1.1 {status} {REASONS[status]}\r\n{lines}\r\n".encode()


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Close; whoever does not take what is left within a second loses it."""
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            await writer.wait_closed()
            return
    writer.transport.abort()


def hear_nothing(request: Request, status: int, size: int) -> None:
    """Log no access."""
    del request, status, size


def logs_access(clock_ms: Callable[[], int], most: int = 50, ms: int = 10_000) -> Callable[[Request, int, int], None]:
    """Log who got what, at most ``most`` lines in ``ms``; what is left out is counted in the next."""
    from drivers.join.crowd import Voice

    voice = Voice(most, ms)

    def heard(request: Request, status: int, size: int) -> None:
        if voice.may(clock_ms()):
            kept, voice.kept = voice.kept, 0
            fields = {"left_out": kept} if kept else {}
            log("http", address=request.address, path=request.path[:200], status=status, bytes=size, **fields)

    return heard
