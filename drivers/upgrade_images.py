"""Which boot servers of a rack have an image, and giving one to the boot server of this node."""

import hashlib
import http.client
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from core.errors import InputError
from core.ids import ImageId, NodeId
from drivers.access import Access, endpoint
from drivers.image.manifest import MANIFEST, SIGNATURE, image_id, read_manifest, verify

ASKED_MAX = 64
"""Of a larger rack the first so many nodes are asked."""
ASK_S = 3.0
BUSY, BUSY_S, BUSY_S_MAX = 503, 0.5, 60.0
"""A server that was just given an image checks it first, and says so; it is asked again, and for so long."""
THREADS = 16
_BYTES_MAX = 1 << 20
_DIGITS = frozenset("0123456789abcdef")


def named(given: str) -> tuple[ImageId, Path | None]:
    """The image that a person names by its id or by its folder. Raises: InputError if it is neither."""
    if len(given) == 16 and not set(given) - _DIGITS:
        return ImageId(given), None
    folder = Path(given)
    try:
        there = (folder / MANIFEST).is_file()
    except (OSError, ValueError):
        there = False
    if not there:
        needed = "an image's id (16 hex digits) or its folder, as 'rack image build --out DIR' made it"
        raise InputError([f"--image {given[:80]!r}: no such image; needed: {needed}"])
    return image_id(folder), folder


def give(access: Access, image: ImageId, folder: Path) -> str:
    """Verify the image in a folder and lay it where this node's boot server finds it; what was done, in words.

    Raises: InputError if it was tampered with, or this is no node that boots others.
    """
    table = access.config.tables.netboot
    if not access.local or table is None:
        where = "a node's own node.toml with a [netboot] table (--config)"
        raise InputError(
            [f"--image {folder}: nobody to give it to; needed: {where}, or the id of an image that is served"]
        )
    key = table.key or table.images / "images.pub"
    verify(folder, key)
    target = table.images / image
    if target.resolve() == folder.resolve():
        return f"image {image} is in {table.images}"
    part = table.images / f".{image}.given"
    try:
        if (target / MANIFEST).is_file():
            verify(target, key)
            return f"image {image} is in {table.images}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name in (MANIFEST, SIGNATURE, *read_manifest(folder).files):
            shutil.copyfile(folder / name, part / name)
        verify(part, key)
        part.rename(target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        why = (error.strerror or str(error)).lower()
        raise InputError([f"{error.filename or target}: {why}; needed: room, and the right to write there"]) from None
    return f"image {image} was copied to {table.images}"


def servers_with(access: Access, image: ImageId) -> tuple[NodeId, ...]:
    """The nodes whose boot servers have an image, in order of the inventory.

    Raises: InputError if none has it.
    """
    table = access.config.tables.netboot
    port = table.http_port if table is not None else 8080
    nodes = list(access.config.machines.items())[:ASKED_MAX]
    with ThreadPoolExecutor(THREADS) as threads:
        asked = [(node, threads.submit(lacks, endpoint(machine.address, port), image)) for node, machine in nodes]
        answers = [(node, answer.result()) for node, answer in asked]
    having = tuple(node for node, said in answers if not said)
    if not having:
        raise InputError([_nobody(image, answers)])
    return having


def _nobody(image: ImageId, answers: Sequence[tuple[NodeId, str]]) -> str:
    reasons: dict[str, list[str]] = {}
    for node, said in answers:
        reasons.setdefault(said, []).append(node)
    told = "; ".join(f"{' '.join(nodes[:5])}{' …' if len(nodes) > 5 else ''}: {why}" for why, nodes in reasons.items())
    remedy = "'rack upgrade start --image DIR --config …/node.toml' on a node that boots others gives it one"
    return f"no boot server of this rack has image {image} ({told or 'nobody to ask'}); {remedy}"


def lacks(server: str, image: ImageId) -> str:
    """Why a server (``HOST:PORT``) is no help with an image; empty if it has it.

    One that still looks is waited for.
    """
    until_s = time.monotonic() + BUSY_S_MAX
    while True:
        try:
            return _ask(server, image)
        except HTTPError as error:
            if error.code != BUSY or time.monotonic() > until_s:
                return error.reason.lower()
        time.sleep(BUSY_S)


def _ask(server: str, image: ImageId) -> str:
    """Why a server is no help now. Raises: HTTPError if it says that it is none."""
    try:
        with build_opener(ProxyHandler({})).open(f"http://{server}/images/{image}/{MANIFEST}", timeout=ASK_S) as answer:
            content = answer.read(_BYTES_MAX)
    except HTTPError:
        raise
    except URLError as error:
        reason = getattr(error, "reason", error)
        return str(getattr(reason, "strerror", None) or reason or error).lower()
    except (OSError, http.client.HTTPException) as error:
        return str(error).lower() or type(error).__name__
    return "" if hashlib.sha256(content).hexdigest()[:16] == image else "serves another manifest under this id"
