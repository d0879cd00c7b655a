"""What the commands of an operator start from: ``operator.toml`` as ``rack init`` writes it, or a node's own file."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from core.errors import InputError
from core.ids import NodeId
from core.records import Change
from drivers.config import (
    BmcTable,
    CephTable,
    Config,
    NodeTables,
    Port,
    Tls,
    ZooKeeperTable,
    complete,
    load_config,
    load_inventory,
)
from drivers.roster import learn
from formats.load import build, read_toml
from formats.problems import Problems

PLACES = (Path("operator.toml"), Path("/etc/moxie/operator.toml"), Path("/etc/moxie/node.toml"))
"""Where a command looks for its file if it is not told."""


class OperatorTables(msgspec.Struct, frozen=True, kw_only=True):
    """A whole ``operator.toml``. Paths are taken relative to its folder; ``metrics_port``: of every node's agent."""

    inventory: Path
    catalog: Path
    tls: Tls | None = None
    zookeeper: ZooKeeperTable = ZooKeeperTable()
    ceph: CephTable | None = None
    timing: dict[str, object] = {}
    metrics_port: Port = 9464


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The way to a rack. ``local``: the file is a node's, so that this machine itself can be looked at.

    ``config`` of an operator's file names the first node of the inventory, whose folders mean nothing here.
    """

    config: Config
    local: bool
    metrics_port: int

    @property
    def file(self) -> Path:
        """The file that this was read from."""
        return self.config.file

    def learn(self, records: Mapping[str, Change]) -> tuple[str, ...]:
        """Take up the machines that were found, of all shared records; what is wrong with them, a sentence each.

        An operator's folder keeps them for the next time; a node's own agent does that itself.
        """
        return learn(self.config, records, None if self.local else self.config.tables.inventory.parent)

    def servers(self) -> dict[NodeId, str]:
        """Where each node's ZooKeeper server listens if it has one: ``ADDRESS:PORT``."""
        port = self.config.tables.zookeeper.client_port
        return {node: endpoint(machine.address, port) for node, machine in self.config.machines.items()}

    def agents(self) -> dict[NodeId, str]:
        """Where each node's agent shows its metrics and its view: ``ADDRESS:PORT``."""
        return {node: endpoint(machine.address, self.metrics_port) for node, machine in self.config.machines.items()}

    def bmcs(self) -> dict[NodeId, BmcTable]:
        """The BMCs of the nodes that have one."""
        return {node: m.bmc for node, m in self.config.machines.items() if m.bmc.driver != "none"}


def endpoint(address: str, port: int) -> str:
    """Write an address with a port; IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def load_access(path: Path | None) -> Access:
    """Read the file, or the first of ``PLACES`` that exists.

    Raises: InputError with every problem of it and of the files it names.
    """
    if path is None:
        path = next((place for place in PLACES if place.is_file()), None)
        if path is None:
            looked = ", ".join(map(str, PLACES))
            needed = "--config FILE, with what 'rack init' wrote: operator.toml, or a node's node.toml"
            raise InputError([f"no configuration: looked for {looked}; needed: {needed}"])
    tables = read_toml(path, "operator.toml or a node's configuration")
    if "node" in tables:
        config = load_config(path)
        port = config.tables.metrics.rpartition(":")[2]
        return Access(config=config, local=True, metrics_port=int(port) if port.isdigit() else 9464)
    return _operator(path, tables)


def _operator(path: Path, raw: dict[str, object]) -> Access:
    """Read an operator's file as that of a node which is the first of the inventory."""
    problems = Problems(str(path))
    mine = build(raw, OperatorTables, problems)
    problems.check()
    assert mine is not None
    base = path.absolute().parent
    first = next(iter(load_inventory(base / mine.inventory)))
    as_node = NodeTables(
        node=first,
        inventory=mine.inventory,
        catalog=mine.catalog,
        state_dir=Path("state"),
        run_dir=Path("run"),
        tls=mine.tls,
        zookeeper=mine.zookeeper,
        ceph=mine.ceph,
        timing=mine.timing,
    )
    config = complete(path, as_node)
    return Access(config=config, local=False, metrics_port=mine.metrics_port)
