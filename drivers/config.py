"""A node's configuration, ``node.toml``, and the inventory of the rack it names, ``inventory.toml``."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from core.errors import InputError
from core.ids import DomainId, NodeId, RackId
from core.journal import Opening
from core.specs import NodeSpec, Timing
from formats.catalog import Catalog, load_catalog
from formats.load import MS_MAX, Name, PositiveMs, build, keys_of, read_toml
from formats.problems import Problems, nearest, one_of, text_table

Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
Size = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """``[tls]``: PEM files. ``key`` must be readable by its owner only."""

    ca: Path
    cert: Path
    key: Path


class ZooKeeperTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[zookeeper]``: this node's server. Its ports are the same on every node; ``java``: more options for its JVM."""

    client_port: Port = 2281
    quorum_port: Port = 2888
    election_port: Port = 3888
    tick_ms: PositiveMs = 500
    init_limit: Size = 20
    sync_limit: Size = 4
    heap_mib: Size = 128
    java: tuple[str, ...] = ()


class CephTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[ceph]``: how this node reaches the storage. No table: a rack without volumes."""

    conf: Path = Path("/etc/ceph/ceph.conf")
    user: str = "admin"
    keyring: Path | None = None
    pool: str = "rbd"
    volume_mib: Size = 1_024


class AddressTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[address]``: where the addresses of services come up."""

    interface: str = "eth0"
    prefix: Annotated[int, msgspec.Meta(ge=1, le=128)] = 32


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
    """One ``[[node]]`` of the inventory. ``number`` is its ZooKeeper server id."""

    id: Name
    number: Annotated[int, msgspec.Meta(ge=1, le=255)]
    address: str
    rack: Name = "r1"
    power_domain: Name = "p1"
    weight: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    cores: Annotated[int, msgspec.Meta(ge=1, le=4_096)] = 8
    memory_gib: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 16
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
        )


class InventoryTables(msgspec.Struct, frozen=True, kw_only=True):
    """A whole inventory file."""

    node: tuple[Machine, ...]


class NodeTables(msgspec.Struct, frozen=True, kw_only=True):
    """A whole node file. Paths are taken relative to the file's folder.

    ``state_dir`` outlives a boot (journal, ZooKeeper's data); ``run_dir`` does not (sockets, session, view).
    ``heartbeat_key``: a secret of the rack; ``metrics``: "ADDRESS:PORT" or "" for none;
    ``watchdog``: a device such as "/dev/watchdog", "" for none; ``hold_dir``: see docs/drivers/supervisor.md.
    """

    node: Name
    inventory: Path
    catalog: Path
    state_dir: Path
    run_dir: Path
    tls: Tls | None = None
    zookeeper: ZooKeeperTable = ZooKeeperTable()
    ceph: CephTable | None = None
    address: AddressTable = AddressTable()
    timing: dict[str, object] = {}
    workload: Literal["process", "systemd"] = "process"
    heartbeat_key: Path | None = None
    heartbeat_port: Port = 7946
    metrics: str = "127.0.0.1:9464"
    watchdog: str = ""
    boot_id_path: Path = Path("/proc/sys/kernel/random/boot_id")
    journal_mib: Size = 64
    restart_ms: PositiveMs = 100
    give_up_ms: PositiveMs = 900


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A node's configuration with everything it names read in; ``file`` is where it was read."""

    file: Path
    tables: NodeTables
    timing: Timing
    catalog: Catalog
    machines: dict[NodeId, Machine]

    @property
    def node(self) -> NodeId:
        """This node's id."""
        return NodeId(self.tables.node)

    @property
    def me(self) -> Machine:
        """This node's entry in the inventory."""
        return self.machines[self.node]

    @property
    def opening(self) -> Opening:
        """What this node's machine is made from."""
        return Opening(
            node=self.me.spec,
            timing=self.timing,
            services=self.catalog.specs,
            inventory=tuple(machine.spec for _, machine in sorted(self.machines.items())),
        )


def load_config(path: Path) -> Config:
    """Read a node file, its inventory and its catalog.

    Raises: InputError with every problem of the three.
    """
    problems = Problems(str(path))
    raw = read_toml(path, "a node's configuration")
    tables = build(raw, NodeTables, problems)
    if tables is None:
        _timing(text_table(raw.get("timing")), problems)
    problems.check()
    assert tables is not None
    return complete(path, tables)


def complete(path: Path, tables: NodeTables) -> Config:
    """Read in what the tables of the file at ``path`` name; the file itself is not read again.

    Raises: InputError with every problem of all of them.
    """
    problems = Problems(str(path))
    tables = _absolute(tables, path.absolute().parent)
    machines: dict[NodeId, Machine] = {}
    catalog: Catalog | None = None
    try:
        machines = load_inventory(tables.inventory)
        if NodeId(tables.node) not in machines:
            allowed = f"not in {tables.inventory}; allowed: {one_of(machines)}"
            problems.add("node", tables.node, allowed, machines)
    except InputError as error:
        problems.take(error)
    timing = _timing(tables.timing, problems)
    try:
        catalog = load_catalog(tables.catalog)
    except InputError as error:
        problems.take(error)
    problems.check()
    assert catalog is not None
    return Config(file=path.absolute(), tables=tables, timing=timing, catalog=catalog, machines=machines)


def load_inventory(path: Path) -> dict[NodeId, Machine]:
    """Read an inventory.

    Raises: InputError with every problem of the file.
    """
    problems = Problems(str(path))
    tables = build(read_toml(path, "an inventory file"), InventoryTables, problems)
    problems.check()
    assert tables is not None
    first: dict[str, str] = {}
    for index, machine in enumerate(tables.node):
        key = f"node[{index}]"
        for what, value in (("id", machine.id), ("number", machine.number), ("address", machine.address)):
            used = first.setdefault(f"{what} {value}", f"{key}.{what}")
            if used != f"{key}.{what}":
                problems.add(f"{key}.{what}", value, f"this {what} is used twice; first as {used}")
        _check_address(machine.address, f"{key}.address", problems)
        if machine.bmc.driver != "none":
            _check_address(machine.bmc.address, f"{key}.bmc.address", problems)
            if machine.bmc.password_file is None:
                problems.say(f"{key}.bmc.password_file is missing; needed: a file with the BMC's password")
    if not tables.node:
        problems.say("node is missing; needed: at least one [[node]]")
    problems.check()
    base = path.absolute().parent
    return {NodeId(machine.id): _absolute_bmc(machine, base) for machine in tables.node}


def _check_address(value: str, key: str, problems: Problems) -> None:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        problems.add(key, value, 'allowed: an IP address such as "10.40.0.1"')


def _timing(changes: Mapping[str, object], problems: Problems) -> Timing:
    known, found = keys_of(Timing), {}
    for name, value in changes.items():
        if name not in known:
            problems.add(f"timing.{name}", value, f"no such key; allowed: {one_of(known)}{nearest(name, known)}")
        elif type(value) is not int or not 1 <= value <= MS_MAX:
            problems.add(f"timing.{name}", value, f"allowed: a whole number from 1 to {MS_MAX}")
        else:
            found[name] = value
    return msgspec.structs.replace(Timing(), **found)


def _absolute(tables: NodeTables, base: Path) -> NodeTables:
    """Take every path relative to the file's folder."""
    names = ("inventory", "catalog", "state_dir", "run_dir", "boot_id_path")
    found: dict[str, object] = {name: base / getattr(tables, name) for name in names}
    if tables.heartbeat_key is not None:
        found["heartbeat_key"] = base / tables.heartbeat_key
    if tables.tls is not None:
        found["tls"] = Tls(ca=base / tables.tls.ca, cert=base / tables.tls.cert, key=base / tables.tls.key)
    if tables.ceph is not None:
        ring = tables.ceph.keyring
        found["ceph"] = msgspec.structs.replace(
            tables.ceph, conf=base / tables.ceph.conf, keyring=base / ring if ring is not None else None
        )
    return msgspec.structs.replace(tables, **found)


def _absolute_bmc(machine: Machine, base: Path) -> Machine:
    bmc = machine.bmc
    found = {name: base / path for name in ("password_file", "ca") if (path := getattr(bmc, name)) is not None}
    return msgspec.structs.replace(machine, bmc=msgspec.structs.replace(bmc, **found))
