"""Disks that a node boots from: a boot loader, two slots for images, and a partition for what the node remembers.

The same functions write a file (``disk.img``, a USB key) and a node's own disk: nothing is mounted. GRUB chooses the
slot by three words in ``grub/grubenv``: ``good`` is the slot that has proven itself, ``next`` one to be tried, and
``tries`` how often. A trial is used up before it begins: whatever hangs in a new slot, the next boot is the good one's.
"""

import os
import shutil
import struct
import uuid
from collections.abc import Mapping
from pathlib import Path

import msgspec

from core.errors import InputError
from drivers.image.grub import boot_sector, core_sectors, grubenv
from drivers.image.tools import EPOCH_S, BuildFailure, call

DISK_PROGRAMS = ("sfdisk", "mformat", "mcopy", "mmd", "mke2fs", "debugfs")
SECTOR = 512
MIB = 1 << 20
BOOT_LABEL, STATE_LABEL = "MOXIE-BOOT", "moxie-state"
SLOTS = ("a", "b")
LOADER_MB, BOOT_MB = 1, 64
SLOT_CFG = "slot.cfg"
_TYPES = {
    "loader": "21686148-6449-6E6F-744E-656564454649",
    "boot": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "linux": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
}
"""Partition types. Source: the UEFI specification and GRUB's manual (BIOS boot partition)."""
_NAMES = uuid.uuid5(uuid.NAMESPACE_DNS, "disk.moxie.invalid")
_FEATURES = "^metadata_csum_seed,^orphan_file"
"""What Debian 12's GRUB cannot read in an ext4. Source: its grub-core/fs/ext2.c."""
_FORBIDDEN = frozenset("\"'$\\`")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One partition: where it begins and how long it is, in bytes."""

    name: str
    kind: str
    begin: int
    size: int


def slot_label(slot: str) -> str:
    """The label of a slot's file system and partition."""
    return f"moxie-slot-{slot}"


def layout(slot_mb: int, state_mb: int) -> tuple[Part, ...]:
    """The partitions of a disk, in order: 1 boot loader, 2 boot, 3 slot a, 4 slot b, 5 state."""
    sizes = (
        ("moxie-loader", "loader", LOADER_MB),
        (BOOT_LABEL, "boot", BOOT_MB),
        *((slot_label(slot), "linux", slot_mb) for slot in SLOTS),
        (STATE_LABEL, "linux", state_mb),
    )
    parts, at = [], MIB
    for name, kind, size_mb in sizes:
        parts.append(Part(name=name, kind=kind, begin=at, size=size_mb * MIB))
        at += size_mb * MIB
    return tuple(parts)


def disk_bytes(slot_mb: int, state_mb: int) -> int:
    """How large a disk of this layout is at least, in bytes."""
    last = layout(slot_mb, state_mb)[-1]
    return last.begin + last.size + MIB


def slot_cfg(folder: Path) -> str:
    """What GRUB reads beside a slot's kernel: the image's own kernel words. Raises: InputError."""
    from drivers.image.manifest import (  # a library for signatures: not in the way of a first boot
        image_id,
        read_manifest,
    )

    cmdline = read_manifest(folder).cmdline
    if _FORBIDDEN & set(cmdline):
        raise InputError([f"{folder}: cmdline {cmdline[:80]!r}: allowed: no quotes, dollars and backslashes"])
    return f'set slot_words="{cmdline} moxie.image={image_id(folder)}"\n'


def node_cfg(words: Mapping[str, str]) -> str:
    """What GRUB reads beside its own configuration: kernel words of this one node, such as ``moxie.ip``.

    Raises: InputError if a word cannot stand there.
    """
    for name, value in words.items():
        text = f"{name}={value}"
        if _FORBIDDEN & set(text) or " " in text or not (text.isascii() and text.isprintable()):
            raise InputError([f"kernel word {text[:80]!r}: allowed: printable ASCII without blanks, quotes, dollars"])
    return f'set node_words="{" ".join(f"{name}={value}" for name, value in words.items())}"\n'


def prepare(disk: Path, loader: Path, slot_mb: int, state_mb: int, work: Path, slot_a: Path | None = None) -> None:
    """Write partitions, file systems and boot loader on a disk, which loses everything that was on it.

    ``disk``: a file of at least ``disk_bytes`` or a block device; ``loader``: the folder that ``grub.make_loader``
    filled; ``work``: an empty folder; ``slot_a``: a folder whose content goes into slot a.
    Raises: BuildFailure.
    """
    parts = layout(slot_mb, state_mb)
    call(
        ("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=always", str(disk)),
        text=_table(parts),
        seconds=60,
    )
    with disk.open("r+b") as file:
        protective = file.read(SECTOR)
        begin = parts[0].begin // SECTOR
        core = core_sectors((loader / "core.img").read_bytes(), begin)
        if len(core) > parts[0].size:
            raise BuildFailure(f"GRUB's core is {len(core)} bytes; its partition has {parts[0].size}")
        file.seek(0)
        file.write(boot_sector((loader / "boot.img").read_bytes(), protective, begin))
        file.seek(parts[0].begin)
        file.write(core)
    _write_boot(disk, parts[1], loader, work)
    for part, content in zip(parts[2:], (slot_a, None, None), strict=True):
        _write_ext4(disk, part, content)
    with disk.open("r+b") as file:
        os.fsync(file.fileno())


def write_disk(image: Path, loader: Path, slot_mb: int, state_mb: int, work: Path) -> Path:
    """Write ``disk.img`` beside an image: a disk whose slot a holds that image. The same bytes for the same image.

    ``loader``: see ``prepare``; ``work``: an empty folder. Raises: InputError, BuildFailure.
    """
    from drivers.image.manifest import DISK

    staged = work / "slot"
    staged.mkdir()
    names = [path.name for path in sorted(image.iterdir()) if path.name != DISK]
    for name in names:
        shutil.copyfile(image / name, staged / name)
    (staged / SLOT_CFG).write_text(slot_cfg(image))
    needed = sum(path.stat().st_size for path in staged.iterdir())
    if needed > slot_mb * MIB * 9 // 10:
        raise BuildFailure(f"the image has {needed // MIB} MB; a slot of {slot_mb} MB does not take it")
    for path in (*staged.iterdir(), staged):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (EPOCH_S, EPOCH_S))
    disk = image / DISK
    with disk.open("wb") as file:
        file.truncate(disk_bytes(slot_mb, state_mb))
    prepare(disk, loader, slot_mb, state_mb, work, staged)
    shutil.rmtree(staged)
    return disk


def _table(parts: tuple[Part, ...]) -> bytes:
    lines = ["label: gpt", f"label-id: {_identity('disk')}", "unit: sectors", ""]
    for number, part in enumerate(parts, 1):
        place = f"start={part.begin // SECTOR}, size={part.size // SECTOR}, type={_TYPES[part.kind]}"
        lines.append(f'{number}: {place}, uuid={_identity(part.name)}, name="{part.name}"')
    return "\n".join(lines).encode() + b"\n"


def _identity(name: str) -> str:
    return str(uuid.uuid5(_NAMES, name)).upper()


def _write_boot(disk: Path, part: Part, loader: Path, work: Path) -> None:
    staged = work / "boot"
    files = {
        "EFI/BOOT/BOOTX64.EFI": (loader / "BOOTX64.EFI").read_bytes(),
        "grub/grub.cfg": (loader / "grub.cfg").read_bytes(),
        "grub/grubenv": grubenv({"good": SLOTS[0], "next": "", "tries": "0"}),
    }
    place = f"{disk}@@{part.begin}"
    serial = f"{struct.unpack('>I', uuid.UUID(_identity(part.name)).bytes[:4])[0]:08x}"
    sectors = str(part.size // SECTOR)
    variables = {"MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": os.devnull, "TZ": "UTC"}
    call(
        ("mformat", "-i", place, "-F", "-T", sectors, "-h", "64", "-s", "32", "-v", BOOT_LABEL, "-N", serial, "::"),
        seconds=60,
        variables=variables,
    )
    for folder in ("EFI", "EFI/BOOT", "grub"):
        call(("mmd", "-i", place, f"::/{folder}"), seconds=60, variables=variables)
    for name, content in files.items():
        path = staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (EPOCH_S, EPOCH_S))
        call(("mcopy", "-i", place, "-m", str(path), f"::/{name}"), seconds=60, variables=variables)
    shutil.rmtree(staged)


def _write_ext4(disk: Path, part: Part, content: Path | None) -> None:
    identity = _identity(f"{part.name}:ext4")
    extended = f"offset={part.begin},hash_seed={identity},lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    extra = ("-d", str(content)) if content is not None else ()
    argv = ("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-I", "256", "-O", _FEATURES)
    names = ("-L", part.name, "-U", identity, "-E", extended)
    call((*argv, *names, *extra, str(disk), f"{part.size // 1024}k"), seconds=600)
    if content is not None:
        # mke2fs copies the time when a file's inode changed, which nobody can set on the file itself.
        paths = ["/", *(f"/{path.relative_to(content)}" for path in sorted(content.rglob("*")))]
        orders = "".join(f"set_inode_field {path} ctime @{EPOCH_S}\n" for path in paths)
        call(("debugfs", "-w", "-f", "-", f"{disk}?offset={part.begin}"), text=orders.encode(), seconds=60)
