"""The first MiB of a volume: what is written is read back, and what is not ours is never taken for ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import Epoch, NodeId, ServiceName, VolumeName
from drivers.guard_block import (
    AREA_BYTES,
    BLOCK_BYTES,
    FORMAT_AT,
    GUARD_AT,
    FormatBlock,
    GuardBlock,
    decode_format,
    decode_guard,
    encode_format,
    encode_guard,
)

GUARD = GuardBlock(
    volume=VolumeName("vol"), service=ServiceName("db"), node=NodeId("n1"), epoch=Epoch(7), counter=123_456
)
FORMAT = FormatBlock(file_system="ext4")


def test_a_block_is_read_back_as_it_was_written() -> None:
    assert decode_guard(encode_guard(GUARD)) == GUARD
    assert decode_format(encode_format(FORMAT)) == FORMAT


def test_blocks_have_their_size_and_lie_apart_inside_the_area() -> None:
    assert len(encode_guard(GUARD)) == len(encode_format(FORMAT)) == BLOCK_BYTES
    assert abs(GUARD_AT - FORMAT_AT) >= BLOCK_BYTES
    assert max(GUARD_AT, FORMAT_AT) + BLOCK_BYTES <= AREA_BYTES


def test_zeros_are_blank() -> None:
    assert decode_guard(bytes(BLOCK_BYTES)) == "blank"
    assert decode_format(bytes(BLOCK_BYTES)) == "blank"


def test_one_kind_of_block_is_not_taken_for_the_other() -> None:
    assert decode_guard(encode_format(FORMAT)) == "foreign"
    assert decode_format(encode_guard(GUARD)) == "foreign"


def test_a_file_system_that_begins_at_the_start_of_the_image_is_foreign() -> None:
    superblock = bytes(1_024) + b"\x00\x00\x01\x00" + bytes(52) + b"\x53\xef"  # as ext4 has it
    assert decode_guard(superblock.ljust(BLOCK_BYTES, b"\0")) == "foreign"


@given(at=st.integers(0, 120), bit=st.integers(0, 7))
def test_a_block_with_one_wrong_bit_is_never_read_as_another(at: int, bit: int) -> None:
    raw = bytearray(encode_guard(GUARD))
    raw[at] ^= 1 << bit
    assert decode_guard(bytes(raw)) in (GUARD, "foreign"), "bits behind the body mean nothing"


@given(st.binary(max_size=BLOCK_BYTES))
def test_any_bytes_at_all_are_read_without_an_error(raw: bytes) -> None:
    assert decode_guard(raw.ljust(BLOCK_BYTES, b"\0")) in ("blank", "foreign")


def test_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        encode_format(FormatBlock(file_system="x" * BLOCK_BYTES))
