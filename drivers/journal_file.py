"""The journal on disk: the canonical lines of ``core.journal`` in segments that each replay alone.

A segment opens with ``open`` and ``snapshot`` lines, unless it is an agent's first. One write a step, on its way to the
disk within a second; what a crash tears off is the end of the last line, and the next agent cuts it away.
"""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

from core.effects import AnyEffect
from core.events import AnyEvent
from core.ids import NodeId
from core.journal import Kind, Opening, encode, write_line
from drivers.clock import now_ms

KEPT = 4
"""Segments kept, the one being written included."""
SYNC_SECONDS = 1.0
SYNC_MS_MAX = 30_000
"""A disk that has not taken a second's lines by then is broken."""
CLOSE_SECONDS_MAX = 1.0
PREFIX, SUFFIX = "journal-", ".jsonl"


class JournalBroken(Exception):
    """The journal cannot be written any more (a full or broken disk): the agent must step down. A sentence."""


class JournalFile:
    """The journal of one agent process, in ``folder``. For one thread.

    ``bytes_max``: at which size a segment is closed; the folder holds up to ``KEPT`` of them. Raises: JournalBroken,
    here and from every method but ``close``.
    """

    def __init__(self, folder: Path, opening: Opening, incarnation: int, at_ms: int, bytes_max: int) -> None:
        self.folder = folder
        self._opening = opening
        self._node: NodeId = opening.node.id
        self._incarnation = incarnation
        self._bytes_max = bytes_max
        self._pending = bytearray()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = segments(folder)
            self._number = number_of(found[-1]) if found else 1
            self._descriptor, self._size = _open_cut(self.path)
        except OSError as error:
            raise _broken(folder, error) from None
        self._sync = _Sync(self._descriptor)
        self._line(at_ms, "open", encode(opening))
        try:
            self._flush()
        except JournalBroken:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """The segment that is being written."""
        return self.folder / f"{PREFIX}{self._number:08d}{SUFFIX}"

    @property
    def size(self) -> int:
        """Bytes of the segment that is being written."""
        return self._size

    def event(self, at_ms: int, event: AnyEvent) -> None:
        """Note an event; it is written with the next ``step``."""
        self._line(at_ms, "event", encode(event))

    def effect(self, at_ms: int, effect: AnyEffect) -> None:
        """Note an effect; it is written with the next ``step``."""
        self._line(at_ms, "effect", encode(effect))

    def step(self, at_ms: int, snapshot: Callable[[], bytes]) -> None:
        """Write what was noted, at once; begin a new segment first if it would not fit into this one's size.

        Call between the machine's step and its effects' way to their ports: nothing is done that is not written.
        ``snapshot`` gives the state *after* that step, for a segment that begins behind it.
        """
        self._flush()
        if self._size >= self._bytes_max:
            self._rotate(at_ms, snapshot())

    def go_on(self, at_ms: int, snapshot: bytes) -> None:
        """Write the state that this journal begins with: it takes over from another one."""
        self._line(at_ms, "snapshot", snapshot)
        self._flush()

    def close(self) -> None:
        """Bring everything to the disk, as far as it takes it, and close the file."""
        self._sync.close()
        os.close(self._descriptor)

    def _line(self, at_ms: int, kind: Kind, body: bytes) -> None:
        self._pending += write_line(at_ms, self._node, self._incarnation, kind, body)

    def _flush(self) -> None:
        self._sync.check(self.path)
        try:
            _write_whole(self._descriptor, self._pending)
        except OSError as error:
            self._undo()
            raise _broken(self.path, error) from None
        self._size += len(self._pending)
        self._pending.clear()
        self._sync.want()

    def _undo(self) -> None:
        """Cut off what a failed write left of a line; if even that fails, the next agent does it."""
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            return

    def _rotate(self, at_ms: int, snapshot: bytes) -> None:
        """Begin a new segment; the oldest makes room before, in case the disk is nearly full."""
        try:
            for path in segments(self.folder)[: -(KEPT - 1)]:
                path.unlink()
            self._number += 1
            descriptor, size = _open_cut(self.path)
        except OSError as error:
            raise _broken(self.path, error) from None
        old, self._descriptor, self._size = self._descriptor, descriptor, size
        self._sync.move(descriptor, old)
        self._line(at_ms, "open", encode(self._opening))
        self._line(at_ms, "snapshot", snapshot)
        self._flush()


class _Sync:
    """A thread that brings a file to the disk once a second while something was written; the writer never waits."""

    def __init__(self, descriptor: int) -> None:
        self._condition = threading.Condition()
        self._descriptor = descriptor
        self._old: list[int] = []
        self._wanted = False
        self._closing = False
        self._since_ms = -1
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def want(self) -> None:
        """Something was written."""
        if not self._wanted:
            with self._condition:
                self._wanted = True
                self._condition.notify()

    def check(self, path: Path) -> None:
        """Raise JournalBroken for what the disk said since."""
        if self._error is None and 0 <= self._since_ms < now_ms() - SYNC_MS_MAX:
            self._error = OSError(errno.ETIMEDOUT, "the disk does not answer")
        if self._error is not None:
            raise _broken(path, self._error)

    def move(self, descriptor: int, old: int) -> None:
        """Go on with another file; the old one is brought to the disk and closed."""
        with self._condition:
            self._descriptor = descriptor
            self._old.append(old)
            self._wanted = True
            self._condition.notify()

    def close(self) -> None:
        """Sync once more and end; a disk that hangs is not waited for longer than ``CLOSE_SECONDS_MAX``."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(CLOSE_SECONDS_MAX)

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._condition:
                self._condition.wait_for(lambda: self._wanted or self._closing)
                closing, self._wanted = self._closing, False
                descriptor, old = self._descriptor, self._old
                self._old = []
            self._since_ms = now_ms()
            try:
                for done in old:
                    os.fsync(done)
                    os.close(done)
                os.fsync(descriptor)
            except OSError as error:
                self._error = error
                return
            self._since_ms = -1
            with self._condition:
                self._condition.wait_for(lambda: self._closing or self._old, SYNC_SECONDS)


def segments(folder: Path) -> list[Path]:
    """The segments in a folder, oldest first. Raises: OSError."""
    return sorted(path for path in folder.glob(f"{PREFIX}*{SUFFIX}") if path.stem[len(PREFIX) :].isdigit())


def number_of(path: Path) -> int:
    """The number of a segment."""
    return int(path.stem[len(PREFIX) :])


def _open_cut(path: Path) -> tuple[int, int]:
    """Open a segment for appending behind its last whole line; its descriptor and size. Raises: OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        whole = _whole(descriptor, size)
        if whole < size:
            os.ftruncate(descriptor, whole)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor, whole


def _whole(descriptor: int, size: int) -> int:
    """Where the last whole line ends, looked for from the end."""
    step = 1 << 16
    end = size
    while end > 0:
        start = max(0, end - step)
        at = os.pread(descriptor, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def _write_whole(descriptor: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while len(view):
        written = os.write(descriptor, view)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[written:]


def _broken(path: Path, error: OSError) -> JournalBroken:
    reason = error.strerror or str(error)
    return JournalBroken(f"the journal at {path} cannot be written: {reason.lower()}; remedy: make room or repair it")
