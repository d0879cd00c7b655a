"""The guard export of an attached volume: 4 KiB reads and writes past every cache, none of which can hang its caller.

A call that the storage does not answer sits in the kernel, where no signal reaches it, until the process that serves
the file is killed. So another process makes the calls (``drivers.guard_child``), one thread for each volume waits for
it, and those who ask wait no longer than their limit.
"""

import contextlib
import errno
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Literal

from drivers import guard_child
from drivers.clock import now_ms
from drivers.guard_block import AREA_BYTES, BLOCK_BYTES

Outcome = Literal["ok", "refused", "failed"]

REFUSED = (errno.ESHUTDOWN, errno.EROFS)
"""What a fenced instance gets, and one that may not have the lock because somebody else holds it exclusively.
Source: facts/ceph.md section 3."""
GONE = errno.ENOTCONN
WAITING_MAX = 4
IDLE_S = 1.0


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


def command(path: Path) -> tuple[str, ...]:
    """The command of the process that makes the calls."""
    return (sys.executable, "-I", "-S", guard_child.__file__, str(path), str(AREA_BYTES))


class GuardFile:
    """Makes calls one after the other through ``child``, a process started with ``command``, until ``end``."""

    def __init__(self, child: "subprocess.Popen[bytes]", name: str) -> None:
        self._child = child
        self._requests: queue.Queue[Request] = queue.Queue(WAITING_MAX)
        self._opened = threading.Event()
        self._problem = ""
        self._shut = False
        self._ended = False
        threading.Thread(target=self._serve, name=f"guard {name}", daemon=True).start()

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
        """Make no more calls. A process that sits in one ends once the server of the file is gone."""
        self._ended = True
        if self._child.poll() is None:
            self._child.kill()

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
        code = self._code()
        if code:
            self._problem = "the process that opens the image has ended" if code == GONE else os.strerror(code)
        self._opened.set()
        while not code and not self._ended:
            with contextlib.suppress(queue.Empty):
                self._answer(self._requests.get(timeout=IDLE_S))
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.kill()
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        self._child.stdout.close()
        self._child.wait()

    def _answer(self, request: Request) -> None:
        assert self._child.stdin is not None
        code = errno.ESHUTDOWN if self._shut else 0
        if not code:
            letter, raw = ("R", b"") if request.write is None else ("W", request.write)
            try:
                self._child.stdin.write(f"{letter}{request.at:010d}".encode() + raw)
                code = self._code()
            except OSError:
                code = GONE
        if not code and request.write is None:
            request.raw = self._taken(BLOCK_BYTES)
        self._shut |= code in REFUSED
        request.outcome = "ok" if not code else "refused" if code in REFUSED else "failed"
        request.error = os.strerror(code) if code else ""
        request.done.set()

    def _code(self) -> int:
        """Read an error number; the end of the process is one too."""
        return int(self._taken(3) or GONE)

    def _taken(self, size: int) -> bytes:
        assert self._child.stdout is not None
        return self._child.stdout.read(size)
