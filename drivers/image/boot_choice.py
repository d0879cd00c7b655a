"""Which slot a machine boots: the environment block that its boot loader reads and counts tries in.

The block is a file of 1,024 bytes in the boot partition; what it says fits into its first sector, and only that sector
is ever written, in place and at once. So a power cut leaves the old choice or the new one, and nothing else on the
boot partition is touched after the disk was prepared; Linux never mounts it.
Source: GRUB 2.06 manual, section "The GRUB environment block".
"""

import os
from pathlib import Path

import msgspec

from core.errors import InputError
from drivers.image.disk import BOOT_LABEL
from drivers.image.grub import ENV_BYTES, grubenv
from drivers.image.partitions import SECTOR, SLOTS, Partition, SlotName, unreadable

HEAD = b"# GRUB Environment Block\n"
_STEP = 1 << 20


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """``good`` boots, unless ``next`` has a try left: then that one boots, and has one try less."""

    good: SlotName = "a"
    next: SlotName | None = None
    tries: int = 0

    @property
    def boots(self) -> SlotName:
        """The slot that the next boot takes."""
        return self.next if self.next is not None and self.tries > 0 else self.good


def block(choice: Choice) -> bytes:
    """The environment block that says so."""
    return grubenv({"good": choice.good, "next": choice.next or "", "tries": str(choice.tries)})


def choice_of(raw: bytes) -> Choice | None:
    """Read an environment block; None if it is none. What it does not say, or says wrongly, is as on a new disk."""
    if len(raw) != ENV_BYTES or not raw.startswith(HEAD):
        return None
    *lines, rest = raw[len(HEAD) :].rstrip(b"#").split(b"\n")
    lines = [line for line in lines if not line.startswith(b"#")]
    if rest or any(b"=" not in line or not line.isascii() for line in lines):
        return None  # a text that quotes the first line of a block, for example the boot loader itself
    said = dict(line.decode().split("=", 1) for line in lines)
    tries = said.get("tries", "0")
    return Choice(
        good=_slot(said.get("good", "")) or "a",
        next=_slot(said.get("next", "")),
        tries=int(tries) if tries.isdigit() and len(tries) <= 2 else 0,
    )


def _slot(text: str) -> SlotName | None:
    return next((slot for slot in SLOTS if slot == text), None)


def read(disk: Path, boot: Partition) -> Choice:
    """What the disk's boot loader does next. Raises: InputError if the block cannot be found."""
    return _find(disk, boot)[1]


def write(disk: Path, boot: Partition, choice: Choice) -> None:
    """Change what the boot loader does next; on the disk when this returns.

    Raises: InputError if the block cannot be found or written.
    """
    at, old = _find(disk, boot)
    if old == choice:
        return
    sector = block(choice)[:SECTOR]
    try:
        handle = os.open(disk, os.O_WRONLY | os.O_DSYNC | os.O_CLOEXEC)
        try:
            os.pwrite(handle, sector, at)
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise unreadable(disk, error) from None


def _find(disk: Path, boot: Partition) -> tuple[int, Choice]:
    """Where on the disk the block begins, and what it says."""
    try:
        with disk.open("rb") as file:
            for start in range(0, boot.bytes, _STEP):
                file.seek(boot.offset + start)
                part = file.read(min(_STEP + ENV_BYTES, boot.bytes - start))
                at = part.find(HEAD)
                while at >= 0:
                    found = choice_of(part[at : at + ENV_BYTES]) if at % SECTOR == 0 else None
                    if found is not None:
                        return boot.offset + start + at, found
                    at = part.find(HEAD, at + 1)
    except OSError as error:
        raise unreadable(disk, error) from None
    raise InputError(
        [f"{disk}: no boot environment in {BOOT_LABEL}; needed: a disk that was prepared by this software"]
    )
