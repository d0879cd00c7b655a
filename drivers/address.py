"""Addresses of services on an interface: add, remove, and tell the switches and neighbours (ARP and IPv6 ND)."""

import errno
import ipaddress
import socket
import struct
from contextlib import suppress

from pyroute2 import IPRoute  # type: ignore[import-untyped]  # it ships no types
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]  # as above

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

ETH_ARP, ETH_IPV6 = 0x0806, 0x86DD
BROADCAST = b"\xff" * 6
ALL_NODES_MAC = bytes.fromhex("333300000001")
ALL_NODES = ipaddress.IPv6Address("ff02::1")
IFA_F_NODAD = 0x02
"""Duplicate detection would delay a taken-over IPv6 address by a second; who may hold it is settled elsewhere."""


class NoInterface(Exception):
    """The interface is missing or refused the change: a sentence for people."""


class Interface:
    """One interface of this network namespace. ``prefix``: prefix length of IPv4 addresses; IPv6 ones get /128.

    Not thread-safe. Raises: NoInterface if it does not exist.
    """

    def __init__(self, name: str, prefix: int = 32) -> None:
        self.name = name
        self._prefix = prefix
        try:
            self._index = socket.if_nametoindex(name)
        except OSError as error:
            raise NoInterface(f"interface {name}: {error.strerror}") from None
        self._route = IPRoute()

    def add(self, address: IPAddress) -> None:
        """Bring an address up; one that is up already stays. Raises: NoInterface."""
        self._change("add", address, errno.EEXIST)

    def remove(self, address: IPAddress) -> None:
        """Take an address off; one that is not there is fine. Raises: NoInterface."""
        self._change("del", address, errno.EADDRNOTAVAIL)

    def tell(self, address: IPAddress) -> None:
        """Send a gratuitous ARP request and reply, or an unsolicited neighbour advertisement.

        Best effort: an interface that is down swallows them. Source: RFC 5227 section 3, RFC 4861 section 7.2.6.
        """
        with suppress(OSError), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
            raw.bind((self.name, 0))
            mac = raw.getsockname()[4]
            for frame in frames(address, mac):
                raw.send(frame)

    def close(self) -> None:
        """Close the netlink socket; addresses stay as they are."""
        self._route.close()

    def _change(self, verb: str, address: IPAddress, fine: int) -> None:
        v4 = address.version == 4
        flags: dict[str, int] = {} if v4 or verb == "del" else {"flags": IFA_F_NODAD}
        prefix = self._prefix if v4 else 128
        try:
            self._route.addr(verb, index=self._index, address=str(address), prefixlen=prefix, **flags)
        except NetlinkError as error:
            if error.code != fine:
                raise NoInterface(f"address {address} on {self.name}: {error.args[1]}") from None
        except OSError as error:
            raise NoInterface(f"address {address} on {self.name}: {error.strerror}") from None


def frames(address: IPAddress, mac: bytes) -> list[bytes]:
    """The Ethernet frames that tell everybody on the wire that ``mac`` has ``address`` now."""
    if isinstance(address, ipaddress.IPv6Address):
        return [ALL_NODES_MAC + mac + struct.pack("!H", ETH_IPV6) + _advertisement(address, mac)]
    head = BROADCAST + mac + struct.pack("!H", ETH_ARP)
    return [
        head + struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, kind, mac, address.packed, target, address.packed)
        for kind, target in ((1, bytes(6)), (2, BROADCAST))
    ]


def _advertisement(address: ipaddress.IPv6Address, mac: bytes) -> bytes:
    override = 0x20000000
    body = struct.pack("!BBHI16sBB6s", 136, 0, 0, override, address.packed, 2, 1, mac)
    pseudo = address.packed + ALL_NODES.packed + struct.pack("!II", len(body), 58)
    total = sum(struct.unpack(f"!{(len(pseudo) + len(body)) // 2}H", pseudo + body))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
    return struct.pack("!IHBB16s16s", 0x60000000, len(body), 58, 255, address.packed, ALL_NODES.packed) + body
