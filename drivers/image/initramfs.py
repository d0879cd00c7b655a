"""The initial RAM disk: busybox, a few kernel modules, and the script that finds the root image and checks it.

It knows the SHA-256 of the one root image it was built for, so whoever trusts the initrd need not trust whoever hands
out the root image.
"""

import stat
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from drivers.image.profile import INITRD_MODULES
from drivers.image.tools import EPOCH_S, BuildFailure, call

APPLETS = (
    *("[", "basename", "cat", "cut", "echo", "find", "findfs", "ip", "losetup", "mkdir", "modprobe", "mount"),
    *(
        "poweroff",
        "reboot",
        "rm",
        "sh",
        "sha256sum",
        "sha512sum",
        "sleep",
        "sort",
        "stat",
        "switch_root",
        "sync",
        "tail",
    ),
    *("tr", "umount", "usleep", "wget"),
)
"""What ``init.sh`` asks of busybox."""
FOLDERS = ("bin", "dev", "proc", "run", "sys", "newroot", "ro", "rw", "lib", "lib/modules")
COMPRESS_S_MAX = 300.0
_FIRST_INODE = 1


class Archive:
    """A cpio archive in the form the kernel unpacks, the same bytes for the same entries in the same order.

    Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst ("newc").
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = _FIRST_INODE

    def folder(self, name: str) -> None:
        """Add a folder; the folders above it come first."""
        self._add(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Add a file."""
        self._add(name, stat.S_IFREG | mode, content)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name: str, major: int, minor: int) -> None:
        """Add a character device."""
        self._add(name, stat.S_IFCHR | 0o600, b"", major, minor)

    def content(self) -> bytes:
        """The whole archive."""
        return b"".join(self._parts) + _entry("TRAILER!!!", 0, 0, b"", 0, 0, links=1, time_s=0)

    def _add(self, name: str, mode: int, content: bytes, major: int = 0, minor: int = 0) -> None:
        links = 2 if stat.S_ISDIR(mode) else 1
        self._parts.append(_entry(name, self._count, mode, content, major, minor, links=links, time_s=EPOCH_S))
        self._count += 1


def _entry(
    name: str, inode: int, mode: int, content: bytes, major: int, minor: int, *, links: int, time_s: int
) -> bytes:
    path = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, links, time_s, len(content), 0, 0, major, minor, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def modules_with_needs(modules: Path, wanted: Sequence[str]) -> tuple[str, ...]:
    """The files of these modules and of all they need, relative to ``modules``, sorted; what is not there is left out.

    ``modules``: /lib/modules/VERSION after depmod.
    """
    needs: dict[str, tuple[str, ...]] = {}
    for line in (modules / "modules.dep").read_text(encoding="utf-8").splitlines():
        path, _, others = line.partition(":")
        needs[path] = tuple(others.split())
    by_name = {Path(path).name.removesuffix(".ko").replace("-", "_"): path for path in needs}
    found: set[str] = set()
    for name in wanted:
        file = by_name.get(name.replace("-", "_"))
        if file is not None:
            found |= {file, *needs[file]}
    return tuple(sorted(found))


def build_initrd(root: Path, busybox: Path, release: str, baked: Mapping[str, str], work: Path) -> bytes:
    """The compressed initrd for the kernel ``release``, whose modules are in ``root``.

    ``baked``: what the script knows, by name, such as the digest of the root image. ``work``: an empty folder.
    Raises: BuildFailure.
    """
    source = root / "usr/lib/modules" / release
    here = work / "initrd/lib/modules" / release
    chosen = modules_with_needs(source, INITRD_MODULES)
    for name in chosen:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes((source / name).read_bytes())
    for name in ("modules.order", "modules.builtin"):
        (here / name).write_bytes((source / name).read_bytes())
    call(("depmod", "-b", str(work / "initrd"), release), seconds=60)
    archive = Archive()
    for name in FOLDERS:
        archive.folder(name)
    archive.device("dev/console", 5, 1)
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    for applet in APPLETS:
        archive.link(f"bin/{applet}", "busybox")
    script = (files("drivers.image") / "init.sh").read_bytes()
    archive.file("init", script, 0o755)
    archive.file("config", "".join(f"{name}={value}\n" for name, value in sorted(baked.items())).encode())
    kept = [*chosen, "modules.dep", "modules.alias", "modules.builtin", "modules.softdep"]
    folders = {str(above) for name in kept for above in (Path("lib/modules") / release / name).parents}
    for name in sorted(folders - {".", *FOLDERS}):
        archive.folder(name)
    for name in sorted(kept):
        archive.file(f"lib/modules/{release}/{name}", (here / name).read_bytes())
    # lz4 in the kernel's own ("legacy") framing: ten times as fast to unpack as xz, and this is unpacked at every boot.
    packed = call(("lz4", "-l", "-9", "-c"), text=archive.content(), seconds=COMPRESS_S_MAX)
    if not packed.startswith(b"\x02\x21\x4c\x18"):
        raise BuildFailure("lz4: wrote no legacy frame, which is the only one the kernel unpacks")
    return packed
