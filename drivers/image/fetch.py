"""Having an image here: what is missing is downloaded from the rack's boot servers, resumed, and verified.

Nothing is believed because of where it came from: the manifest's SHA-256 is the image's id, its signature must be by
the key that this machine's own image brought along, and every file must be what the manifest says.
"""

import hashlib
import http.client
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from core.errors import InputError
from core.ids import ImageId
from drivers.image.manifest import MANIFEST, SIGNATURE, Manifest, check_signature, read_manifest, verify

BYTES_MAX = 8 << 30
"""A larger file is no part of an image."""
SMALL_BYTES_MAX = 1 << 20
SILENCE_S = 20
"""A server that sends nothing for so long is given up for another one."""
PAUSE_S, PAUSE_S_MAX, RETRY_S_MAX = 0.5, 10.0, 30.0
FETCHED = ".fetched"
"""Beside an image that was downloaded, not put here by a person: it may be removed when nothing needs it any more."""
_CHUNK = 1 << 18

Progress = Callable[[int, int], None]
"""Bytes that are here, and bytes of the whole image."""


class NotFetched(Exception):
    """An image could not be had in time; ``refused``: it is not what its maker signed, so trying again is no use."""

    def __init__(self, detail: str, refused: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.refused = refused


def fetch(
    image: ImageId, servers: Sequence[str], images: Path, key: Path, until_s: float, progress: Progress | None = None
) -> Path:
    """Have an image in ``images/<id>``, complete and verified, and give that folder.

    ``servers``: ``HOST:PORT`` each, asked in turn until ``until_s`` (``time.monotonic``). A download that was cut
    goes on where it was, also after a restart of this machine. Raises: NotFetched; InputError if ``key`` is no key.
    """
    folder = images / image
    if (folder / MANIFEST).is_file():
        try:
            if verify(folder, key) == image:
                return folder
            raise InputError([f"{folder}: holds another image than its name says"])
        except InputError as error:
            if not (folder / FETCHED).exists():
                raise NotFetched("; ".join(error.problems), refused=True) from None
            shutil.rmtree(folder, ignore_errors=True)
    if not servers:
        raise NotFetched(f"image {image} is not in {images}, and there is no server to ask")
    part = images / f".{image}.part"
    try:
        part.mkdir(parents=True, exist_ok=True)
        _Download(image, servers, part, key, until_s, progress or (lambda _is, _all: None)).run()
        (part / FETCHED).touch()
        part.rename(folder)
    except OSError as error:
        raise NotFetched(f"{error.filename or part}: {error.strerror or error}") from None
    return folder


def look(image: ImageId, servers: Sequence[str], images: Path, key: Path, until_s: float) -> None:
    """Check that an image can be had, and that its maker signed it, without downloading it.

    Raises: NotFetched; InputError if ``key`` is no key.
    """
    if (images / image / MANIFEST).is_file():
        fetch(image, (), images, key, until_s)
        return
    if not servers:
        raise NotFetched(f"image {image} is not in {images}, and there is no server to ask")
    with tempfile.TemporaryDirectory() as folder:
        _Download(image, servers, Path(folder), key, until_s, lambda _is, _all: None).manifest()
        try:
            check_signature(Path(folder), key)
        except InputError as error:
            raise NotFetched("; ".join(error.problems), refused=True) from None


def prune(images: Path, keep: Sequence[ImageId]) -> tuple[str, ...]:
    """Remove downloaded images that nothing needs, and what is left of downloads; the names of what was removed."""
    removed = []
    for folder in sorted(images.iterdir()) if images.is_dir() else []:
        name = folder.name.removeprefix(".").removesuffix(".part")
        ours = (folder / FETCHED).exists() or folder.name.endswith(".part")
        if ours and name not in keep:
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(name)
    return tuple(removed)


class _Download:
    """One image on its way into ``part``."""

    def __init__(
        self, image: ImageId, servers: Sequence[str], part: Path, key: Path, until_s: float, progress: Progress
    ) -> None:
        self._image, self._part, self._key, self._until_s = image, part, key, until_s
        self._servers = list(servers)
        self._progress = progress
        self._done = 0
        self._size = 0
        self._last = "nobody was asked"

    def run(self) -> None:
        """Raises: NotFetched, OSError."""
        manifest = self.manifest()
        names = sorted(manifest.files)
        self._size = sum(manifest.files[name].bytes for name in names)
        for name in names:
            entry = manifest.files[name]
            if entry.bytes > BYTES_MAX:
                raise NotFetched(f"{name} of image {self._image} has {entry.bytes} bytes; allowed: {BYTES_MAX}", True)
            self._file(name, entry.bytes, entry.sha256)
        try:
            found = verify(self._part, self._key)
        except InputError as error:
            self._forget()
            raise NotFetched("; ".join(error.problems), refused=True) from None
        if found != self._image:
            self._forget()
            raise NotFetched(f"the manifest of {self._image} is that of {found}", refused=True)

    def _forget(self) -> None:
        shutil.rmtree(self._part, ignore_errors=True)

    def manifest(self) -> Manifest:
        """The manifest and its signature, from the first server that has both. Raises: NotFetched, OSError."""
        path = self._part / MANIFEST

        def take(server: str) -> bool:
            manifest = self._small(server, MANIFEST)
            if hashlib.sha256(manifest).hexdigest()[:16] != self._image:
                raise _Unusable(f"{server}: its manifest is not that of {self._image}")
            path.write_bytes(manifest)
            (self._part / SIGNATURE).write_bytes(self._small(server, SIGNATURE))
            return True

        self._try(MANIFEST, take)
        try:
            return read_manifest(self._part)
        except InputError as error:
            self._forget()
            raise NotFetched("; ".join(error.problems), refused=True) from None

    def _small(self, server: str, name: str) -> bytes:
        with self._open(server, name, 0) as answer:
            content = bytes(answer.read(SMALL_BYTES_MAX + 1))
        if len(content) > SMALL_BYTES_MAX:
            raise _Unusable(f"{server}: {name} has more than {SMALL_BYTES_MAX} bytes")
        return content

    def _file(self, name: str, size: int, sha256: str) -> None:
        path = self._part / name
        attempts = 0

        def take(server: str) -> bool:
            nonlocal attempts
            have = path.stat().st_size if path.exists() else 0
            if have < size:
                have = self._append(server, name, path, have, size)
            if have < size:
                return False
            if have == size and _digest(path) == sha256:
                return True
            path.unlink()
            attempts += 1
            if attempts >= len(self._servers):
                self._forget()
                raise NotFetched(f"image {self._image}: {name} fails its check", refused=True)
            raise _Unusable(f"{server}: {name} fails its check")

        self._try(name, take)
        self._done += size

    def _append(self, server: str, name: str, path: Path, have: int, size: int) -> int:
        """Load what is missing at the end of a file; how long it is then."""
        with self._open(server, name, have) as answer, path.open("ab" if have else "wb") as file:
            if have and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                file.truncate(0)
                have = 0
            while have <= size and time.monotonic() < self._until_s and (chunk := answer.read(_CHUNK)):
                file.write(chunk)
                have += len(chunk)
                self._progress(self._done + min(have, size), self._size)
            file.flush()
            os.fsync(file.fileno())
        return have

    def _open(self, server: str, name: str, start: int) -> http.client.HTTPResponse:
        headers = {"Range": f"bytes={start}-"} if start else {}
        request = urllib.request.Request(f"http://{server}/images/{self._image}/{name}", headers=headers)
        seconds = max(0.1, min(SILENCE_S, self._until_s - time.monotonic()))
        answer = _OPENER.open(request, timeout=seconds)
        assert isinstance(answer, http.client.HTTPResponse)
        return answer

    def _try(self, name: str, take: Callable[[str], bool]) -> None:
        """Let one server after the other give it, until it is whole or the time is over. Raises: NotFetched."""
        pause_s = PAUSE_S
        while time.monotonic() < self._until_s:
            server = self._servers[0]
            try:
                if take(server):
                    return
                self._last, pause_s = f"{server}: {name} was cut off", PAUSE_S
            except urllib.error.HTTPError as error:
                error.close()
                self._last = f"{server}: {name}: {error.code} {error.reason}"
                pause_s = max(pause_s, _wished_s(error.headers.get("Retry-After", "")))
            except _Unusable as error:
                self._last = str(error)
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, OSError) and error.filename:
                    raise  # our own disk, not the network
                self._last = f"{server}: {str(error) or type(error).__name__}"
            self._servers.append(self._servers.pop(0))
            time.sleep(max(0.0, min(pause_s, self._until_s - time.monotonic())))
            pause_s = min(2 * pause_s, PAUSE_S_MAX)
        raise NotFetched(f"image {self._image}: {name} was not to be had in time: {self._last}")


def _wished_s(text: str) -> float:
    """How long a busy server asks to be left alone, within a bound."""
    return min(float(text), RETRY_S_MAX) if text.isdigit() and len(text) <= 6 else 0.0


class _Unusable(Exception):
    """What a server sent is not what was asked for."""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Straight to the rack's own servers, whatever proxy the environment names."""
