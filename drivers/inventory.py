"""The inventory of a rack, ``inventory.toml``: its machines, where others are looked for, and where they boot."""

import ipaddress
import re
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from core.identity import forms, plain_mac
from core.ids import DomainId, NodeId, RackId
from core.specs import NodeSpec
from drivers.networks import BootTable, NetworkTable, Port, check_boot, check_networks
from formats.load import Name, build, read_toml
from formats.problems import Problems


class BmcTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[node.bmc]`` of the inventory. ``password_file``: owner-only, one line. ``none``: its power has no switch.

    ``port``: 623 for IPMI and 443 for Redfish unless given. The rest is for Redfish: ``system``, the Id or UUID of the
    machine where a BMC serves several; ``ca``, what its certificate must be signed by (none: any is taken); ``tls``.
    """

    driver: Literal["ipmi", "redfish", "none"] = "none"
    address: str = ""
    port: Port | None = None
    user: str = "admin"
    password_file: Path | None = None
    system: str = ""
    ca: Path | None = None
    tls: bool = True


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One ``[[node]]`` of the inventory, or a machine that was found. ``number`` is its ZooKeeper server id.

    ``uuid`` and ``macs``: its identity and network cards, where the inventory knows them.
    """

    id: Name
    number: Annotated[int, msgspec.Meta(ge=1, le=255)]
    address: str
    rack: Name = "r1"
    power_domain: Name = "p1"
    weight: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    cores: Annotated[int, msgspec.Meta(ge=1, le=4_096)] = 8
    memory_gib: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 16
    uuid: str = ""
    macs: tuple[str, ...] = ()
    bmc: BmcTable = BmcTable()

    @property
    def spec(self) -> NodeSpec:
        """What the core knows of it."""
        return NodeSpec(
            id=NodeId(self.id),
            rack=RackId(self.rack),
            power_domain=DomainId(self.power_domain),
            weight=self.weight,
            cores=self.cores,
            memory_bytes=self.memory_gib << 30,
            number=self.number,
        )


class Machines(Mapping[NodeId, Machine]):
    """The machines by node, one object for everybody: whoever reads it sees machines that were found since.

    Its content is replaced as a whole, so that any thread may go through it at any time.
    """

    def __init__(self, machines: Mapping[NodeId, Machine]) -> None:
        self.replace(machines)

    def replace(self, machines: Mapping[NodeId, Machine]) -> None:
        """Have other machines from now on."""
        self._now = dict(machines)
        self._numbers = {machine.number: node for node, machine in self._now.items()}

    def by_number(self, number: int) -> NodeId | None:
        """The node with this number."""
        return self._numbers.get(number)

    def __getitem__(self, node: NodeId) -> Machine:
        return self._now[node]

    def __iter__(self) -> Iterator[NodeId]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)

    def keys(self) -> KeysView[NodeId]:
        """The nodes of this moment."""
        return self._now.keys()

    def items(self) -> ItemsView[NodeId, Machine]:
        """Nodes and machines of this moment."""
        return self._now.items()

    def values(self) -> ValuesView[Machine]:
        """The machines of this moment."""
        return self._now.values()


class InventoryTables(msgspec.Struct, frozen=True, kw_only=True):
    """A whole inventory file."""

    node: tuple[Machine, ...]
    network: tuple[NetworkTable, ...] = ()
    boot: BootTable | None = None


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """What an inventory file says, with every path absolute."""

    machines: dict[NodeId, Machine]
    networks: tuple[NetworkTable, ...] = ()
    boot: BootTable | None = None


def load_inventory(path: Path) -> dict[NodeId, Machine]:
    """Read the nodes of an inventory.

    Raises: InputError with every problem of the file.
    """
    return read_inventory(path).machines


def read_inventory(path: Path) -> Inventory:
    """Read an inventory.

    Raises: InputError with every problem of the file.
    """
    problems = Problems(str(path))
    tables = build(read_toml(path, "an inventory file"), InventoryTables, problems)
    problems.check()
    assert tables is not None
    _check_nodes(tables.node, problems)
    check_networks(tables.network, problems)
    problems.check()
    if tables.boot is not None:
        nodes = ((f"node[{index}]", machine.number, machine.address) for index, machine in enumerate(tables.node))
        check_boot(tables.boot, nodes, problems)
    problems.check()
    base = path.absolute().parent
    return Inventory(
        machines={NodeId(machine.id): _absolute_bmc(machine, base) for machine in tables.node},
        networks=tuple(_absolute_network(network, base) for network in tables.network),
        boot=tables.boot,
    )


def _check_nodes(nodes: tuple[Machine, ...], problems: Problems) -> None:
    first: dict[str, str] = {}
    for index, machine in enumerate(nodes):
        key = f"node[{index}]"
        unique = [("id", machine.id), ("number", machine.number), ("address", machine.address)]
        unique += [("uuid", machine.uuid.lower())] if machine.uuid else []
        for what, value in unique:
            used = first.setdefault(f"{what} {value}", f"{key}.{what}")
            if used != f"{key}.{what}":
                problems.add(f"{key}.{what}", value, f"this {what} is used twice; first as {used}")
        _check_address(machine.address, f"{key}.address", problems)
        _check_identity(machine, key, problems)
        if machine.bmc.driver != "none":
            _check_address(machine.bmc.address, f"{key}.bmc.address", problems)
            if machine.bmc.password_file is None:
                problems.say(f"{key}.bmc.password_file is missing; needed: a file with the BMC's password")
    if not nodes:
        problems.say("node is missing; needed: at least one [[node]]")


def _check_identity(machine: Machine, key: str, problems: Problems) -> None:
    if machine.uuid and not forms(machine.uuid):
        problems.add(f"{key}.uuid", machine.uuid, 'allowed: a UUID such as "1f0c4b9e-…", as its BIOS shows it')
    for index, mac in enumerate(machine.macs):
        if re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", plain_mac(mac)) is None:
            problems.add(f"{key}.macs[{index}]", mac, 'allowed: a hardware address such as "52:54:00:77:00:01"')


def _check_address(value: str, key: str, problems: Problems) -> None:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        problems.add(key, value, 'allowed: an IP address such as "10.40.0.1"')


def _absolute_network(network: NetworkTable, base: Path) -> NetworkTable:
    accesses = tuple(
        msgspec.structs.replace(
            access,
            password_file=base / access.password_file,
            ca=base / access.ca if access.ca is not None else None,
        )
        for access in network.access
    )
    return msgspec.structs.replace(network, access=accesses)


def _absolute_bmc(machine: Machine, base: Path) -> Machine:
    bmc = machine.bmc
    found = {name: base / path for name in ("password_file", "ca") if (path := getattr(bmc, name)) is not None}
    return msgspec.structs.replace(machine, bmc=msgspec.structs.replace(bmc, **found))
