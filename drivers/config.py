"""A node's configuration, ``node.toml``, and the inventory of the rack it names, ``inventory.toml``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from core.errors import InputError
from core.ids import NodeId
from core.journal import Opening
from core.specs import Timing
from drivers.inventory import BmcTable as BmcTable  # here and below: names that are part of this module as well
from drivers.inventory import Inventory, Machines, read_inventory
from drivers.inventory import Machine as Machine
from drivers.inventory import load_inventory as load_inventory
from drivers.networks import Port as Port
from drivers.roster import restored
from formats.catalog import Catalog, load_catalog
from formats.load import MS_MAX, Name, PositiveMs, build, keys_of, read_toml
from formats.problems import Problems, nearest, one_of, text_table

Size = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """``[tls]``: PEM files. ``key`` must be readable by its owner only."""

    ca: Path
    cert: Path
    key: Path


class ZooKeeperTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[zookeeper]``: this node's server. Its ports are the same on every node; ``java``: more options for its JVM.

    ``server``: whether this node may run one.
    """

    server: bool = True
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


class StorageTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[storage]``: this node has a part of the rack's own storage. No table: it has none.

    ``user``, ``keyring``: what it may do there; ``disk_gib``: how large its OSD may become at most.
    """

    keyring: Path
    user: Name = "moxie-storage"
    disk_gib: Size = 64

    @property
    def rings(self) -> tuple[Path, ...]:
        """Every key of the storage that lies beside its own."""
        return (self.keyring, *(path for path in sorted(self.keyring.parent.glob("*.keyring")) if path != self.keyring))


class AddressTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[address]``: where the addresses of services come up."""

    interface: str = "eth0"
    prefix: Annotated[int, msgspec.Meta(ge=1, le=128)] = 32


class NetbootTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[netboot]``: how this node boots other machines. No table: it boots none.

    ``images``: the folder with a folder for each image, by its id; ``image``: the one to boot where nothing else is
    said (default: what this node booted); ``key``: what images are signed with (default: ``images.pub`` in ``images``).
    ``ca``: the authority's folder.
    ``mode``: "proxy" where another DHCP server lends the addresses. ``mbit_max``: bandwidth of all transfers together,
    ``streams_max``: machines that load an image at once; the others wait for their turn.
    """

    interface: str
    images: Path
    ca: Path
    image: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{16})?$")] = ""
    key: Path | None = None
    http_port: Port = 8080
    join_port: Port = 8443
    mode: Literal["dhcp", "proxy"] = "dhcp"
    mbit_max: Size = 900
    streams_max: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 8


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
    storage: StorageTable | None = None
    address: AddressTable = AddressTable()
    netboot: NetbootTable | None = None
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
    """A node's configuration with everything it names read in; ``file`` is where it was read.

    ``machines``: those of ``inventory`` and those that were found (``drivers.roster``), the same object for everybody.
    """

    file: Path
    tables: NodeTables
    timing: Timing
    catalog: Catalog
    machines: Machines
    inventory: Inventory = Inventory(machines={})

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
        """What this node's machine is made from. Machines that were found are no part of it: it knows their records."""
        listed, boot = self.inventory.machines or self.machines, self.inventory.boot
        return Opening(
            node=msgspec.structs.replace(self.me.spec, voter=self.tables.zookeeper.server),
            timing=self.timing,
            services=self.catalog.specs,
            inventory=tuple(machine.spec for _, machine in sorted(listed.items())),
            networks=tuple(network.name for network in self.inventory.networks),
            taken=boot.forbidden() if boot is not None else (),
        )


def check_tables(tables: Mapping[str, object], problems: Problems) -> None:
    """Note what is wrong with some tables of a node file that is not written yet."""
    begun: dict[str, object] = dict.fromkeys(("inventory", "catalog", "state_dir", "run_dir"), "-")
    build({"node": "n1", **begun, **tables}, NodeTables, problems)
    _timing(text_table(tables.get("timing")), problems)


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
    inventory: Inventory | None = None
    catalog: Catalog | None = None
    machines = Machines({})
    try:
        inventory = read_inventory(tables.inventory)
        machines = Machines(restored(inventory, NodeId(tables.node), tables.state_dir, tables.inventory.parent))
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
    assert inventory is not None
    return Config(
        file=path.absolute(), tables=tables, timing=timing, catalog=catalog, machines=machines, inventory=inventory
    )


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
    if (netboot := tables.netboot) is not None:
        key = base / (netboot.key or netboot.images / "images.pub")
        found["netboot"] = msgspec.structs.replace(netboot, images=base / netboot.images, ca=base / netboot.ca, key=key)
    if tables.ceph is not None:
        ring = tables.ceph.keyring
        found["ceph"] = msgspec.structs.replace(
            tables.ceph, conf=base / tables.ceph.conf, keyring=base / ring if ring is not None else None
        )
    if tables.storage is not None:
        found["storage"] = msgspec.structs.replace(tables.storage, keyring=base / tables.storage.keyring)
    return msgspec.structs.replace(tables, **found)
