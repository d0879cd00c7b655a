"""Two tables of an inventory: the management networks in which machines are looked for, and where they boot."""

import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from formats.load import Name
from formats.problems import Problems

Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

ADDRESSES_MAX = 4_096
"""Addresses of one management network: a look at them takes about six seconds at the usual rate."""
NUMBER_MAX = 255
"""Source: ZooKeeper's server ids."""
IPV4_MAPPED_BITS = 96
"""Source: RFC 4291, 2.5.5.2."""
IPMI_PORT, REDFISH_PORT = 623, 443
INVENTORY = "inventory"
"""Instead of the name of an access: those of ``[node.bmc]``."""


class AccessTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[[network.access]]``: credentials that BMCs of a network may be tried with. ``password_file``: owner-only.

    ``port``: where their BMCs listen, 623 for IPMI and 443 for Redfish unless given. ``ca`` and ``tls`` are Redfish's.
    """

    name: Name
    driver: Literal["ipmi", "redfish"] = "ipmi"
    user: str = "admin"
    password_file: Path
    port: Port | None = None
    ca: Path | None = None
    tls: bool = True

    @property
    def at_port(self) -> int:
        """The port of its BMCs."""
        return self.port or (IPMI_PORT if self.driver == "ipmi" else REDFISH_PORT)


class NetworkTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[[network]]``: a management network. What is found in it stands in ``rack`` and is fed by ``power_domain``.

    ``addresses``: only these of it are asked, so that it may be as large as an IPv6 /64, which nobody can look through.
    ``access``: what its BMCs may be tried with, in this order; none: they are listed and never touched.
    ``packets_per_s_max``: how fast it is looked through.
    """

    name: Name
    subnet: str
    addresses: tuple[str, ...] = ()
    rack: Name = "r1"
    power_domain: Name = "p1"
    access: tuple[AccessTable, ...] = ()
    packets_per_s_max: Annotated[int, msgspec.Meta(ge=10, le=100_000)] = 3_000

    @property
    def net(self) -> Subnet:
        """Its addresses."""
        return ipaddress.ip_network(self.subnet)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses that are asked, as they answer."""
        found = map(ipaddress.ip_address, self.addresses) if self.addresses else self.net.hosts()
        return tuple(map(str, dict.fromkeys(found)))

    def within(self, net: Subnet) -> "NetworkTable":
        """The part of it that is in a subnet."""
        asked = tuple(one for one in self.addresses if ipaddress.ip_address(one) in net)
        return msgspec.structs.replace(self, subnet=str(net), addresses=asked)

    def has(self, address: str) -> bool:
        """Whether an address is one of its own."""
        try:
            return ipaddress.ip_address(address) in self.net
        except ValueError:
            return False


class BootTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[boot]``: the network that machines boot in. A node's address there is ``subnet`` plus its number.

    ``pool``: ``"FIRST-LAST"``, addresses lent to machines while they boot; ``gateway``: their way out, "" for none;
    ``install``: the disk that images are put on, such as "/dev/vda", "" for none.
    """

    subnet: str
    pool: str
    gateway: str = ""
    install: str = ""

    @property
    def net(self) -> ipaddress.IPv4Network:
        """Its addresses."""
        return ipaddress.IPv4Network(self.subnet)

    @property
    def lent(self) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]:
        """First and last address of the pool."""
        first, _, last = self.pool.partition("-")
        return ipaddress.IPv4Address(first.strip()), ipaddress.IPv4Address(last.strip())

    def address_of(self, number: int) -> str:
        """The address of the node with this number, without the subnet's length."""
        return str(self.net.network_address + number)

    def forbids(self, number: int) -> str:
        """Why no node can have this number, "" if one can."""
        net, (first, last) = self.net, self.lent
        if not 0 < number < net.num_addresses - 1:
            return f"number {number} is beyond {self.subnet}"
        address = net.network_address + number
        if first <= address <= last:
            return f"its address {address} is in the pool {self.pool}"
        return f"its address {address} is the gateway's" if str(address) == self.gateway else ""

    def forbidden(self) -> tuple[int, ...]:
        """The numbers that no node can have."""
        return tuple(number for number in range(1, NUMBER_MAX + 1) if self.forbids(number))


def check_networks(networks: Iterable[NetworkTable], problems: Problems) -> None:
    """Note what is wrong with the management networks."""
    names: set[str] = set()
    before: list[tuple[str, Subnet]] = []
    for index, network in enumerate(networks):
        key = f"network[{index}]"
        if network.name in names:
            problems.add(f"{key}.name", network.name, "this name is used twice")
        names.add(network.name)
        net = subnet_of(network.subnet, f"{key}.subnet", problems, listed=bool(network.addresses))
        if net is not None:
            _check_addresses(network, net, key, problems)
            for other, taken in before:
                if net.version == taken.version and net.overlaps(taken):
                    problems.add(f"{key}.subnet", network.subnet, f"overlaps {other}.subnet, {taken}")
            before.append((key, net))
        accesses: set[str] = set()
        for place, access in enumerate(network.access):
            if access.name == INVENTORY:
                problems.add(
                    f"{key}.access[{place}].name", access.name, "means those of [node.bmc]; allowed: any other name"
                )
            if access.name in accesses:
                problems.add(f"{key}.access[{place}].name", access.name, "this name is used twice in this network")
            accesses.add(access.name)


def _check_addresses(network: NetworkTable, net: Subnet, key: str, problems: Problems) -> None:
    if len(network.addresses) > ADDRESSES_MAX:
        problems.add(f"{key}.addresses", len(network.addresses), f"allowed: {ADDRESSES_MAX} at most")
    for index, text in enumerate(network.addresses):
        try:
            inside = ipaddress.ip_address(text) in net
        except ValueError:
            inside = False
        if not inside:
            problems.add(f"{key}.addresses[{index}]", text, f"allowed: an address of {net}")


def subnet_of(text: str, key: str, problems: Problems, *, listed: bool = False) -> Subnet | None:
    """Read a management subnet; None, with the problem noted, if it is none that may be looked through.

    ``listed``: only single addresses of it are asked, so that its size does not matter.
    """
    try:
        net = ipaddress.ip_network(text.strip())
    except ValueError:
        try:
            meant = str(ipaddress.ip_network(text.strip(), strict=False))
        except ValueError:
            meant = ""
        hint = f'; did you mean "{meant}"?' if meant else ""
        problems.add(key, text, f'allowed: a subnet such as "10.97.0.0/24"{hint}')
        return None
    if net.num_addresses > ADDRESSES_MAX and not listed:
        longest = net.max_prefixlen - (ADDRESSES_MAX.bit_length() - 1)
        count = net.num_addresses if net.num_addresses < 1 << 40 else f"2^{net.num_addresses.bit_length() - 1}"
        single = (
            "; or its BMCs one by one: addresses in [[network]], single ones for rack scan" if net.version == 6 else ""
        )
        problems.add(
            key, text, f"has {count} addresses; allowed: {ADDRESSES_MAX} at most, /{longest} or smaller{single}"
        )
        return None
    if isinstance(net, ipaddress.IPv6Network):
        if net.is_link_local or "%" in text:
            problems.add(key, text, "is good on one link only; allowed: addresses that every node can reach")
            return None
        if net.network_address.ipv4_mapped is not None and net.prefixlen >= IPV4_MAPPED_BITS:
            meant = f"{net.network_address.ipv4_mapped}/{net.prefixlen - IPV4_MAPPED_BITS}"
            problems.add(key, text, f'is IPv4 in disguise; did you mean "{meant}"?')
            return None
    if net.is_multicast or net.is_unspecified:
        problems.add(key, text, "no machine has such an address")
        return None
    return net


def check_boot(boot: BootTable, nodes: Iterable[tuple[str, int, str]], problems: Problems) -> None:
    """Note what is wrong with the boot network. ``nodes``: key, number and address of each machine of the inventory."""
    if boot.install and not re.fullmatch(r"/dev/[A-Za-z0-9_./-]{1,100}", boot.install):
        problems.add("boot.install", boot.install, 'allowed: a disk such as "/dev/vda", or "" for none')
    try:
        net = ipaddress.IPv4Network(boot.subnet)
    except ValueError:
        problems.add("boot.subnet", boot.subnet, 'allowed: an IPv4 subnet such as "10.98.0.0/24"')
        return
    try:
        first, last = boot.lent
    except ValueError:
        problems.add("boot.pool", boot.pool, f'allowed: two addresses of {net} such as "{_example(net)}"')
        _check_gateway(boot, net, None, problems)
        return
    if first not in net or last not in net or first > last:
        problems.add("boot.pool", boot.pool, f'allowed: two addresses of {net}, the lower first: "{_example(net)}"')
    elif first == net.network_address or last == net.broadcast_address:
        problems.add("boot.pool", boot.pool, f'allowed: without {net}\'s first and last address: "{_example(net)}"')
    _check_gateway(boot, net, (first, last), problems)
    for key, number, text in nodes:
        address = ipaddress.ip_address(text)
        if address not in net:
            continue
        if int(first) <= int(address) <= int(last):
            problems.add(f"{key}.address", text, f"is in boot.pool, {boot.pool}, which is lent to machines that boot")
        elif address != net.network_address + number:
            allowed = f"allowed in boot.subnet: {net.network_address + number}, for number {number}"
            problems.add(f"{key}.address", text, allowed)


def _check_gateway(
    boot: BootTable,
    net: ipaddress.IPv4Network,
    lent: tuple[ipaddress.IPv4Address, ipaddress.IPv4Address] | None,
    problems: Problems,
) -> None:
    if not boot.gateway:
        return
    try:
        gateway = ipaddress.IPv4Address(boot.gateway)
    except ValueError:
        problems.add("boot.gateway", boot.gateway, 'allowed: an IPv4 address, or "" for none')
        return
    if gateway not in net:
        problems.add("boot.gateway", boot.gateway, f"allowed: an address of {net}")
    elif lent is not None and lent[0] <= gateway <= lent[1]:
        problems.add(
            "boot.gateway", boot.gateway, f"is in boot.pool, {boot.pool}: machines that boot would be given it"
        )


def _example(net: ipaddress.IPv4Network) -> str:
    size = net.num_addresses
    low, high = net.network_address + size * 3 // 4, net.network_address + max(size - 6, size * 3 // 4)
    return f"{low}-{high}"
