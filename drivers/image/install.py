"""What a booted machine does about its own disk: prepare it before joining, put the running image on it, settle.

Run by units of the image (``python3 -m drivers.image.install WHAT``). Only the disk that the rack names on the kernel
command line is touched, and only if it is blank or was prepared by us; a disk with anything else on it is left alone.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from core.errors import InputError
from drivers.image.disk import MIB, STATE_LABEL, disk_bytes, node_cfg, prepare
from drivers.image.grub import BOOT_FOLDER
from drivers.image.partitions import partitions, unreadable
from drivers.image.profile import PROFILES
from drivers.image.slot_filesystem import SlotFailure
from drivers.image.slots import find_disk, open_disk
from drivers.image.stage import Staging, locked, running_slot, stage
from drivers.image.tools import BuildFailure
from drivers.image_port import IMAGES, KEY, RESTART, booted
from drivers.join.boot import CMDLINE, one_line, words

STATE = Path("/run/moxie/state")
BOUND = {"etc": Path("/etc/moxie"), "lib": Path("/var/lib/moxie")}
"""What of the state partition lies where; the initrd does the same at every later boot."""
WORK = Path("/run/moxie")
PROBE_BYTES = 4 << 20
"""A disk whose first and last bytes, this many of each, are all zero is blank: whatever uses a disk marks it there."""
DISK_S_MAX = 20
"""Disks that appear late are waited for."""
STAGE_S_MAX = 1_800
STATE_MB_MAX = 16_384
SPENT = ("token", "image", "slot")
"""Words of this one boot; the others are kept for boots from the disk."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a disk, for the log."""

    text: str
    ready: bool = False


def prepare_disk(path: Path, loader: Path, slot_mb: int) -> Told:
    """Make a blank disk ready; a disk of ours is ready already, any other is left alone.

    Raises: InputError if it cannot be read; BuildFailure.
    """
    if open_disk(path) is not None:
        return Told(text=f"{path}: is ours", ready=True)
    size = _size(path)
    if not is_blank(path, size):
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


def _size(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return file.seek(0, os.SEEK_END)
    except OSError as error:
        raise unreadable(path, error) from None


# -- what the units run ------------------------------------------------------------------------------------------------


def disk() -> int:
    """Before joining: make the disk that the rack names ready, and let what the node remembers live there."""
    name = words(one_line(CMDLINE, "the kernel command line", 8 << 10)).get("disk", "")
    if not name or os.path.ismount(STATE):
        return 0
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
    return 0


def _profile() -> str:
    """The profile of the image that runs: what was built for a cloud needs larger slots."""
    return "hyperconverged" if Path("/usr/bin/ceph-osd").exists() else "minimal"


def _mount(path: Path) -> None:
    """Mount the state partition and bind it over what a node remembers."""
    number = partitions(path)[STATE_LABEL].number
    subprocess.run(("blockdev", "--rereadpt", str(path)), check=False, capture_output=True)
    device = _device(path, number)
    STATE.mkdir(parents=True, exist_ok=True)
    _call("mount", "-t", "ext4", "-o", "rw,nosuid,nodev,noatime", str(device), str(STATE))
    for name, place in BOUND.items():
        (STATE / name).mkdir(mode=0o700, exist_ok=True)
        _call("mount", "--bind", str(STATE / name), str(place))
    print(f"moxie: state on {device}")


def _device(path: Path, number: int) -> Path:
    """The device of a partition, which appears shortly after its table was written."""
    until_s = time.monotonic() + DISK_S_MAX
    while time.monotonic() < until_s:
        for entry in Path("/sys/class/block", path.name).glob(f"{path.name}*"):
            if one_line(entry / "partition", "a partition's number") == str(number):
                return Path("/dev") / entry.name
        time.sleep(0.1)
    raise InputError([f"{path}: partition {number} does not appear"])


def slot() -> int:
    """After joining: put the image that runs into a slot and make it good, so that this machine boots by itself."""
    machine, ours = booted(), find_disk()
    if not machine.image or ours is None or running_slot() is not None:
        return 0
    found = words(one_line(CMDLINE, "the kernel command line", 8 << 10))
    kept = {f"moxie.{key}": value for key, value in found.items() if key not in SPENT}
    with locked():
        ours.write_words(node_cfg(kept))
        if ours.image_in(ours.choice().good) == machine.image:
            return 0
        servers = (machine.server,) if machine.server else ()
        what = Staging(image=machine.image, servers=servers, images=IMAGES, key=KEY, seconds=STAGE_S_MAX)
        outcome = stage(what, ours, None)
        if outcome.slot in ours.slots:
            ours.keep("a" if outcome.slot == "a" else "b")
    print(f"moxie: image {machine.image} in slot {outcome.slot or 'none'} {outcome.detail}")
    return 1 if outcome.failed else 0


def settle() -> int:
    """Ten minutes after a boot: a trial that nobody kept restarts into the slot that has proven itself."""
    running, ours = running_slot(), find_disk()
    if running is None or ours is None or ours.choice().good == running:
        return 0
    print(f"moxie: slot {running} was not kept: restarting into slot {ours.choice().good}")
    _call(*RESTART)
    return 0


def _call(*argv: str) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise BuildFailure(f"{' '.join(argv)}: {done.stderr.strip()[-500:]}")


def main(argv: Sequence[str] | None = None) -> int:
    """Do one of the three; an exit code, never a traceback."""
    parser = argparse.ArgumentParser(prog="install", allow_abbrev=False)
    parser.add_argument("what", choices=("disk", "slot", "settle"))
    what = parser.parse_args(argv).what
    try:
        return disk() if what == "disk" else slot() if what == "slot" else settle()
    except InputError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return 2
    except (BuildFailure, SlotFailure, OSError) as error:
        print(f"moxie: {what}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
