"""The volumes that a node's supervisor holds open: each in a process of its own that dies with the supervisor.

``qemu-storage-daemon`` opens the image (one client instance) and shows it twice as a file (FUSE): ``guard`` for the
storage beat, ``image`` for a loop device with the file system. Two files, because a write that hangs blocks its file.
Whatever may block is done by another process or a daemon thread, and is waited for no longer than its limit.
"""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from core.ids import Epoch, NodeId, ServiceName, VolumeName
from drivers.clock import now_ms
from drivers.config import CephTable
from drivers.guard_block import (
    AREA_BYTES,
    FORMAT_AT,
    GUARD_AT,
    FormatBlock,
    GuardBlock,
    decode_format,
    decode_guard,
    encode_format,
    encode_guard,
)
from drivers.guard_file import GuardFile, Outcome, command
from drivers.programs import End, run
from drivers.volume_orphans import clear_orphans

FILE_SYSTEM = "ext4"
KILL_MS_MAX = 500
"""For so long a kill waits for what is left to go away; after that it goes away by itself."""


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A volume that is open; ``pid`` is the process that holds it. Nothing was written to it by opening."""

    volume: VolumeName
    service: ServiceName
    epoch: Epoch
    pid: int


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why something was not done, in a sentence."""

    detail: str


class _Open:
    """One attachment and what belongs to it."""

    def __init__(
        self, attachment: Attachment, folder: Path, process: "subprocess.Popen[bytes]", guard: GuardFile
    ) -> None:
        self.attachment = attachment
        self.folder = folder
        self.process = process
        self.guard = guard
        self.formatted = False
        self.mounted = False
        self.written = False
        self.counter = 0
        self.lock = threading.Lock()
        self.ended = threading.Event()


class Volumes:
    """All volumes of one supervisor. Calls for different volumes may come from different threads."""

    def __init__(self, table: CephTable, run_dir: Path, node: NodeId, launch: Sequence[str] = ()) -> None:
        """``launch`` goes before the command that opens an image, to run it in a network namespace, say."""
        self._table = table
        self._root = run_dir / "volumes"
        self._node = node
        self._launch = tuple(launch)
        self._open: dict[VolumeName, _Open] = {}
        self._count = 0
        self._lock = threading.Lock()
        # The kernel kills a child when the *thread* that started it ends: this one lives as long as the supervisor.
        self._spawner = ThreadPoolExecutor(1, "volumes")

    def clear_orphans(self) -> int:
        """Remove what a supervisor left that died: processes, mounts, loop devices, files. Returns how many.

        To be called once, before the first ``attach``.
        """
        return clear_orphans(self._root)

    def attached(self, volume: VolumeName) -> Attachment | None:
        """The attachment of a volume, while its process lives."""
        opened = self._open.get(volume)
        return opened.attachment if opened is not None and not opened.ended.is_set() else None

    # -- open and close ---------------------------------------------------------------------------------------------

    def attach(self, volume: VolumeName, service: ServiceName, epoch: Epoch, ms_max: int) -> Attachment | Trouble:
        """Open a volume in a new process, without writing to it. An attachment from before is killed."""
        until_ms = now_ms() + ms_max
        self.kill(volume)
        folder = self._folder(volume, epoch)
        try:
            conf = self._make_files(folder)
            process = self._spawner.submit(self._start_image, self._command(volume, conf, folder), folder).result()
            child = self._spawner.submit(self._start_guard, folder).result()
        except OSError as error:
            return Trouble(detail=f"{volume} could not be opened: {error}")
        guard = GuardFile(child, volume)
        attachment = Attachment(volume=volume, service=service, epoch=epoch, pid=process.pid)
        opened = _Open(attachment, folder, process, guard)
        self._watch_start(opened)
        problem = guard.opened(until_ms - now_ms()) or self._look(opened, until_ms)
        if problem:
            said = _last_line(folder / "daemon.log")
            self._throw_away(opened)
            return Trouble(detail=f"{problem}: {said}" if said else problem)
        with self._lock:
            self._open[volume] = opened
        return attachment

    def _look(self, opened: _Open, until_ms: int) -> str:
        """Read the first blocks: whose the image is, and whether it has a file system."""
        guard = opened.guard.read(GUARD_AT, until_ms - now_ms())
        form = opened.guard.read(FORMAT_AT, until_ms - now_ms())
        if isinstance(guard, str) or isinstance(form, str):
            problem = guard if isinstance(guard, str) else str(form)
            return f"the image cannot be read: {problem}"
        mark = decode_format(form)
        if "foreign" in (decode_guard(guard), mark):
            return "the image holds something else: it was not made for Moxie, and is left alone"
        opened.formatted = isinstance(mark, FormatBlock)
        return ""

    def detach(self, volume: VolumeName, epoch: Epoch, ms_max: int) -> str:
        """Flush and close; "" only if everything reached the storage. What cannot be closed well is killed."""
        until_ms = now_ms() + ms_max
        opened = self._taken(volume, epoch)
        if opened is None:
            return f"{volume} is not attached for epoch {epoch}"
        problem = self._close(opened, until_ms)
        self._throw_away(opened)
        return problem

    def _close(self, opened: _Open, until_ms: int) -> str:
        with opened.lock:
            if opened.mounted:
                problem = self._unmount(opened, until_ms)
                if problem:
                    return problem
            # A file system whose writes were refused unmounts without an error: one more write tells.
            if opened.written and (how := self._write_guard(opened, until_ms - now_ms())) != "ok":
                return f"the last write was not acknowledged ({how})"
            opened.process.send_signal(signal.SIGTERM)
            if not opened.ended.wait(max(until_ms - now_ms(), 1) / 1_000):
                return "the process that holds the image did not end in time"
            code = opened.process.returncode
            return f"the process that holds the image ended with {code}" if code else ""

    def kill(self, volume: VolumeName) -> None:
        """Take a volume away at once, not cleanly: no write of it leaves this node any more. Never blocks for long."""
        opened = self._taken(volume)
        if opened is not None:
            self._throw_away(opened)

    def close(self) -> None:
        """Take every volume away, as ``kill`` does, and end the thread that started their processes."""
        for volume in list(self._open):
            self.kill(volume)
        self._spawner.shutdown(wait=True)

    # -- the file system --------------------------------------------------------------------------------------------

    def mount(self, volume: VolumeName, ms_max: int) -> Path | Trouble:
        """Make a file system if there never was one, recover its journal, mount it; return where."""
        until_ms = now_ms() + ms_max
        opened = self._open.get(volume)
        if opened is None:
            return Trouble(detail=f"{volume} is not attached")
        with opened.lock:
            if opened.mounted:
                return opened.folder / "fs"
            opened.written = True
            flags = ("--find", "--show", "--direct-io=on", "--offset", str(AREA_BYTES))
            end = run(("losetup", *flags, str(opened.folder / "image")), until_ms - now_ms())
            if end.problem:
                return Trouble(detail=f"no loop device: {end.problem}")
            device = end.said.strip()
            problem = self._make_file_system(opened, device, until_ms) or self._mount(opened, device, until_ms)
            # While it is mounted this only asks the kernel to let the device go with the mount.
            run(("losetup", "--detach", device), KILL_MS_MAX)
            if problem:
                return Trouble(detail=problem)
            opened.mounted = True
            if self._open.get(volume) is not opened:  # killed meanwhile, and swept before it was mounted
                run(("umount", "--lazy", str(opened.folder / "fs")), KILL_MS_MAX)
                return Trouble(detail=f"{volume} was taken away")
            return opened.folder / "fs"

    def _make_file_system(self, opened: _Open, device: str, until_ms: int) -> str:
        if opened.formatted:
            return ""
        flags = ("-q", "-F", "-m", "0", "-E", "nodiscard")
        end = run((f"mkfs.{FILE_SYSTEM}", *flags, device), until_ms - now_ms())
        if end.problem:
            return f"no file system: {end.problem}"
        mark = encode_format(FormatBlock(file_system=FILE_SYSTEM))
        if opened.guard.write(FORMAT_AT, mark, until_ms - now_ms()) != "ok":
            return "that the file system was made could not be written"
        opened.formatted = True
        return ""

    def _mount(self, opened: _Open, device: str, until_ms: int) -> str:
        options = "noatime,nodiscard,errors=remount-ro"
        words = ("mount", "-t", FILE_SYSTEM, "-o", options, device, str(opened.folder / "fs"))
        end: End = run(words, until_ms - now_ms())
        return f"not mounted: {end.problem}" if end.problem else ""

    def unmount(self, volume: VolumeName, ms_max: int) -> str:
        """Unmount; "" if that went well. Whether all of it reached the storage only ``detach`` tells."""
        until_ms = now_ms() + ms_max
        opened = self._open.get(volume)
        if opened is None:
            return f"{volume} is not attached"
        with opened.lock:
            return self._unmount(opened, until_ms) if opened.mounted else ""

    def _unmount(self, opened: _Open, until_ms: int) -> str:
        end = run(("umount", str(opened.folder / "fs")), until_ms - now_ms())
        opened.mounted = bool(end.problem)
        return f"not unmounted: {end.problem}" if end.problem else ""

    # -- the storage beat -------------------------------------------------------------------------------------------

    def probe(self, volume: VolumeName, epoch: Epoch, ms_max: int) -> Outcome:
        """Write the guard block through the volume's own client instance, past every cache.

        "refused": the instance is fenced, for good. "failed": no answer in time, or nothing attached for this epoch.
        """
        opened = self._open.get(volume)
        if opened is None or opened.attachment.epoch != epoch:
            return "failed"
        return self._write_guard(opened, ms_max)

    def _write_guard(self, opened: _Open, ms_max: int) -> Outcome:
        about = opened.attachment
        opened.written = True
        opened.counter += 1
        block = GuardBlock(
            volume=about.volume, service=about.service, node=self._node, epoch=about.epoch, counter=opened.counter
        )
        return opened.guard.write(GUARD_AT, encode_guard(block), ms_max)

    # -- processes and files ----------------------------------------------------------------------------------------

    def _taken(self, volume: VolumeName, epoch: Epoch | None = None) -> _Open | None:
        with self._lock:
            opened = self._open.get(volume)
            if opened is None or epoch not in (None, opened.attachment.epoch):
                return None
            return self._open.pop(volume)

    def _folder(self, volume: VolumeName, epoch: Epoch) -> Path:
        """Name a folder that was never used: what is left of an older one may still be going away."""
        with self._lock:
            self._count += 1
            return self._root / volume / f"{epoch}.{os.getpid()}.{self._count}"

    def _make_files(self, folder: Path) -> Path:
        """Make the files that the image is shown over, and the storage's configuration; return the latter."""
        (folder / "fs").mkdir(mode=0o700, parents=True)
        for name in ("guard", "image"):
            (folder / name).touch(mode=0o600)
        text = self._table.conf.read_text(encoding="utf-8")
        if self._table.keyring is not None:
            text += f"\n[client.{self._table.user}]\nkeyring = {self._table.keyring}\n"
        conf = folder / "ceph.conf"
        conf.write_text(text + "\n[client]\nadmin_socket =\nlog_file =\nclient_mount_timeout = 10\n", encoding="utf-8")
        return conf

    def _command(self, volume: VolumeName, conf: Path, folder: Path) -> tuple[str, ...]:
        image = f"driver=rbd,node-name=image,pool={self._table.pool},image={volume},conf={conf},user={self._table.user}"
        argv = ["qemu-storage-daemon", "--blockdev", f"{image},auto-read-only=off,cache.direct=on"]
        for name in ("guard", "image"):
            argv += ["--export", f"type=fuse,id={name},node-name=image,mountpoint={folder / name},writable=on"]
        return ("setpriv", "--pdeathsig", "KILL", *self._launch, *argv)

    def _start_image(self, argv: Sequence[str], folder: Path) -> "subprocess.Popen[bytes]":
        with (folder / "daemon.log").open("wb") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        (folder / "daemon.pid").write_text(f"{process.pid}\n", encoding="ascii")
        return process

    def _start_guard(self, folder: Path) -> "subprocess.Popen[bytes]":
        argv = ("setpriv", "--pdeathsig", "KILL", *command(folder / "guard"))
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, stdin=pipe, stdout=pipe, bufsize=0, start_new_session=True)

    def _watch_start(self, opened: _Open) -> None:
        """End the wait for the export when the process that is to show it has ended."""

        def watch() -> None:
            opened.process.wait()
            opened.ended.set()
            opened.guard.end()

        threading.Thread(target=watch, name=f"volume {opened.attachment.volume}", daemon=True).start()

    def _throw_away(self, opened: _Open) -> None:
        """Kill the process if it lives, then unmount and remove what is left, waiting for that only a moment."""
        opened.guard.end()
        opened.process.kill()
        _in_background(lambda: _sweep(opened), KILL_MS_MAX)


def _sweep(opened: _Open) -> None:
    opened.ended.wait()
    folder = opened.folder
    for name in ("fs", "image", "guard"):
        if os.path.ismount(folder / name) or name != "fs":
            run(("umount", "--lazy", str(folder / name)), 60_000)
    shutil.rmtree(folder, ignore_errors=True)


def _in_background(act: Callable[[], None], ms_max: int) -> None:
    thread = threading.Thread(target=act, name="volumes sweep", daemon=True)
    thread.start()
    thread.join(ms_max / 1_000)


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""
