"""Images that this boot server has not, but another one has: machines are sent there for the files.

Only the signed manifest is fetched. A node that was booted from the network has no disk for images, and still has to
boot others: it lets them in and says who they are, and whoever has the image sends it.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature

from core.ids import ImageId
from drivers.ca import write_public
from drivers.image.fetch import FETCHED
from drivers.image.manifest import (
    BYTES_MAX,
    ID_DIGITS,
    MANIFEST,
    SIGNATURE,
    SIGNATURE_BYTES,
    Manifest,
    load_public,
    read_manifest,
)
from drivers.log import event as log
from drivers.netboot.place import IMAGES

ASK_S = 2.0
ASKED_MAX = 32
"""At once."""
OWN = "own"
"""In a query: only what you have yourself. Without it two servers could send a machine back and forth for ever."""


class Borrowed(msgspec.Struct, frozen=True, kw_only=True):
    """An image that ``server`` (``HOST:PORT``) has, and its manifest in ``folder``, which holds nothing else of it."""

    server: str
    folder: Path
    manifest: Manifest


async def borrow(image: ImageId, servers: Sequence[str], images: Path, key: Path) -> Borrowed | None:
    """Find a server that has an image, and keep its manifest; None if nobody has it.

    Raises: InputError if ``key`` is no key, or the manifest cannot be written.
    """
    public, turn = load_public(key), asyncio.Semaphore(ASKED_MAX)

    async def ask(server: str) -> tuple[bytes, bytes]:
        async with turn:
            signed = await get(server, f"{IMAGES}/{image}/{MANIFEST}?{OWN}=1", BYTES_MAX)
            return signed, await get(server, f"{IMAGES}/{image}/{SIGNATURE}?{OWN}=1", SIGNATURE_BYTES)

    for server, (signed, signature) in zip(servers, await asyncio.gather(*map(ask, servers)), strict=True):
        if hashlib.sha256(signed).hexdigest()[:ID_DIGITS] != image:
            continue
        try:
            public.verify(signature, signed)
        except InvalidSignature:
            log("image_refused", image=image, problems=(f"{server} has it with a signature that is none",))
            continue
        return Borrowed(server=server, folder=images / image, manifest=_kept(images / image, signed, signature))
    return None


def _kept(folder: Path, signed: bytes, signature: bytes) -> Manifest:
    """Keep a manifest as a download that has not begun: whoever fetches the image one day goes on from there."""
    write_public(folder / FETCHED, b"")
    write_public(folder / MANIFEST, signed)
    write_public(folder / SIGNATURE, signature)
    return read_manifest(folder)


async def get(server: str, path: str, bytes_max: int) -> bytes:
    """What a server answers to a GET; nothing if it does not answer well within its time."""
    host, _, port = server.rpartition(":")
    with suppress(OSError, EOFError, ValueError, TimeoutError):
        async with asyncio.timeout(ASK_S):
            reader, writer = await asyncio.open_connection(host, int(port), limit=8 << 10)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                if head.split(b" ", 2)[1:2] != [b"200"]:
                    return b""
                found = b""
                while len(found) <= bytes_max and (more := await reader.read(64 << 10)):
                    found += more
                return found if len(found) <= bytes_max else b""
            finally:
                writer.transport.abort()
    return b""
