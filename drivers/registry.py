"""The drivers, one line each: what the index of the docs lists and ``rack check`` looks for."""

from collections.abc import Callable

import msgspec

from drivers.ceph_parts import PROGRAMS
from drivers.config import Config


def always(_: Config) -> bool:
    """Every node needs it."""
    return True


def with_volumes(config: Config) -> bool:
    """The catalog has services that keep volumes."""
    return any(spec.volume for spec in config.catalog.specs)


def with_addresses(config: Config) -> bool:
    """The catalog has services with addresses."""
    return any(spec.address for spec in config.catalog.specs)


def with_bmc(kind: str) -> Callable[[Config], bool]:
    """A node is switched by this kind of BMC, or such BMCs are looked for."""

    def wanted(config: Config) -> bool:
        kinds = {machine.bmc.driver for machine in config.machines.values()}
        kinds |= {access.driver for network in config.inventory.networks for access in network.access}
        return kind in kinds

    return wanted


def runs(kind: str) -> Callable[[Config], bool]:
    """The node runs its services in this way."""
    return lambda config: config.tables.workload == kind


class Driver(msgspec.Struct, frozen=True):
    """One driver. ``port``: what of ``core.ports`` it carries out; ``modules``: Python packages; ``programs``: on the
    node; ``debian``: packages that bring the programs; ``page``: of docs/drivers; ``wanted``: whether a node needs it.
    """

    name: str
    port: str
    technology: str
    modules: tuple[str, ...]
    programs: tuple[str, ...]
    debian: tuple[str, ...]
    page: str
    wanted: Callable[[Config], bool] = always


def with_networks(config: Config) -> bool:
    """Machines that nobody has listed are looked for."""
    return bool(config.inventory.networks)


def with_storage(config: Config) -> bool:
    """Whether this node has a part of the rack's own storage."""
    return config.tables.storage is not None


def with_netboot(config: Config) -> bool:
    """Whether this node boots other machines."""
    return config.tables.netboot is not None


QSD = ("qemu-storage-daemon", "losetup", "mount", "mkfs.ext4")
QSD_DEBIAN = ("qemu-system-common", "qemu-block-extra", "fuse3", "e2fsprogs", "python3-rados", "python3-rbd")

DRIVERS: tuple[Driver, ...] = (
    Driver("zookeeper", "coordination", "ZooKeeper 3.8", ("kazoo",), ("java",), ("zookeeper",), "zookeeper.md"),
    Driver("ipmi", "power", "IPMI 2.0", ("pyghmi",), (), (), "ipmi.md", with_bmc("ipmi")),
    Driver("redfish", "power", "Redfish", (), (), (), "redfish.md", with_bmc("redfish")),
    Driver(
        "discovery",
        "power",
        "ASF, IPMI, Redfish, serial over LAN",
        (),
        ("ipmitool",),
        ("ipmitool",),
        "discovery.md",
        with_networks,
    ),
    Driver("ceph", "storage", "Ceph RBD", (), QSD, QSD_DEBIAN, "ceph.md", with_volumes),
    Driver(
        "ceph_service",
        "storage",
        "Ceph monitors, managers, OSDs",
        (),
        PROGRAMS,
        ("ceph-mon", "ceph-mgr", "ceph-osd", "ceph-base", "ceph-common"),
        "storage-growth.md",
        with_storage,
    ),
    Driver("process", "workload", "child processes", (), (), (), "process.md", runs("process")),
    Driver("systemd", "workload", "systemd units", ("dbus_fast",), (), ("systemd",), "systemd.md", runs("systemd")),
    Driver("address", "address", "netlink, ARP", ("pyroute2",), (), (), "address.md", with_addresses),
    Driver("rights", "evidence", "nftables", (), ("nft",), ("nftables",), "supervisor.md", with_addresses),
    Driver(
        "netboot",
        "netboot",
        "dnsmasq, iPXE, HTTP",
        (),
        ("dnsmasq",),
        ("dnsmasq-base", "ipxe"),
        "netboot.md",
        with_netboot,
    ),
)
