"""``rack init``: everything that a new rack starts from, made once from its inventory and its catalog.

In the folder: ``ca/`` (the authority; it stays with the operator), ``operator/`` (what the operator's commands need)
and ``nodes/<id>/``, which is copied to that node and is all that its supervisor needs. Running it again adds what is
missing and makes no key anew; copies of inventory, catalog and BMC passwords follow the originals.
"""

import argparse
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from core.errors import InputError
from core.ids import NO_NODE, NodeId
from drivers.ca import CERT_DAYS, OPERATOR, Authority, Pair, is_revocable, write_public, write_secret
from drivers.given_files import access_passwords, authorities_of, passwords_of
from drivers.inventory import Inventory, Machine, read_inventory
from drivers.join import REVOKED_FILE
from drivers.node_file import METRICS_PORT, NODE_FILE, node_text
from drivers.toml_text import toml_text
from drivers.zookeeper_server import FIRST_SERVER
from formats.catalog import Catalog, check_fit, load_catalog
from formats.problems import Problems, one_of

RESERVED = (OPERATOR, "rack-ca")
STATE_DIR = Path("/var/lib/moxie")
RUN_DIR = Path("/run/moxie")


class CephAccess(msgspec.Struct, frozen=True, kw_only=True):
    """Where the nodes find Ceph: paths on the nodes."""

    conf: Path
    user: str = "admin"
    keyring: Path | None = None
    pool: str = "rbd"

    @classmethod
    def asked(cls, arguments: argparse.Namespace) -> "CephAccess | None":
        """What ``--ceph-*`` of a command line say; None without ``--ceph-conf``."""
        if arguments.ceph_conf is None:
            return None
        return cls(
            conf=arguments.ceph_conf,
            user=arguments.ceph_user,
            keyring=arguments.ceph_keyring,
            pool=arguments.ceph_pool,
        )


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to make. ``first``: the node that the rack begins on (default: the lowest number).

    ``operator_ceph``: as whom the operator's commands reach the storage (default: as the nodes do).

    ``settings``: more of ``node.toml``, the same on every node. ``{node}`` and ``{address}`` stand for the node's own
    in ``state_dir``, ``run_dir`` and in every text of ``settings``. ``renew``: make certificates anew that end soon;
    ``revocable``: those that cannot be revoked, because an older version made them.
    """

    inventory: Path
    catalog: Path
    out: Path
    first: NodeId = NO_NODE
    ceph: CephAccess | None = None
    operator_ceph: CephAccess | None = None
    state_dir: Path = STATE_DIR
    run_dir: Path = RUN_DIR
    settings: dict[str, object] = {}
    renew: bool = False
    revocable: bool = False


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What ``prepare`` did. ``new``: nodes whose folders were made now; ``renewed``: who got new certificates."""

    first: NodeId
    nodes: tuple[NodeId, ...]
    new: tuple[NodeId, ...]
    renewed: tuple[str, ...]
    authority_is_new: bool


class _Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a plan, read and checked. ``accesses``: passwords by management network and name of the access.

    ``authorities``: what the certificates of Redfish BMCs are checked with, by the files that the inventory names.
    """

    inventory: Inventory
    catalog: Catalog
    passwords: dict[NodeId, bytes]
    accesses: dict[tuple[str, str], bytes]
    authorities: dict[Path, bytes]
    first: NodeId

    @property
    def machines(self) -> dict[NodeId, Machine]:
        """The nodes of the inventory."""
        return self.inventory.machines


def prepare(plan: Plan) -> Made:
    """Make everything of the plan that is missing.

    Raises: InputError with every problem of the inputs (then nothing was made), or if a file cannot be written.
    """
    inputs = _inputs(plan)
    authority = Authority(plan.out / "ca")
    authority_is_new = authority.make()
    if authority_is_new:  # certificates of an older authority name no list, and a server that has one would refuse them
        write_public(plan.out / "ca" / REVOKED_FILE, authority.revoke((), number=1))
    key = plan.out / "ca" / "heartbeat.key"
    if not key.exists():
        write_secret(key, secrets.token_hex(32).encode() + b"\n")
    new: list[NodeId] = []
    renewed: list[str] = []
    for node, machine in inputs.machines.items():
        pair = Pair.of(node_folder(plan.out, node) / "tls", "node")
        names = (machine.address, node, "localhost", "127.0.0.1")
        if pair.cert.exists() and _again(plan, authority, pair, node, names):
            renewed.append(node)
        authority.issue(pair, node, names)
        if _node_files(plan, inputs, machine):
            new.append(node)
    if _operator_files(plan, inputs, authority):
        renewed.append(OPERATOR)
    return Made(
        first=inputs.first,
        nodes=tuple(inputs.machines),
        new=tuple(new),
        renewed=tuple(renewed),
        authority_is_new=authority_is_new,
    )


def _again(plan: Plan, authority: Authority, pair: Pair, name: str, names: Sequence[str] = ()) -> bool:
    """Make a certificate anew if the plan asks for that; whether it was made."""
    if plan.revocable and not is_revocable(pair.cert):
        return authority.issue(pair, name, names, again=True)
    return plan.renew and authority.renew(pair, name, names)


def node_folder(out: Path, node: NodeId) -> Path:
    """The folder of a node; ``node.toml`` in it is what ``rack supervisor --config`` wants."""
    return out / "nodes" / node


def operator_file(out: Path) -> Path:
    """What the operator's commands want as ``--config``."""
    return out / "operator" / "operator.toml"


# -- inputs ------------------------------------------------------------------------------------------------------------


def _inputs(plan: Plan) -> _Inputs:
    problems = Problems("rack init")
    inventory = Inventory(machines={})
    catalog: Catalog | None = None
    try:
        inventory = read_inventory(plan.inventory)
    except InputError as error:
        problems.take(error)
    try:
        catalog = load_catalog(plan.catalog)
    except InputError as error:
        problems.take(error)
    machines = inventory.machines
    first = plan.first or min(machines, key=lambda node: machines[node].number, default=NO_NODE)
    if machines and first not in machines:
        problems.add("--node", first, f"no such node; allowed: {one_of(machines)}", machines)
    _check_machines(plan, machines, problems)
    if catalog is not None and machines:
        _check_catalog(plan, catalog, inventory, problems)
    passwords, accesses = passwords_of(machines, problems), access_passwords(inventory, problems)
    authorities = authorities_of(inventory, problems)
    first = _begun_on(plan, first, problems)
    problems.check()
    assert catalog is not None
    return _Inputs(
        inventory=inventory,
        catalog=catalog,
        passwords=passwords,
        accesses=accesses,
        authorities=authorities,
        first=first,
    )


def _check_machines(plan: Plan, machines: dict[NodeId, Machine], problems: Problems) -> None:
    for node, machine in machines.items():
        if node in RESERVED:
            problems.say(f'node "{node}": this name is taken by the rack itself; allowed: any but {one_of(RESERVED)}')
        text = str(plan.state_dir) + str(plan.run_dir)
        if "\n" in text + machine.address:
            problems.add("--state-dir", text, "allowed: a path of one line")


def _check_catalog(plan: Plan, catalog: Catalog, inventory: Inventory, problems: Problems) -> None:
    about, machines = Problems(str(plan.catalog)), inventory.machines
    specs = tuple(machine.spec for machine in machines.values())
    check_fit(catalog, specs, about, more=bool(inventory.networks))
    taken = {machine.address: node for node, machine in machines.items()}
    for index, spec in enumerate(catalog.specs):
        if spec.address in taken:
            about.add(f"service[{index}].address", spec.address, f"is the address of node {taken[spec.address]}")
    volumes = [spec.volume for spec in catalog.specs if spec.volume]
    if volumes and plan.ceph is None:
        about.say(f"services keep volumes ({one_of(volumes)}); needed: --ceph-conf FILE, or a catalog without volumes")
    problems.found += about.found


def _begun_on(plan: Plan, first: NodeId, problems: Problems) -> NodeId:
    """The node that the rack began on if it was made before: an ensemble must not begin twice."""
    marks = sorted((plan.out / "nodes").glob(f"*/{FIRST_SERVER}")) if (plan.out / "nodes").is_dir() else []
    if not marks:
        return first
    begun = NodeId(marks[0].parent.name)
    if plan.first and begun != first:
        problems.add("--node", first, f"this rack begins on {begun}; two ensembles would be two racks", (begun,))
    return begun


# -- files -------------------------------------------------------------------------------------------------------------


def _node_files(plan: Plan, inputs: _Inputs, machine: Machine) -> bool:
    """Write the folder of one node; True if it had no ``node.toml`` yet."""
    node = NodeId(machine.id)
    folder = node_folder(plan.out, node)
    _shared_files(plan, inputs, folder)
    _once(folder / "heartbeat.key", (plan.out / "ca" / "heartbeat.key").read_bytes())
    if node == inputs.first:
        _once(folder / FIRST_SERVER, f"the rack's ensemble begins with the server of {node}\n".encode())
    if (revoked := plan.out / "ca" / REVOKED_FILE).exists() and not (folder / "tls" / REVOKED_FILE).exists():
        write_public(folder / "tls" / REVOKED_FILE, revoked.read_bytes())  # from then on the node keeps its own
    file = folder / NODE_FILE
    if file.exists():
        return False
    write_public(file, node_text(machine, plan.state_dir, plan.run_dir, {**_ceph(plan.ceph), **plan.settings}))
    return True


def _operator_files(plan: Plan, inputs: _Inputs, authority: Authority) -> bool:
    """Write the operator's folder; True if its certificate was renewed."""
    file = operator_file(plan.out)
    pair = Pair.of(file.parent / "tls", OPERATOR)
    renewed = pair.cert.exists() and _again(plan, authority, pair, OPERATOR)
    authority.issue(pair, OPERATOR)
    _shared_files(plan, inputs, file.parent)
    if not file.exists():
        known = ("zookeeper", "ceph", "timing")
        tables: dict[str, object] = {
            "inventory": "inventory.toml",
            "catalog": "catalog.toml",
            "tls": {"ca": "tls/ca.pem", "cert": f"tls/{OPERATOR}.pem", "key": f"tls/{OPERATOR}.key"},
            **_ceph(plan.operator_ceph or plan.ceph),
            **{name: table for name, table in plan.settings.items() if name in known},
            "metrics_port": _metrics_port(plan),
        }
        head = "# What the commands of the operator start from (--config); see docs/drivers/rack.md.\n"
        write_public(file, (head + toml_text(tables)).encode())
    return renewed


def _shared_files(plan: Plan, inputs: _Inputs, folder: Path) -> None:
    """Write what everybody has: the authority's certificate, the catalog, the inventory with the BMCs' passwords."""
    _follow(folder / "tls" / "ca.pem", (plan.out / "ca" / "ca.pem").read_bytes())
    _follow(folder / "catalog.toml", plan.catalog.read_bytes())
    tables = []
    for node, machine in inputs.machines.items():
        table = _plain(machine)
        if node in inputs.passwords:
            _follow(folder / "bmc" / node, inputs.passwords[node], secret=True)
            table["bmc"]["password_file"] = f"bmc/{node}"
        else:
            table["bmc"].pop("password_file")
        if machine.bmc.ca is not None:
            table["bmc"]["ca"] = f"bmc/{node}.pem"
            _follow(folder / "bmc" / f"{node}.pem", inputs.authorities[machine.bmc.ca])
        tables.append(table)
    head = f"# Written by 'rack init' from {plan.inventory.name}; change that one and run it again.\n"
    file: dict[str, object] = {"node": tables, "network": _network_files(inputs, folder)}
    if inputs.inventory.boot is not None:
        file["boot"] = _plain(inputs.inventory.boot)
    _follow(folder / "inventory.toml", (head + toml_text(file)).encode())


def _network_files(inputs: _Inputs, folder: Path) -> list[dict[str, Any]]:
    """The tables of the management networks, with the passwords that their BMCs are tried with written beside."""
    tables = []
    for network in inputs.inventory.networks:
        table = _plain(network)
        for access, shown in zip(network.access, table["access"], strict=True):
            file = f"bmc/{network.name}/{access.name}"
            _follow(folder / file, inputs.accesses[network.name, access.name], secret=True)
            shown["password_file"] = file
            if access.ca is not None:
                shown["ca"] = f"{file}.pem"
                _follow(folder / shown["ca"], inputs.authorities[access.ca])
        tables.append(table)
    return tables


def _plain(struct: msgspec.Struct) -> dict[str, Any]:
    """A table as TOML has it; what is not set is left out."""
    found: dict[str, Any] = msgspec.to_builtins(struct, builtin_types=(Path,), enc_hook=str)
    return found


def _metrics_port(plan: Plan) -> int:
    """The port of every node's agent, which the operator's commands ask."""
    port = str(plan.settings.get("metrics", "")).rpartition(":")[2]
    return int(port) if port.isdigit() else METRICS_PORT


def _ceph(access: CephAccess | None) -> dict[str, object]:
    if access is None:
        return {}
    conf, ring = access.conf.absolute(), access.keyring
    keyring = ring.absolute() if ring is not None else None
    return {"ceph": {"conf": conf, "user": access.user, "keyring": keyring, "pool": access.pool}}


def _once(path: Path, data: bytes) -> None:
    if not path.exists():
        write_secret(path, data)


def _follow(path: Path, data: bytes, *, secret: bool = False) -> None:
    """Write a copy again only when its original has changed."""
    try:
        same = path.read_bytes() == data
    except OSError:
        same = False
    if not same:
        (write_secret if secret else write_public)(path, data)


def told(plan: Plan, made: Made) -> str:
    """Say what was made and what comes next."""
    lines = [f"{plan.out}: a rack of {len(made.nodes)} nodes; {len(made.new)} of them new"]
    if made.authority_is_new:
        lines.append(f"  {plan.out / 'ca'} signs for the rack: keep it where no node can read it, and a copy elsewhere")
    lines += [f"  renewed the certificate of {name} for {CERT_DAYS} days" for name in made.renewed]
    if made.new:
        lines.append(f"  copy {plan.out / 'nodes'}/<id> to each node as /etc/moxie, readable by root only")
        lines.append(f"  on {made.first} first: rack supervisor --config /etc/moxie/node.toml")
        lines.append(f"  then, from here: rack init --seed-records --config {operator_file(plan.out)}")
        lines.append("  then the same supervisor command on the others, or let the rack boot them")
    return "\n".join(lines)
