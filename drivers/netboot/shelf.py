"""The images that a boot server has: each verified before the first byte of it is sent, and again when it changed."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from core.errors import InputError
from core.ids import ImageId
from drivers.image.fetch import FETCHED
from drivers.image.manifest import (
    BOOT_FILES,
    MANIFEST,
    SIGNATURE,
    Manifest,
    digest,
    image_id,
    read_manifest,
    verify,
)
from drivers.log import event as log
from drivers.netboot.peers import borrow

SLOTS = Path("/run/moxie/slots")
"""Where a machine that booted from its disk finds the image that it runs, as an image folder."""
RUNNING = Path("/run/moxie/image")
"""Holds the id of the image that this machine booted, if it booted one."""
IMAGES_MAX = 64
BORROWED_MS = 60_000
"""So long another server is believed to have an image still."""
ABSENT_MS = 5_000
"""So long an image that nobody has is not looked for again."""

V = TypeVar("V")
Stamp = tuple[tuple[str, int, int], ...]


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A verified image. ``files``: SHA-256 and size by name. ``stamp`` changes when somebody touches its folder.

    ``server``: which other server (``HOST:PORT``) has all but the manifest and its signature, "" if everything is here;
    true until ``until_ms``.
    """

    id: ImageId
    folder: Path
    words: str
    files: dict[str, tuple[str, int]]
    stamp: Stamp = ()
    server: str = ""
    until_ms: int = 0


class Shelf:
    """The images of one server. ``folder`` holds a folder for each, by its id; ``more`` holds folders of any name.

    ``servers`` names the other servers (``HOST:PORT``) that may have what is not here.
    """

    def __init__(
        self,
        folder: Path,
        key: Path,
        clock_ms: Callable[[], int],
        servers: Callable[[], Sequence[str]] = tuple,
        more: Path = SLOTS,
    ) -> None:
        self._folder = folder
        self._key = key
        self._clock_ms = clock_ms
        self._servers = servers
        self._more = more
        self._images: dict[ImageId, Image] = {}
        self._refused: dict[ImageId, Stamp] = {}
        self._absent: dict[ImageId, int] = {}
        self._busy = asyncio.Lock()

    def get(self, image: ImageId) -> Image | None:
        """An image that was verified, as long as its files are those that were verified."""
        found = self._images.get(image)
        if found is None:
            return None
        if found.server:
            if self._clock_ms() < found.until_ms:
                return found
        elif _stamp(found.folder, found.files) == found.stamp:
            return found
        else:
            log("image_changed", image=image)
        del self._images[image]
        return None

    def may_have(self, image: ImageId, *, elsewhere: bool) -> bool:
        """Whether it is of use to look for an image now: here, or also at other servers."""
        if any(self._refused.get(image) != _stamp_of(folder) for folder in self._folders(image)):
            return True
        return elsewhere and bool(self._servers()) and self._clock_ms() >= self._absent.get(image, 0)

    async def look(self, image: ImageId) -> Image | None:
        """Verify an image that is not known yet, here or at another server. Takes seconds for a large one."""
        async with self._busy:
            if (found := self.get(image)) is not None:
                return found
            for folder in self._folders(image):
                stamp = _stamp_of(folder)
                if self._refused.get(image) == stamp:
                    continue
                try:
                    return await asyncio.to_thread(self.take, folder, image)
                except InputError as error:
                    if not (folder / FETCHED).exists():
                        log("image_refused", image=image, problems=tuple(error.problems))
                        _keep(self._refused, image, stamp)
            return await self._borrow(image)

    def take(self, folder: Path, image: ImageId) -> Image:
        """Verify the image in a folder. Raises: InputError if it is missing, tampered with, or another one."""
        stamp = _stamp_of(folder)
        found = verify(folder, self._key)
        if found != image:
            raise InputError([f"{folder}: holds image {found}; needed: {image}"])
        manifest = read_manifest(folder)
        files = _files(manifest)
        if missing := [name for name in BOOT_FILES if name not in files]:
            raise InputError([f"{folder / name}: is missing; needed: a whole image" for name in missing])
        files |= _signed(folder)
        taken = Image(id=found, folder=folder, words=manifest.cmdline, files=files, stamp=stamp)
        self._images[found] = taken
        return taken

    def folder_of(self, image: ImageId) -> Path:
        """Where an image lies, or would."""
        return next(iter(self._folders(image)), self._folder / image)

    async def _borrow(self, image: ImageId) -> Image | None:
        found = None
        try:
            found = await borrow(image, self._servers(), self._folder, self._key)
        except InputError as error:
            log("image_not_borrowed", image=image, problems=tuple(error.problems))
        if found is None:
            _keep(self._absent, image, self._clock_ms() + ABSENT_MS)
            return None
        log("image_elsewhere", image=image, server=found.server)
        taken = self._images[image] = Image(
            id=image,
            folder=found.folder,
            words=found.manifest.cmdline,
            files={**_files(found.manifest), **_signed(found.folder)},
            server=found.server,
            until_ms=self._clock_ms() + BORROWED_MS,
        )
        return taken

    def _folders(self, image: ImageId) -> list[Path]:
        found = [self._folder / image] if (self._folder / image / MANIFEST).is_file() else []
        slots = sorted(self._more.iterdir())[:IMAGES_MAX] if self._more.is_dir() else []
        return found + [slot for slot in slots if (slot / MANIFEST).is_file() and image_id(slot) == image]


def _keep(known: dict[ImageId, V], image: ImageId, value: V) -> None:
    known[image] = value
    while len(known) > IMAGES_MAX:
        del known[next(iter(known))]


def _files(manifest: Manifest) -> dict[str, tuple[str, int]]:
    return {name: (entry.sha256, entry.bytes) for name, entry in sorted(manifest.files.items())}


def _signed(folder: Path) -> dict[str, tuple[str, int]]:
    return {name: (digest(folder / name), (folder / name).stat().st_size) for name in (MANIFEST, SIGNATURE)}


def _stamp_of(folder: Path) -> Stamp:
    """The stamp of an image's folder; that of a folder without a manifest that can be read is empty."""
    try:
        return _stamp(folder, (MANIFEST, SIGNATURE, *read_manifest(folder).files))
    except InputError:
        return ()


def _stamp(folder: Path, names: Sequence[str] | dict[str, tuple[str, int]]) -> Stamp:
    """What changes when a file is written or replaced."""
    found = []
    for name in sorted(names):
        try:
            seen = (folder / name).stat()
        except OSError:
            found.append((name, -1, -1))
        else:
            found.append((name, seen.st_mtime_ns, seen.st_size))
    return tuple(found)
