"""The guard export of an attached volume: 4 KiB reads and writes past every cache, none of which can hang its caller.

The file is served by the process that holds the volume open. A call that the storage does not answer sits in the
kernel, where no signal reaches it, until that process is killed; so one thread for each volume makes the calls, and
those who ask wait no longer than their limit.
"""

import contextlib
import errno
import mmap
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from drivers.clock import now_ms
from drivers.guard_block import AREA_BYTES, BLOCK_BYTES

Outcome = Literal["ok", "refused", "failed"]

REFUSED = (errno.ESHUTDOWN, errno.EROFS)
"""What a fenced instance gets, and one that may not have the lock because somebody else holds it exclusively.
Source: facts/ceph.md section 3."""
WAITING_MAX = 4
POLL_S = 0.002


class Request:
    """One call; ``outcome`` stays "failed" until it is answered."""

    __slots__ = ("at", "done", "error", "outcome", "raw", "write")

    def __init__(self, at: int, write: bytes | None) -> None:
        self.at = at
        self.write = write
        self.raw = b""
        self.error = ""
        self.outcome: Outcome = "failed"
        self.done = threading.Event()


class GuardFile:
    """Opens the export once it shows a size, then makes calls one after the other until ``end``."""

    def __init__(self, path: Path, gone: Callable[[], bool]) -> None:
        """``gone``: whether the process that serves the file has ended."""
        self._path = path
        self._gone = gone
        self._requests: queue.Queue[Request | None] = queue.Queue(WAITING_MAX)
        self._opened = threading.Event()
        self._problem = ""
        self._shut = False
        self._ended = False
        threading.Thread(target=self._serve, name=f"guard {path.parent.name}", daemon=True).start()

    def opened(self, ms_max: int) -> str:
        """Wait until the export is there and open; "" or what went wrong."""
        if not self._opened.wait(max(ms_max, 1) / 1_000):
            return f"the export did not show the image within {ms_max} ms"
        return self._problem

    def read(self, at: int, ms_max: int) -> bytes | str:
        """Read the 4 KiB at an offset; a str is what went wrong."""
        request = self._ask(Request(at, None), ms_max)
        return request.raw if request.outcome == "ok" else request.error or "the storage did not answer"

    def write(self, at: int, raw: bytes, ms_max: int) -> Outcome:
        """Write 4 KiB; "ok" once the storage has them. After one "refused" every later one is, without asking."""
        return self._ask(Request(at, raw), ms_max).outcome

    def end(self) -> None:
        """Make no more calls; the thread ends as soon as the one under way returns."""
        self._ended = True
        with contextlib.suppress(queue.Full):  # then it looks at ``_ended`` after each of those
            self._requests.put_nowait(None)

    def _ask(self, request: Request, ms_max: int) -> Request:
        until_ms = now_ms() + ms_max
        try:
            self._requests.put(request, timeout=max(ms_max, 1) / 1_000)
        except queue.Full:
            return request
        request.done.wait(max(until_ms - now_ms(), 0) / 1_000)
        return request

    # -- the thread -------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        handle = self._open()
        self._opened.set()
        if handle < 0:
            return
        with mmap.mmap(-1, BLOCK_BYTES) as page:  # direct I/O wants memory that is aligned to a page
            while not self._ended and (request := self._requests.get()) is not None:
                self._answer(handle, page, request)
        with contextlib.suppress(OSError):  # the process that serves the file may be gone
            os.close(handle)

    def _open(self) -> int:
        """Wait for the export and open it; -1 when it never came."""
        while not self._ended and not self._gone():
            try:
                if self._path.stat().st_size > AREA_BYTES:
                    return os.open(self._path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
            except OSError as error:
                self._problem = f"the export: {error.strerror}"
                return -1
            self._opened.wait(POLL_S)  # nobody sets it but this thread: a pause
        self._problem = "the process that opens the image has ended"
        return -1

    def _answer(self, handle: int, page: mmap.mmap, request: Request) -> None:
        try:
            if request.write is None:
                os.preadv(handle, [page], request.at)
                request.raw = page[:]
            elif self._shut:
                raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))
            else:
                page[:] = request.write
                os.pwritev(handle, [page], request.at)
            request.outcome = "ok"
        except OSError as error:
            self._shut |= error.errno in REFUSED
            request.outcome = "refused" if error.errno in REFUSED else "failed"
            request.error = error.strerror or str(error)
        request.done.set()
