"""Where a boot server stands: the network that it serves, its own addresses in it, and what it tells machines of it."""

import ipaddress

import msgspec

from core.errors import InputError
from drivers.config import Config, NetbootTable
from drivers.networks import BootTable

IMAGES = "/images"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The boot network as its server sees it. ``server`` is its own address there, ``ca`` a SHA-256 in hex."""

    interface: str
    server: str
    subnet: ipaddress.IPv4Network
    pool: tuple[str, str]
    gateway: str = ""
    http_port: int = 8080
    join_port: int = 8443
    proxy: bool = False
    ca: str = ""
    disk: str = ""

    @property
    def http(self) -> str:
        """The beginning of every URL."""
        return f"http://{self.server}:{self.http_port}"

    def has(self, address: str) -> bool:
        """Whether an address is one of the boot network, or this machine's own loopback."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return found in self.subnet or found.is_loopback


def tables_of(config: Config) -> tuple[NetbootTable, BootTable]:
    """The two tables that a boot server needs. Raises: InputError naming the one that is missing."""
    netboot, boot = config.tables.netboot, config.inventory.boot
    if netboot is None:
        raise InputError([f"{config.file}: [netboot] is missing; needed: at least interface, images and ca"])
    if boot is None:
        raise InputError([f"{config.tables.inventory}: [boot] is missing; needed: at least subnet and pool"])
    return netboot, boot


def place_of(config: Config, ca: str) -> Place:
    """Where the service of this node stands. Raises: InputError."""
    netboot, boot = tables_of(config)
    if ipaddress.ip_address(config.me.address) not in boot.net:
        said = f"{config.tables.inventory}: {config.node}'s address = {config.me.address!r}"
        raise InputError([f"{said} is not in boot.subnet, {boot.subnet}; needed: a server is in its boot network"])
    first, last = boot.lent
    return Place(
        interface=netboot.interface,
        server=config.me.address,
        subnet=boot.net,
        pool=(str(first), str(last)),
        gateway=boot.gateway,
        http_port=netboot.http_port,
        join_port=netboot.join_port,
        proxy=netboot.mode == "proxy",
        ca=ca,
        disk=boot.install,
    )
