"""GRUB for BIOS and UEFI: its images, the sectors that lead to it, and the block of words that it remembers.

Everything is made from the files of Debian's packages, so that neither building nor writing a disk needs to mount or
install anything.
"""

import shutil
import struct
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from drivers.image.tools import BuildFailure, call

BOOT_FOLDER = "usr/lib/moxie/boot"
"""Where an image holds what a node's disk needs to boot: boot.img, core.img, BOOTX64.EFI, grub.cfg."""
SECTOR = 512
ENV_BYTES = 1_024
"""Source: GRUB's manual, "Environment block": exactly so long, filled up with number signs."""
_ENV_HEAD = b"# GRUB Environment Block\n"
_MODULES = (
    *("part_gpt", "fat", "ext2", "search", "search_label", "configfile", "normal", "loadenv", "test", "echo", "linux"),
    *("serial", "terminal", "sleep", "reboot", "halt", "boot", "minicmd"),
)
_BEGIN = "search --no-floppy --label --set=root MOXIE-BOOT\nset prefix=($root)/grub\nconfigfile ($root)/grub/grub.cfg\n"
_KERNEL_SECTOR, _DRIVE_CHECK, _CODE_END = 0x5C, 0x66, 440
"""Source: GRUB's include/grub/i386/pc/boot.h (GRUB_BOOT_MACHINE_*); the code ends where a partition table may begin."""
_NO_CHECK = b"\x90\x90"
_BLOCKLIST = SECTOR - 12
"""Source: grub-core/boot/i386/pc/diskboot.S: first sector (64 bits), how many (16), segment (16)."""


def make_loader(pc: Path, efi: Path, folder: Path, work: Path) -> None:
    """Fill a folder with what a disk needs to boot. ``pc``, ``efi``: the unpacked packages. Raises: BuildFailure."""
    folder.mkdir(parents=True, exist_ok=True)
    config = work / "grub-begin.cfg"
    config.write_text(_BEGIN)
    for package, target, name, extra in (
        (pc, "i386-pc", "core.img", ("biosdisk",)),
        (efi, "x86_64-efi", "BOOTX64.EFI", ("efi_gop",)),
    ):
        source = package / "usr/lib/grub" / target
        words = ("--format", target, "--directory", str(source), "--prefix", "/grub", "--config", str(config))
        call(("grub-mkimage", *words, "--output", str(folder / name), *_MODULES, *extra), seconds=120)
    shutil.copyfile(pc / "usr/lib/grub/i386-pc/boot.img", folder / "boot.img")
    (folder / "grub.cfg").write_bytes((files("drivers.image") / "grub.cfg").read_bytes())
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)


def boot_sector(boot: bytes, table: bytes, core_begin: int) -> bytes:
    """The first sector of a disk: GRUB's code, which reads sector ``core_begin``, before the table that is there."""
    if len(boot) != SECTOR or len(table) != SECTOR:
        raise BuildFailure(f"GRUB's boot.img has {len(boot)} bytes, the disk's first sector {len(table)}; not {SECTOR}")
    code = bytearray(boot[:_CODE_END])
    struct.pack_into("<Q", code, _KERNEL_SECTOR, core_begin)
    code[_DRIVE_CHECK : _DRIVE_CHECK + 2] = _NO_CHECK
    return bytes(code) + table[_CODE_END:]


def core_sectors(core: bytes, begin: int) -> bytes:
    """GRUB's core as it lies on a disk from sector ``begin`` on: its first sector says where the others are."""
    padded = bytearray(core + bytes(-len(core) % SECTOR))
    struct.pack_into("<QH", padded, _BLOCKLIST, begin + 1, len(padded) // SECTOR - 1)
    return bytes(padded)


def grubenv(values: Mapping[str, str]) -> bytes:
    """A block of words as GRUB reads and writes it, sorted by name.

    Raises: BuildFailure if they do not fit, or one cannot stand there.
    """
    content = _ENV_HEAD
    for name, value in sorted(values.items()):
        if not ((name.isidentifier() and value.isascii() and value.isprintable()) or not value) or "\\" in value:
            raise BuildFailure(f"grubenv: {name[:40]}={value[:40]!r}: not a word that GRUB can remember")
        content += f"{name}={value}\n".encode()
    if len(content) > ENV_BYTES:
        raise BuildFailure(f"grubenv: {len(content)} bytes; allowed: {ENV_BYTES}")
    return content + b"#" * (ENV_BYTES - len(content))


def read_grubenv(content: bytes) -> dict[str, str]:
    """The words of a block; empty if it is none, as GRUB takes it too."""
    if len(content) != ENV_BYTES or not content.startswith(_ENV_HEAD):
        return {}
    lines = content.decode("ascii", "replace").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
