"""The frames that tell a wire who has an address now, byte by byte."""

import ipaddress
import struct

from drivers.address import frames

MAC = bytes.fromhex("020000000a01")


def test_an_ipv4_address_is_told_by_a_request_and_a_reply_to_everybody() -> None:
    request, reply = frames(ipaddress.ip_address("10.0.0.100"), MAC)
    head = b"\xff" * 6 + MAC + b"\x08\x06" + bytes.fromhex("0001080006 04")
    address = bytes([10, 0, 0, 100])
    assert request == head + b"\0\1" + MAC + address + bytes(6) + address
    assert reply == head + b"\0\2" + MAC + address + b"\xff" * 6 + address


def test_an_ipv6_address_is_told_by_an_overriding_advertisement_with_a_valid_checksum() -> None:
    address = ipaddress.ip_address("fd00::64")
    (frame,) = frames(address, MAC)
    assert frame[:14] == bytes.fromhex("333300000001") + MAC + b"\x86\xdd"
    header, body = frame[14:54], frame[54:]
    assert header[:8] == struct.pack("!IHBB", 6 << 28, len(body), 58, 255)
    assert header[8:24] == address.packed
    assert body[:2] == b"\x88\0"
    assert struct.unpack("!I", body[4:8])[0] & 0x20000000
    assert body[8:24] == address.packed
    assert body[24:] == b"\2\1" + MAC
    summed = header[8:40] + struct.pack("!II", len(body), 58) + body
    total = sum(struct.unpack(f"!{len(summed) // 2}H", summed))
    assert total % 0xFFFF == 0
