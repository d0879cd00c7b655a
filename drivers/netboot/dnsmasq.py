"""What dnsmasq is told: DHCP for the machines that are expected and nobody else, and TFTP of iPXE for all.

A machine is recognised by its identity (DHCP option 97, in every order of bytes that firmware is known for) or its
network card, and gets the address that it will keep. What dnsmasq reads again without a restart knows no option 97, so
the DHCP process is restarted when the windows change, and TFTP has a process of its own that never is.
Source: dnsmasq(8) 2.90; RFC 4578, 2.3; measured with QEMU's iPXE.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import msgspec

from core.identity import forms
from core.ids import NO_NODE, Guid, NodeId
from drivers.netboot.place import Place

IPXE = Path("/usr/lib/ipxe")
BIOS, EFI = "undionly.kpxe", "snponly.efi"
LEASE = "2m"
"""The shortest that dnsmasq has. A lease only bridges firmware, iPXE and kernel: the address is the machine's own."""
NO_PROXY_WAIT = "dhcp-option=encap:175,176,1b"
"""iPXE: do not wait for a proxy server. Source: ipxe.org/howto/dhcpd; saves 2 to 3 s."""
LINE = re.compile(r"^dnsmasq-dhcp\[\d+\]: (\d+) (.*)$")
OFFERED = re.compile(r"(DHCPOFFER|PXE)\(\S+\) (?:\S+ )?((?:[0-9a-f]{2}:){5}[0-9a-f]{2})")
IGNORED = re.compile(r"DHCPDISCOVER\(\S+\) (?:\S+ )?((?:[0-9a-f]{2}:){5}[0-9a-f]{2}) ignored$")
ASKED_MAX = 64


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that may boot now."""

    node: NodeId
    address: str
    guid: Guid
    macs: tuple[str, ...] = ()


def dhcp_config(place: Place, leases: Path, expected: Iterable[Expected]) -> str:
    """The whole configuration of the DHCP process."""
    machines = sorted(expected, key=lambda machine: machine.node)
    lines = [*_common(place), f"dhcp-leasefile={leases}", "no-ping", "log-dhcp", "dhcp-ignore=tag:!ours"]
    for machine in machines:
        lines += _machine(place, machine)
    if place.proxy:
        lines += _proxy(place)
    else:
        lines += _lent(place)
    return "\n".join(lines) + "\n"


def tftp_config(place: Place, root: Path = IPXE) -> str:
    """The whole configuration of the TFTP process."""
    return "\n".join((*_common(place), "enable-tftp", f"tftp-root={root}")) + "\n"


def uuid_bytes(guid: str) -> tuple[bytes, ...]:
    """The bytes in which machines of this identity may send it in option 97, without repetition."""
    found = [one for form in forms(guid) for one in (UUID(form).bytes, UUID(form).bytes_le)]
    return tuple(dict.fromkeys(found))


class Heard(msgspec.Struct):
    """What is known of one question to DHCP: whose machine it is, and whom it was answered."""

    node: NodeId = NO_NODE
    mac: str = ""


class Ears:
    """Understands what the DHCP process logs: who was offered something, and who was ignored."""

    def __init__(self) -> None:
        self._asked: dict[str, Heard] = {}

    def hear(self, line: str) -> tuple[str, NodeId, str]:
        """What a line says: "offered" (to that node's machine) or "ignored" with a network card, or "" for neither."""
        found = LINE.match(line.strip())
        if found is None:
            return "", NO_NODE, ""
        number, words = found.groups()
        if ignored := IGNORED.match(words):
            return "ignored", NO_NODE, ignored.group(1)
        asked = self._asked.setdefault(number, Heard())
        while len(self._asked) > ASKED_MAX:
            del self._asked[next(iter(self._asked))]
        if words.startswith("tags: "):
            asked.node = _node_of(words)
        elif offered := OFFERED.match(words):
            asked.mac = offered.group(2)
        else:
            return "", NO_NODE, ""
        if not asked.node or not asked.mac:
            return "", NO_NODE, ""  # the two lines come in either order
        return "offered", asked.node, asked.mac


def _node_of(tags: str) -> NodeId:
    for tag in tags.removeprefix("tags: ").split(", "):
        if tag.startswith("is-"):
            return NodeId(tag.removeprefix("is-"))
    return NO_NODE


def _common(place: Place) -> tuple[str, ...]:
    return (
        "port=0",  # no DNS
        f"interface={place.interface}",
        "except-interface=lo",
        "bind-interfaces",
        "conf-file=",
        "no-hosts",
        "no-resolv",
        "user=nobody",
        "group=nogroup",
        "log-facility=-",
    )


def _machine(place: Place, machine: Expected) -> list[str]:
    """Tag ``is-NODE`` and ``ours`` for whoever has the identity or a network card of the machine.

    Who has only one of the two is let in here, so that the gate sees it and says why it is refused.
    """
    node = machine.node
    lines = [f"dhcp-match=set:is-{node},97,{(bytes(1) + raw).hex(':')}" for raw in uuid_bytes(machine.guid)]
    lines += [f"dhcp-mac=set:is-{node},{mac}" for mac in machine.macs]
    if not lines:
        return []
    lines.append(f"tag-if=set:ours,tag:is-{node}")
    if not place.proxy:
        address = machine.address
        lines.append(f"dhcp-range=tag:is-{node},{address},{address},{place.subnet.netmask},{LEASE}")
    return lines


def _lent(place: Place) -> list[str]:
    first, last = place.pool
    return [
        f"dhcp-range=tag:ours,{first},{last},{place.subnet.netmask},{LEASE}",
        "dhcp-authoritative",
        "dhcp-option=3",
        "dhcp-option=6",
        "dhcp-match=set:ipxe,175",
        "dhcp-match=set:efi64,option:client-arch,7",
        "dhcp-match=set:efi64,option:client-arch,9",
        f"dhcp-boot=tag:ipxe,{place.http}/boot.ipxe",
        f"dhcp-boot=tag:!ipxe,tag:efi64,{EFI}",
        f"dhcp-boot=tag:!ipxe,tag:!efi64,{BIOS}",
        NO_PROXY_WAIT,
    ]


def _proxy(place: Place) -> list[str]:
    """Beside another DHCP server: only what to boot. iPXE takes it from a menu of one, and from nothing else."""
    services = [("x86PC", BIOS), ("BC_EFI", EFI), ("X86-64_EFI", EFI)]
    return [
        f"dhcp-range={place.subnet.network_address},proxy,{place.subnet.netmask}",
        "dhcp-match=set:ipxe,175",
        'pxe-prompt="",0',
        *(f"pxe-service=tag:!ipxe,{system},Moxie,{name}" for system, name in services),
        *(f"pxe-service=tag:ipxe,{system},Moxie,{place.http}/boot.ipxe" for system, _ in services),
    ]
