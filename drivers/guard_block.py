"""The first MiB of a volume's image is ours, not the file system's: the guard block, and whether it was formatted.

A storage beat (rule 5) writes the guard block through the volume's own client instance; it names who wrote it last. The
file system begins at ``AREA_BYTES``. That it was made stands in a block of its own, which no beat ever writes.
"""

import zlib
from typing import Literal, TypeVar

import msgspec

from core.ids import Epoch, NodeId, ServiceName, VolumeName

T = TypeVar("T")

AREA_BYTES = 1 << 20
BLOCK_BYTES = 4_096
GUARD_AT, FORMAT_AT = 0, BLOCK_BYTES
GUARD_MAGIC, FORMAT_MAGIC = b"MOXIE-GUARD-1\n", b"MOXIE-FORMAT-1\n"


class GuardBlock(msgspec.Struct, frozen=True, kw_only=True):
    """Who wrote to the volume last: ``counter`` grows with each write of one opening."""

    volume: VolumeName
    service: ServiceName
    node: NodeId
    epoch: Epoch
    counter: int


class FormatBlock(msgspec.Struct, frozen=True, kw_only=True):
    """The file system that was made on the volume, once and for all."""

    file_system: str


Blank = Literal["blank"]
"""Nothing was ever written there: all zeros."""
Foreign = Literal["foreign"]
"""Something that is not ours, or not whole."""


def encode_guard(block: GuardBlock) -> bytes:
    """Make the 4 KiB of a guard block."""
    return _frame(GUARD_MAGIC, msgspec.json.encode(block))


def encode_format(block: FormatBlock) -> bytes:
    """Make the 4 KiB of a format block."""
    return _frame(FORMAT_MAGIC, msgspec.json.encode(block))


def decode_guard(raw: bytes) -> GuardBlock | Blank | Foreign:
    """Read a guard block."""
    return _decode(GUARD_MAGIC, raw, GuardBlock)


def decode_format(raw: bytes) -> FormatBlock | Blank | Foreign:
    """Read a format block."""
    return _decode(FORMAT_MAGIC, raw, FormatBlock)


def _frame(magic: bytes, body: bytes) -> bytes:
    """Put magic, length and checksum before the body, and zeros behind it."""
    head = magic + len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big")
    if len(head) + len(body) > BLOCK_BYTES:
        raise ValueError("a block's names are too long for 4 KiB")
    return (head + body).ljust(BLOCK_BYTES, b"\0")


def _decode(magic: bytes, raw: bytes, what: type[T]) -> T | Blank | Foreign:
    if not any(raw):
        return "blank"
    at = len(magic)
    size = int.from_bytes(raw[at : at + 4], "big")
    body = raw[at + 8 : at + 8 + size]
    if raw[:at] != magic or len(body) != size or zlib.crc32(body) != int.from_bytes(raw[at + 4 : at + 8], "big"):
        return "foreign"
    try:
        return msgspec.json.decode(body, type=what)
    except msgspec.DecodeError:
        return "foreign"
