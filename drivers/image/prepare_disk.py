"""A disk that the rack gave to a machine: prepared before it joins if it is blank, and home of what the node remembers.

Run by a unit of the image, in the way of every first boot: it imports little. Only the disk that the rack names on the
kernel command line is touched, and only if it is blank or was prepared by us; any other is left alone.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from core.errors import InputError
from drivers.image.disk import BOOT_LABEL, MIB, SLOTS, STATE_LABEL, disk_bytes, prepare, slot_label
from drivers.image.grub import BOOT_FOLDER
from drivers.image.partitions import partition_device, partitions, unreadable
from drivers.image.profile import PROFILES
from drivers.image.tools import BuildFailure

CMDLINE = Path("/proc/cmdline")
WORD = "moxie.disk="
STATE = Path("/run/moxie/state")
BOUND = {"etc": Path("/etc/moxie"), "lib": Path("/var/lib/moxie")}
"""What of the state partition lies where; the initrd does the same at every later boot."""
WORK = Path("/run/moxie")
PROBE_BYTES = 4 << 20
"""A disk whose first and last bytes, this many of each, are all zero is blank: whatever uses a disk marks it there."""
DISK_S_MAX = 20
"""Disks that appear late are waited for."""
STATE_MB_MAX = 16_384
_MAGIC_AT, _MAGIC = 1_024 + 56, b"\x53\xef"
"""Source: Linux, Documentation/filesystems/ext4/globals.rst, s_magic."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a disk, for the log."""

    text: str
    ready: bool = False


def prepare_disk(path: Path, loader: Path, slot_mb: int) -> Told:
    """Make a blank disk ready, and one whose preparation was cut off; ours is ready already, any other is left alone.

    Raises: InputError if it cannot be read; BuildFailure.
    """
    parts, size = partitions(path), _size(path)
    ours = {BOOT_LABEL, STATE_LABEL, *map(slot_label, SLOTS)} <= parts.keys()
    if ours and _has_filesystem(path, parts[STATE_LABEL].offset):
        return Told(text=f"{path}: is ours", ready=True)
    if not ours and not is_blank(path, size):
        return Told(text=f"{path}: holds something that is not ours: left alone; this machine runs from memory")
    state_mb = min(STATE_MB_MAX, (size - disk_bytes(slot_mb, 0)) // MIB)
    if state_mb < slot_mb:
        needed = disk_bytes(slot_mb, slot_mb) // MIB
        return Told(text=f"{path}: {size // MIB} MB are too few: left alone; needed: {needed} MB")
    with tempfile.TemporaryDirectory(dir=WORK if WORK.is_dir() else None) as work:
        prepare(path, loader, slot_mb, state_mb, Path(work))
    return Told(text=f"{path}: prepared, {slot_mb} MB for each slot, {state_mb} MB for state", ready=True)


def is_blank(path: Path, size: int) -> bool:
    """Whether nothing was ever written at the beginning and at the end of a disk. Raises: InputError."""
    try:
        with path.open("rb") as file:
            for at in (0, max(0, size - PROBE_BYTES)):
                file.seek(at)
                if any(file.read(PROBE_BYTES)):
                    return False
    except OSError as error:
        raise unreadable(path, error) from None
    return True


def _has_filesystem(path: Path, offset: int) -> bool:
    """Whether a preparation came to its end: the state partition's filesystem is made last. Raises: InputError."""
    try:
        with path.open("rb") as file:
            file.seek(offset + _MAGIC_AT)
            return file.read(2) == _MAGIC
    except OSError as error:
        raise unreadable(path, error) from None


def _size(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return file.seek(0, os.SEEK_END)
    except OSError as error:
        raise unreadable(path, error) from None


def disk(cmdline: Path = CMDLINE) -> None:
    """Make the disk that the rack names ready, and let what the node remembers live there.

    Raises: InputError, BuildFailure.
    """
    words = cmdline.read_text(encoding="utf-8", errors="replace").split()
    name = next((word.removeprefix(WORD) for word in words if word.startswith(WORD)), "")
    if not name or os.path.ismount(STATE):
        return
    path = Path(name)
    if path.parent != Path("/dev"):
        raise InputError([f"moxie.disk={name[:80]}: allowed: a disk such as /dev/sda"])
    until_s = time.monotonic() + DISK_S_MAX
    while not path.is_block_device() and time.monotonic() < until_s:
        time.sleep(0.1)
    loader = Path("/") / BOOT_FOLDER
    told = prepare_disk(path, loader, PROFILES[_profile()].slot_mb)
    print(f"moxie: disk {told.text}")
    if told.ready:
        _mount(path)


def _profile() -> str:
    """The profile of the image that runs: what was built for a cloud needs larger slots."""
    return "hyperconverged" if Path("/usr/bin/ceph-osd").exists() else "minimal"


def _mount(path: Path) -> None:
    """Mount the state partition and bind it over what a node remembers."""
    number = partitions(path)[STATE_LABEL].number
    STATE.mkdir(parents=True, exist_ok=True)
    with alone(path):
        subprocess.run(("blockdev", "--rereadpt", str(path)), check=False, capture_output=True)
        device = _device(path, number)
        _call("mount", "-t", "ext4", "-o", "rw,nosuid,nodev,noatime", str(device), str(STATE))
    for name, place in BOUND.items():
        (STATE / name).mkdir(mode=0o700, exist_ok=True)
        _call("mount", "--bind", str(STATE / name), str(place))
    print(f"moxie: state on {device}")


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep udev away from a disk.

    Whenever somebody has written to one, udev has the partition table read once more: for a moment there are no
    partitions. Those that are mounted stay.

    Source: systemd.io, "Locking Block Device Access".
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # closing one that could write would be such a moment itself
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _device(path: Path, number: int) -> Path:
    """The device of a partition, which appears shortly after its table was written."""
    until_s = time.monotonic() + DISK_S_MAX
    while time.monotonic() < until_s:
        device = partition_device(path, number)
        if device is not None and device.exists():
            return device
        time.sleep(0.1)
    raise InputError([f"{path}: partition {number} does not appear"])


def _call(*argv: str) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise BuildFailure(f"{' '.join(argv)}: {done.stderr.strip()[-500:]}")


def main() -> int:
    """Do it: an exit code, never a traceback."""
    try:
        disk()
    except InputError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return 2
    except (BuildFailure, OSError) as error:
        print(f"moxie: disk: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
