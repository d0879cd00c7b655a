"""An image's root file system as it is looked at: the list of all its files, and its configuration unpacked."""

import re
import shutil
import subprocess
from pathlib import Path

import msgspec

from core.errors import InputError
from drivers.children import PATH

PARTS = (
    *("etc", "lib", "usr/lib/os-release", "usr/lib/systemd", "usr/lib/sysctl.d", "usr/lib/modprobe.d"),
    *("usr/lib/tmpfiles.d", "usr/lib/modules/*/config"),
)
"""What is unpacked: nothing but configuration is looked into."""
SECONDS_MAX = 120
BYTES_MAX = 64 << 20
_ROW = re.compile(r"^([-dlbcps])([-rwxsStT]{9}) (\d+)/(\d+)\s+(?:\d+|\d+, *\d+) \S+ \S+ squashfs-root(/.*)?$")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file: ``kind`` and ``rights`` as ``ls -l`` writes them, ``path`` from the root on."""

    kind: str
    rights: str
    uid: int
    gid: int
    path: str

    @property
    def privileged(self) -> bool:
        """Whether it is a program that runs with another's rights."""
        return self.kind == "-" and bool({"s", "S"} & set(self.rights))

    @property
    def writable(self) -> bool:
        """Whether everybody may write it, and it is not a folder in which each sees to his own files."""
        return self.kind != "l" and self.rights[7] == "w" and not (self.kind == "d" and self.rights[8] in "tT")


def listing(squashfs: Path) -> tuple[Entry, ...]:
    """List every file of a squashfs. Raises: InputError."""
    entries = []
    for line in _unsquashfs("-lln", str(squashfs)).splitlines():
        row = _ROW.match(line)
        if row is not None:
            path = (row[5] or "/").partition(" -> ")[0]
            entries.append(Entry(kind=row[1], rights=row[2], uid=int(row[3]), gid=int(row[4]), path=path))
    if not entries:
        raise InputError([f"{squashfs}: no files in it; needed: a root image as `rack image build` makes it"])
    return tuple(entries)


def unpack(squashfs: Path, into: Path) -> None:
    """Unpack the configuration of a squashfs into a new folder. Raises: InputError."""
    _unsquashfs("-quiet", "-no-progress", "-no-xattrs", "-force", "-dest", str(into), str(squashfs), *PARTS)


def _unsquashfs(*words: str) -> str:
    program = shutil.which("unsquashfs", path=PATH)
    if program is None:
        raise InputError(["unsquashfs: not installed; remedy: apt-get install squashfs-tools"])
    try:
        done = subprocess.run([program, *words], capture_output=True, timeout=SECONDS_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError([f"unsquashfs: {error}"]) from None
    if done.returncode and not done.stdout:
        said = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"])[0]
        raise InputError([f"{said[:300]}; needed: an image folder as `rack image build` makes it"])
    return done.stdout[:BYTES_MAX].decode(errors="replace")
