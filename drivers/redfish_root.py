"""Who speaks Redfish: the service root, which every such BMC shows to anybody (DSP0266, 6.2)."""

import asyncio
import http.client
import io
import ssl
from collections.abc import Iterable

import msgspec

from drivers.clock import now_ms

AT_ONCE_MAX = 192
CONNECT_MS, ANSWER_MS = 700, 3_000
BYTES_MAX = 64 << 10
ROOT = "/redfish/v1/"


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """What a service root says. ``uuid``: the service's own, which is not always the machine's."""

    version: str = msgspec.field(name="RedfishVersion")
    uuid: str | None = msgspec.field(name="UUID", default=None)


class _Stream:
    """Bytes in the place of a socket, as ``http.client`` reads them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)


def read_root(data: bytes) -> Root | None:
    """Read a whole HTTP answer; None if it is no Redfish service root."""
    try:
        answer = http.client.HTTPResponse(_Stream(data))  # type: ignore[arg-type]  # all it needs of a socket
        answer.begin()
        body = answer.read(BYTES_MAX)
        if answer.status != http.client.OK:
            return None
        return msgspec.json.decode(body, type=Root)
    except (http.client.HTTPException, ValueError, OSError, AttributeError, LookupError):
        return None


async def ask_roots(addresses: Iterable[str], port: int, tls: bool, until_ms: int) -> dict[str, Root]:
    """Ask addresses for their service root; who answered with one. Ends by ``until_ms`` (the node's clock).

    No password is sent and no certificate checked: that is for the login, which says what is wrong with it.
    """
    found: dict[str, Root] = {}
    waiting = iter(tuple(addresses))

    async def work() -> None:
        for address in waiting:
            left_ms = until_ms - now_ms()
            if left_ms <= 0:
                return
            root = await _ask_one(address, port, tls, left_ms)
            if root is not None:
                found[address] = root

    await asyncio.gather(*(work() for _ in range(AT_ONCE_MAX)))
    return found


async def _ask_one(address: str, port: int, tls: bool, left_ms: int) -> Root | None:
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(min(CONNECT_MS, left_ms) / 1_000):
            reader, writer = await asyncio.open_connection(address, port, limit=BYTES_MAX)
        async with asyncio.timeout(min(ANSWER_MS, left_ms) / 1_000):
            if tls:
                await writer.start_tls(_anybody(), server_hostname=address)
            shown = f"[{address}]" if ":" in address else address
            writer.write(f"GET {ROOT} HTTP/1.1\r\nHost: {shown}\r\nConnection: close\r\n\r\n".encode())
            return read_root(await _all(reader))
    except (OSError, TimeoutError, ssl.SSLError, ValueError, EOFError):
        return None
    finally:
        if writer is not None:
            writer.transport.abort()


async def _all(reader: asyncio.StreamReader) -> bytes:
    """Everything up to the end of the connection, at most ``BYTES_MAX``."""
    found = bytearray()
    while len(found) < BYTES_MAX and (part := await reader.read(BYTES_MAX - len(found))):
        found += part
        if _is_whole(found):
            break
    return bytes(found)


def _is_whole(data: bytearray) -> bool:
    """Whether an answer with a length is all there: not every BMC closes the connection."""
    head, gap, body = data.partition(b"\r\n\r\n")
    if not gap:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = line.partition(b":")[2].strip()
            return length.isdigit() and len(length) < 9 and len(body) >= int(length)
        if line.startswith(b"transfer-encoding:"):
            return body.endswith(b"0\r\n\r\n")
    return False


def _anybody() -> ssl.SSLContext:
    """Take whatever certificate a BMC has from its factory, also with a short key: who is not found cannot be told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context
