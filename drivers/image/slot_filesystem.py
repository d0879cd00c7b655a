"""Filesystems in a part of a disk, made and read without mounting anything: mke2fs and debugfs know offsets.

Source: mke2fs(8), options -d and -E offset; debugfs(8), "device?offset=N".
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from drivers.image.partitions import Partition, place

TOOL_S_MAX = 900
BLOCK = 4_096
FEATURES = "^has_journal,^resize_inode,^metadata_csum_seed,^orphan_file"
"""A slot is written once and then only read; the last two are what Debian 12's GRUB cannot read."""
_CHUNK = 1 << 20
_SAID_MAX = 500
_SBIN = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")


class SlotFailure(Exception):
    """A slot could not be written, or did not read back as it was written; the text says why."""


def make(disk: Path, part: Partition, files: Sequence[Path], extra: dict[str, bytes], label: str) -> None:
    """Make a filesystem in a partition that holds these files, and ``extra`` by name; on the disk when this returns.

    Raises: SlotFailure.
    """
    device, offset = place(disk, part)
    with _gathered(files, extra) as folder:
        where = ("-E", f"offset={offset},lazy_itable_init=0,nodiscard", "-d", str(folder))
        kind = ("-q", "-F", "-F", "-t", "ext4", "-b", str(BLOCK), "-m", "0", "-I", "256", "-O", FEATURES, "-L", label)
        _run("mke2fs", *kind, *where, str(device), str(part.bytes // BLOCK))
    try:
        flush(device, offset, part.bytes)
    except OSError as error:
        raise SlotFailure(f"{device}: {error.strerror}") from None


def flush(device: Path, offset: int, size: int) -> None:
    """Have these bytes on the disk, and forget them here, so that the next reader reads the disk.

    Raises: OSError.
    """
    handle = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, offset, size, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def read(disk: Path, part: Partition, name: str, bytes_max: int) -> bytes:
    """A small file at the top of a partition's filesystem; empty if there is none.

    Raises: SlotFailure if there is no filesystem, or the file is longer than that.
    """
    found = b"".join(_chunks(disk, part, name, bytes_max))
    if len(found) > bytes_max:
        raise SlotFailure(f"{name} has more than {bytes_max} bytes")
    return found


def digest_of(disk: Path, part: Partition, name: str) -> tuple[int, str]:
    """Size and SHA-256 of a file at the top of a partition's filesystem. Raises: SlotFailure."""
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(disk, part, name, part.bytes):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def _chunks(disk: Path, part: Partition, name: str, bytes_max: int) -> Iterator[bytes]:
    """The bytes of a file, until its end or just over ``bytes_max``."""
    device, offset = place(disk, part)
    argv = (_tool("debugfs"), "-R", f"cat /{name}", f"{device}?offset={offset}")
    given = 0
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            while given <= bytes_max and (chunk := child.stdout.read(_CHUNK)):
                given += len(chunk)
                yield chunk
        finally:
            if given > bytes_max:
                child.kill()
        said = child.stderr.read(_SAID_MAX).decode(errors="replace")
        child.stderr.close()
    if "Filesystem not open" in said or "while trying to open" in said:
        raise SlotFailure(f"{part.name} of {disk}: holds no filesystem")


def put_in_boot(disk: Path, boot: Partition, name: str, content: bytes) -> None:
    """Write a file of the boot partition, unless it is there already. Raises: SlotFailure."""
    place = ("-i", f"{disk}@@{boot.offset}")
    try:
        there = _run("mcopy", *place, f"::/{name}", "-")
    except SlotFailure:
        there = b""
    if there != content:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "file"
            file.write_bytes(content)
            _run("mcopy", *place, "-o", str(file), f"::/{name}")


def put_folder_in_boot(disk: Path, boot: Partition, folder: Path, under: str) -> None:
    """Write a folder with all that is in it into a folder of the boot partition, over what is there of it.

    It is on the disk when this returns. Raises: SlotFailure.
    """
    place = ("-i", f"{disk}@@{boot.offset}")
    try:
        _run("mdir", *place, f"::/{under}")
    except SlotFailure:
        _run("mmd", *place, f"::/{under}")
    _run("mcopy", *place, "-s", "-o", str(folder), f"::/{under}/")
    try:
        flush(disk, boot.offset, boot.bytes)
    except OSError as error:
        raise SlotFailure(f"{disk}: {error.strerror}") from None


@contextmanager
def _gathered(files: Sequence[Path], extra: dict[str, bytes]) -> Iterator[Path]:
    """A folder with exactly these files: links where that is possible, and removed in the end."""
    beside = files[0].parent if files and os.access(files[0].parent, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="slot-", dir=beside) as name:
        folder = Path(name)
        try:
            for file in files:
                _link(file, folder / file.name)
            for title, content in extra.items():
                (folder / title).write_bytes(content)
        except OSError as error:
            raise SlotFailure(f"{error.filename}: {error.strerror}") from None
        yield folder


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _run(program: str, *words: str) -> bytes:
    try:
        done = subprocess.run(
            (_tool(program), *words), capture_output=True, timeout=TOOL_S_MAX, check=False, env=_environment()
        )
    except subprocess.TimeoutExpired:
        raise SlotFailure(f"{program}: no end after {TOOL_S_MAX} s") from None
    except OSError as error:
        raise SlotFailure(f"{program}: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-_SAID_MAX:]
        raise SlotFailure(f"{program}: {said or f'exit code {done.returncode}'}")
    return done.stdout


def _tool(program: str) -> str:
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), *_SBIN))) or program


def _environment() -> dict[str, str]:
    return {"PATH": os.pathsep.join(_SBIN), "LC_ALL": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": os.devnull}
