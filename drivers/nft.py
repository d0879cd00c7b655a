"""Rights in the kernel: sets of addresses whose elements end by themselves, changed by one netlink transaction each.

``nft`` makes the tables once; after that a change is a few hundred bytes to a socket, so that pushing a deadline five
times a second costs next to nothing. Message layout: linux/netfilter/nf_tables.h and nfnetlink.h.
"""

import errno
import os
import shutil
import socket
import struct
import subprocess

from drivers.address import IPAddress

TABLE = "moxie"
NFT_SECONDS_MAX = 10
ANSWER_SECONDS_MAX = 2.0

NETLINK_NETFILTER = 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE = 0x1, 0x4, 0x400
NLMSG_ERROR = 2
NFNL_SUBSYS_NFTABLES = 10
BATCH_BEGIN, BATCH_END = 16, 17
NEW_ELEMENT, DELETE_ELEMENT = (NFNL_SUBSYS_NFTABLES << 8) | 12, (NFNL_SUBSYS_NFTABLES << 8) | 14
NFPROTO_INET, NFPROTO_ARP = 1, 3
NESTED = 0x8000
LIST_TABLE, LIST_SET, LIST_ELEMENTS = 1, 2, 3
ELEMENT_KEY, ELEMENT_TIMEOUT, DATA_VALUE, LIST_ELEMENT = 1, 4, 1, 1

# A deposed holder must neither take packets nor answer who has the address, hence the table for ARP beside the one
# for IP. IPv6 needs none: a neighbour advertisement carries the address as its source and passes "output".
RULES = """
table inet moxie
delete table inet moxie
table inet moxie {
  set guarded { type ipv4_addr; }
  set rights { type ipv4_addr; flags timeout; }
  set guarded6 { type ipv6_addr; }
  set rights6 { type ipv6_addr; flags timeout; }
  chain input {
    type filter hook input priority -300; policy accept;
    ip daddr @guarded ip daddr != @rights drop
    ip6 daddr @guarded6 ip6 daddr != @rights6 drop
  }
  chain output {
    type filter hook output priority -300; policy accept;
    ip saddr @guarded ip saddr != @rights drop
    ip6 saddr @guarded6 ip6 saddr != @rights6 drop
  }
}
table arp moxie
delete table arp moxie
table arp moxie {
  set guarded { type ipv4_addr; }
  set rights { type ipv4_addr; flags timeout; }
  chain input {
    type filter hook input priority -300; policy accept;
    arp daddr ip @guarded arp daddr ip != @rights drop
  }
  chain output {
    type filter hook output priority -300; policy accept;
    arp saddr ip @guarded arp saddr ip != @rights drop
  }
}
"""


class NoTables(Exception):
    """The kernel or ``nft`` refused: a sentence for people."""


class Sets:
    """The tables of this network namespace, made anew and empty. Not thread-safe.

    Raises: NoTables, here and from every change.
    """

    def __init__(self) -> None:
        self._seq = 0
        self.rebuild()
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self._socket.settimeout(ANSWER_SECONDS_MAX)

    def rebuild(self) -> None:
        """Make the tables anew, without any guard or right."""
        _nft(RULES)

    def guard(self, address: IPAddress) -> None:
        """Let nothing pass to or from the address without a right."""
        self._send("guarded", address, (NEW_ELEMENT, 0))

    def push(self, address: IPAddress, ms: int) -> None:
        """Let the address pass for ``ms`` from now, instead of what it had.

        Add, delete, add in one transaction: kernels before 6.12 leave the timeout of an existing element alone, and
        deleting needs one that exists. No packet sees the state in between.
        """
        self._send("rights", address, (NEW_ELEMENT, ms), (DELETE_ELEMENT, 0), (NEW_ELEMENT, ms))

    def drop(self, address: IPAddress) -> None:
        """Let nothing pass from now on."""
        self._send("rights", address, (NEW_ELEMENT, 1), (DELETE_ELEMENT, 0))

    def close(self, remove: bool) -> None:
        """Close the socket; ``remove`` the tables too."""
        self._socket.close()
        if remove:
            _nft("".join(f"table {family} {TABLE}\ndelete table {family} {TABLE}\n" for family in ("inet", "arp")))

    def _send(self, which: str, address: IPAddress, *changes: tuple[int, int]) -> None:
        """One transaction. Raises: FileNotFoundError if the tables are gone, NoTables for anything else."""
        v4 = address.version == 4
        places = ((NFPROTO_INET, which if v4 else which + "6"), *(((NFPROTO_ARP, which),) if v4 else ()))
        self._seq = seq = self._seq % 0x7FFFFFFF + 1
        orders = [(family, name, *change) for family, name in places for change in changes]
        messages = [_message(BATCH_BEGIN, 0, seq, 0, b"")]
        for number, (family, name, kind, ms) in enumerate(orders, start=1):
            flags = NLM_F_CREATE | (NLM_F_ACK if number == len(orders) else 0)
            messages.append(_message(kind, flags, seq, family, _elements(name, address.packed, ms)))
        messages.append(_message(BATCH_END, 0, seq, 0, b""))
        try:
            self._socket.send(b"".join(messages))
            error = self._answer()
        except TimeoutError:
            raise NoTables("nftables: the kernel did not answer") from None
        except OSError as broken:
            raise NoTables(f"nftables: {broken.strerror}") from None
        if error == errno.ENOENT:
            raise FileNotFoundError(errno.ENOENT, f"nftables: table {TABLE} is gone")
        if error:
            raise NoTables(f"nftables: {os.strerror(error)}")

    def _answer(self) -> int:
        """Wait for the verdict on the last transaction: its first error, else 0.

        Every refused message is answered, but only the last one if all is well; what is left over from an earlier
        transaction bears another number.
        """
        while True:
            packet = self._socket.recv(8192)
            while len(packet) >= 20:
                length, kind, _, seq, _ = struct.unpack_from("=IHHII", packet)
                if kind == NLMSG_ERROR and seq == self._seq:
                    return -int(struct.unpack_from("=i", packet, 16)[0])
                packet = packet[(length + 3) & ~3 :]


def _nft(rules: str) -> None:
    program = shutil.which("nft", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        raise NoTables("nft is not installed; remedy: install the package nftables")
    try:
        subprocess.run(
            [program, "-f", "-"], input=rules, text=True, capture_output=True, timeout=NFT_SECONDS_MAX, check=True
        )
    except subprocess.CalledProcessError as error:
        raise NoTables(f"nft: {error.stderr.strip().splitlines()[0] if error.stderr.strip() else error}") from None
    except (subprocess.TimeoutExpired, OSError) as error:
        raise NoTables(f"nft: {error}") from None


def _attribute(kind: int, body: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(body), kind) + body + bytes(-len(body) % 4)


def _elements(name: str, key: bytes, ms: int) -> bytes:
    element = _attribute(ELEMENT_KEY | NESTED, _attribute(DATA_VALUE, key))
    if ms:
        element += _attribute(ELEMENT_TIMEOUT, struct.pack("!Q", ms))
    return (
        _attribute(LIST_TABLE, TABLE.encode() + b"\0")
        + _attribute(LIST_SET, name.encode() + b"\0")
        + _attribute(LIST_ELEMENTS | NESTED, _attribute(LIST_ELEMENT | NESTED, element))
    )


def _message(kind: int, flags: int, seq: int, family: int, body: bytes) -> bytes:
    subsystem = NFNL_SUBSYS_NFTABLES if kind in (BATCH_BEGIN, BATCH_END) else 0
    head = struct.pack("!BBH", family, 0, subsystem)
    return struct.pack("=IHHII", 20 + len(body), kind, NLM_F_REQUEST | flags, seq, 0) + head + body
