"""The partitions of a disk by their names, read from its GUID partition table without any tool.

Source: UEFI specification 2.10, section 5.3: header at LBA 1, entries with a UTF-16 name; both carry a CRC.
"""

import struct
import zlib
from pathlib import Path
from typing import Literal

import msgspec

from core.errors import InputError

SECTOR = 512
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_ENTRIES_MAX = 128

SlotName = Literal["a", "b"]
SLOTS: tuple[SlotName, SlotName] = ("a", "b")


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """One partition: where on its disk it begins and how long it is, in bytes. ``number`` counts from 1."""

    name: str
    number: int
    offset: int
    bytes: int


def partitions(disk: Path) -> dict[str, Partition]:
    """The named partitions of a disk or of a file that holds one; empty if it has no valid GUID partition table.

    Raises: InputError if the disk cannot be read.
    """
    try:
        with disk.open("rb") as file:
            file.seek(SECTOR)
            header = file.read(SECTOR)
            found = _header(header)
            if found is None:
                return {}
            lba, count, size, crc = found
            file.seek(lba * SECTOR)
            table = file.read(count * size)
    except OSError as error:
        raise unreadable(disk, error) from None
    if len(table) != count * size or zlib.crc32(table) != crc:
        return {}
    entries = (_entry(table[at * size :][:size], at + 1) for at in range(count))
    return {entry.name: entry for entry in entries if entry is not None}


def place(disk: Path, part: Partition) -> tuple[Path, int]:
    """Where tools find a partition: its own device, or the file that holds the disk and the offset there.

    A disk with a mounted partition counts as in use, the other partitions' devices do not.
    """
    device = partition_device(disk, part.number) if disk.is_block_device() else None
    return (device, 0) if device is not None else (disk, part.offset)


def partition_device(disk: Path, number: int) -> Path | None:
    """The device of a partition of a block device; None if the kernel does not know of it (yet)."""
    for entry in Path("/sys/class/block", disk.name).glob(f"{disk.name}*/partition"):
        if entry.read_text(encoding="ascii").strip() == str(number):
            return Path("/dev") / entry.parent.name
    return None


def unreadable(disk: Path, error: OSError) -> InputError:
    """What to say of a disk that does not let itself be read or written."""
    why = (error.strerror or str(error)).lower()
    return InputError([f"{disk}: {why}; needed: a disk that root may read and write"])


def _header(sector: bytes) -> tuple[int, int, int, int] | None:
    """Where the entries are, how many, how long each, and their CRC."""
    if len(sector) < SECTOR or sector[:8] != b"EFI PART":
        return None
    _, _, length, crc, _, _, _, _, _, _, lba, count, size, entries_crc = _HEADER.unpack_from(sector)
    if not _HEADER.size <= length <= SECTOR or not 0 < count <= _ENTRIES_MAX or size != _ENTRY.size:
        return None
    blank = sector[:16] + bytes(4) + sector[20:length]
    return (lba, count, size, entries_crc) if zlib.crc32(blank) == crc else None


def _entry(raw: bytes, number: int) -> Partition | None:
    kind, _, first, last, _, name = _ENTRY.unpack(raw)
    if kind == bytes(16) or last < first:
        return None
    text = name.decode("utf-16-le", errors="replace").partition("\0")[0]
    return Partition(name=text, number=number, offset=first * SECTOR, bytes=(last - first + 1) * SECTOR)
