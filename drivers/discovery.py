"""Finding BMCs of machines that are off: three questions over UDP that are answered before any login.

Answers are not authenticated: they say where to look closer and what a machine calls itself, no more. Whatever comes is
checked and bounded; what was not asked is not listened to.
"""

import asyncio
import errno
import socket
from collections.abc import Iterable, Iterator

import msgspec

from drivers.clock import now_ms
from drivers.networks import IPMI_PORT

ROUNDS = 3
ROUND_MS = 300
"""Who is silent is asked again after this long; answers of a quiet network come within 16 ms (measured, 40 BMCs)."""
TICK_MS, BURST_MS = 10, 100
NO_WAY = (errno.ENETUNREACH, errno.ENETDOWN, errno.EPERM, errno.EACCES)
"""Errors that mean our own network, or a rule of it, and not who is asked."""
SEND_BYTES = 4 << 20
"""A packet to an address where nobody lives takes 768 bytes of this for 3 s, until its ARP request is given up."""
SO_SNDBUFFORCE = 32
"""Source: linux/socket.h."""
RECEIVE_BYTES = 4 << 20

ASF, IPMI = 0x06, 0x07
_ASF_IANA = bytes.fromhex("000011be")
_PONG = 0x40
_APP_ANSWER = 0x07 << 2
_CAPABILITIES, _GUID = 0x38, 0x37


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What one address answered. ``ipmi``: it said that it speaks IPMI; ``v2``: version 2.0, which logins need.

    ``guid``: its machine's identity, 32 hex digits as they came, "" if it sent none; ``other_guid``: a second one that
    differs, which no honest BMC sends.
    """

    ipmi: bool = False
    v2: bool = False
    guid: str = ""
    other_guid: str = ""

    def plus(self, new: "Answered") -> "Answered":
        """Both together."""
        differs = bool(self.guid) and bool(new.guid) and new.guid != self.guid
        return Answered(
            ipmi=self.ipmi or new.ipmi,
            v2=self.v2 or new.v2,
            guid=self.guid or new.guid,
            other_guid=self.other_guid or new.other_guid or (new.guid if differs else ""),
        )


def _question(command: int, data: bytes = b"") -> bytes:
    """An IPMI 1.5 request to the BMC's application outside of any session. Source: IPMI 2.0, tables 13-8 and 13-4."""
    head, body = bytes([0x20, 0x06 << 2]), bytes([0x81, 0, command]) + data
    message = head + bytes([-sum(head) & 255]) + body + bytes([-sum(body) & 255])
    return bytes([0x06, 0, 0xFF, IPMI]) + bytes(9) + bytes([len(message)]) + message


PING = bytes([0x06, 0, 0xFF, ASF]) + _ASF_IANA + bytes([0x80, 0, 0, 0])
"""Presence ping. Source: ASF 2.0, 3.2.4.1."""
CAPABILITIES = _question(_CAPABILITIES, b"\x8e\x04")
"""Get Channel Authentication Capabilities of this channel for an administrator, 2.0 included (IPMI 2.0, 22.13)."""
GUID = _question(_GUID)
"""Get System GUID (IPMI 2.0, 22.14)."""


def read_answer(packet: bytes) -> Answered | None:
    """Read a datagram; None if it answers none of the three questions."""
    if len(packet) < 12 or packet[0] != 0x06:
        return None
    if packet[3] == ASF:
        if packet[4:8] != _ASF_IANA or packet[8] != _PONG or len(packet) < 21:
            return None
        return Answered(ipmi=bool(packet[20] & 0x80))  # supported entities, bit 7: IPMI
    return _read_ipmi(packet) if packet[3] == IPMI else None


def _read_ipmi(packet: bytes) -> Answered | None:
    if packet[4] != 0 or len(packet) < 22:  # an answer outside of sessions is not signed
        return None
    message = packet[14 : 14 + packet[13]]
    if len(message) != packet[13] or len(message) < 8:
        return None
    if sum(message[:3]) & 255 or sum(message[3:]) & 255 or message[1] & 0xFC != _APP_ANSWER:
        return None
    command, completion, data = message[5], message[6], message[7:-1]
    if completion:
        return None
    if command == _CAPABILITIES and len(data) >= 4:
        return Answered(ipmi=True, v2=bool(data[1] & 0x80 and data[3] & 0x02))
    if command == _GUID and len(data) >= 16:
        return Answered(ipmi=True, guid=data[:16].hex())
    return None


class _Ears(asyncio.DatagramProtocol):
    """Takes what the addresses that were asked answer, from the port that was asked."""

    def __init__(self, asked: Iterable[str], port: int) -> None:
        self.found: dict[str, Answered] = {}
        self.failed = 0
        self.why: OSError | None = None
        self._asked = frozenset(asked)
        self._port = port

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        address, port = str(addr[0]).partition("%")[0], addr[1]
        if port != self._port or address not in self._asked:
            return
        answer = read_answer(data)
        if answer is not None:
            self.found[address] = self.found.get(address, Answered()).plus(answer)

    def error_received(self, exc: Exception) -> None:
        """Nobody lives there, no more neighbours can be remembered now, no way there: the next round asks again."""
        if isinstance(exc, OSError):
            self.failed, self.why = self.failed + 1, exc


async def ask(
    addresses: Iterable[str], packets_per_s_max: int, until_ms: int, port: int = IPMI_PORT
) -> dict[str, Answered]:
    """Ask addresses of one family for their BMCs; what each answered.

    Takes about a second for 254 addresses, and ends by ``until_ms`` (the node's clock).

    Raises: OSError without a network.
    """
    asked = tuple(dict.fromkeys(addresses))
    v6 = any(":" in address for address in asked)
    loop = asyncio.get_running_loop()
    local = ("::" if v6 else "0.0.0.0", 0)
    transport, ears = await loop.create_datagram_endpoint(lambda: _Ears(asked, port), local_addr=local)
    with_room: socket.socket | None = transport.get_extra_info("socket")
    if with_room is not None:
        with_room.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        _make_room_to_send(with_room)
    try:
        for _ in range(ROUNDS):
            began_ms = now_ms()
            if began_ms >= until_ms:
                break
            await _send(transport, _missing(asked, ears.found), port, packets_per_s_max, until_ms)
            left_ms = min(began_ms + ROUND_MS, until_ms) - now_ms()
            await asyncio.sleep(max(left_ms, 0) / 1_000)
            if ears.why is not None and ears.failed >= len(asked) and ears.why.errno in NO_WAY:
                raise ears.why
        await asyncio.sleep(max(min(ROUND_MS // 2, until_ms - now_ms()), 0) / 1_000)
        return ears.found
    finally:
        transport.close()


def _make_room_to_send(udp: socket.socket) -> None:
    """Have room for what waits for addresses where nobody lives, or it keeps the others from being asked at all."""
    try:
        udp.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SEND_BYTES)
    except OSError:  # not root: what the machine allows, enough for about 500 packets
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)


def _missing(asked: Iterable[str], found: dict[str, Answered]) -> Iterator[tuple[str, bytes]]:
    """What is still to be asked of whom, as it is known when it is sent."""
    for address in asked:
        answered = found.get(address)
        if answered is None:
            yield address, PING
        if answered is None or not answered.v2:
            yield address, CAPABILITIES
        if answered is None or not answered.guid:
            yield address, GUID


async def _send(
    transport: asyncio.DatagramTransport,
    packets: Iterator[tuple[str, bytes]],
    port: int,
    packets_per_s_max: int,
    until_ms: int,
) -> None:
    """Send evenly, a few each tick; after ticks that came late what is due by then, but no flood."""
    burst = max(1, packets_per_s_max * BURST_MS // 1_000)
    pause_ms = max(TICK_MS, 1_000 // packets_per_s_max)
    room, at_ms = max(1, packets_per_s_max * TICK_MS // 1_000), now_ms()
    for address, packet in packets:
        while not room:
            await asyncio.sleep(pause_ms / 1_000)
            now = now_ms()
            if now >= until_ms:
                return
            due = packets_per_s_max * (now - at_ms) // 1_000
            if due:
                room, at_ms = min(burst, due), now
        transport.sendto(packet, (address, port))
        room -= 1
