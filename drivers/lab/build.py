"""What a lab is made of, from a rack and a catalog: its layout and every file that its nodes start from."""

import secrets
import sys
from pathlib import Path

import msgspec

from core.ids import NodeId
from core.specs import Timing
from drivers.ca import write_secret
from drivers.ceph_cluster import POOL, CephBroken, CephCluster, CephPlace, CephSettings
from drivers.init import CephAccess, Plan, node_folder, operator_file, prepare
from drivers.lab import bmcs, found, power
from drivers.lab.layout import NODES_MAX, LabFailure, LabNode, Layout
from drivers.lab.machine import Daemon, Software, write_software
from drivers.lab.rack import bmc_of
from drivers.lab.services import lab_form, to_toml
from drivers.toml_text import toml_text
from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.problems import Problems

PASSWORD_BYTES = 8
"""IPMI 2.0 takes up to 20 characters."""
GIVE_UP_PERCENT = 45
"""An agent that stays away for this share of its session's time is replaced, so that the hand-over is clean."""
CEPH_ENVIRONMENT = {"CEPH_USE_RANDOM_NONCE": "1"}
"""A daemon's instance is told from the one before by its process id, which is the same at every boot of a namespace."""


def nodes_of(rack: RackFile) -> tuple[LabNode, ...]:
    """The nodes of a rack file, numbered in its order. Raises: InputError if they are too many for one machine."""
    problems = Problems(rack.name)
    if len(rack.nodes) > NODES_MAX:
        problems.say(f"rack {rack.name}: {len(rack.nodes)} nodes; the lab runs at most {NODES_MAX} on one machine")
    problems.check()
    return tuple(
        LabNode(
            id=server.spec.id,
            number=number,
            rack=server.spec.rack,
            power_domain=server.spec.power_domain,
            weight=server.spec.weight,
            cores=server.spec.cores,
            memory_gib=server.spec.memory_bytes >> 30,
            switches=server.switches,
            plugged=server.plugged,
        )
        for number, server in enumerate(rack.nodes, start=1)
    )


def equal_nodes(count: int) -> tuple[LabNode, ...]:
    """So many equal nodes on two power domains."""
    return tuple(
        LabNode(id=NodeId(f"n{number}"), number=number, power_domain=("p1", "p2")[(number - 1) % 2])  # type: ignore[arg-type]  # plain texts are ids
        for number in range(1, count + 1)
    )


class Blueprint(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a lab is built from."""

    layout: Layout
    catalog: Catalog
    timing: Timing = Timing()
    real_services: bool = False

    @property
    def ceph(self) -> CephCluster:
        """The storage's files and commands."""
        nodes = [CephPlace(name=node.id, address=node.data_address) for node in self.layout.nodes]
        return CephCluster(self.layout.folder / "ceph", nodes, CephSettings(groups=32, grace_s=2))


def lab_catalog(plan: Blueprint) -> Catalog:
    """The catalog with processes that run anywhere."""
    form = lab_form(plan.catalog, plan.layout.folder, plan.real_services)
    return found.with_netboot(form) if plan.layout.found else form


def write_files(plan: Blueprint) -> None:
    """Write everything but what is in the kernel. Raises: InputError, LabFailure."""
    layout = plan.layout
    folder = layout.folder
    for name in ("nodes", "passwords", "sick"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    passwords = [f"{secrets.token_hex(PASSWORD_BYTES)}\n".encode() for _ in range(2)]
    write_secret(folder / "passwords" / found.ACCESS, passwords[1])
    for node in layout.nodes:
        write_secret(folder / "passwords" / node.id, passwords[node in layout.dark])
        power.write_switches(layout, node)
        bmcs.write(bmc_of(layout, node))
    inventory = {"node": inventory_nodes(layout), **(found.networks() if layout.found else {})}
    (folder / "inventory.toml").write_text(toml_text(inventory), encoding="utf-8")
    (folder / "catalog.toml").write_text(to_toml(lab_catalog(plan)), encoding="utf-8")
    ceph = plan.ceph
    if layout.volumes:
        try:
            ceph.prepare()
        except CephBroken as error:
            raise LabFailure(f"the storage cannot be made: {error}") from None
    prepare(_init_plan(plan, ceph))
    for node in layout.nodes:
        _install(plan, ceph, node)


def operator_of(folder: Path) -> Path:
    """The operator's configuration of the lab in this folder."""
    return operator_file(folder / "rack")


def inventory_nodes(layout: Layout) -> list[dict[str, object]]:
    """The ``[[node]]`` tables of the lab's nodes; passwords lie where ``write_files`` puts them."""
    return [
        {
            "id": node.id,
            "number": node.number,
            "address": node.data_address,
            "rack": node.rack,
            "power_domain": node.power_domain,
            "weight": node.weight,
            "cores": node.cores,
            "memory_gib": node.memory_gib,
            "bmc": {
                "driver": "ipmi",
                "address": node.bmc_address,
                "user": "admin",
                "password_file": f"passwords/{node.id}",
            },
        }
        for node in layout.listed
    ]


def node_settings(folder: Path, timing: Timing) -> dict[str, object]:
    """What every node says beside what ``rack init`` writes: it shares a machine of few cores with the others."""
    default = Timing()
    names = msgspec.structs.asdict(default)
    return {
        "boot_id_path": folder / "nodes" / "{node}" / "boot_id",
        "address": {"interface": "eth0"},
        "zookeeper": {"heap_mib": 64, "java": ["-XX:TieredStopAtLevel=1"]},  # few cores: start for a quarter less
        "give_up_ms": timing.session_timeout_ms * GIVE_UP_PERCENT // 100,
        "timing": {name: getattr(timing, name) for name in names if getattr(timing, name) != getattr(default, name)},
    }


def _init_plan(plan: Blueprint, ceph: CephCluster) -> Plan:
    folder = plan.layout.folder
    homes = folder / "nodes" / "{node}"
    access = CephAccess(
        conf=ceph.conf, user="moxie-{node}", keyring=ceph.root / "client.moxie-{node}.keyring", pool=POOL
    )
    return Plan(
        inventory=folder / "inventory.toml",
        catalog=folder / "catalog.toml",
        out=folder / "rack",
        ceph=access if plan.layout.volumes else None,
        state_dir=homes / "state",
        run_dir=homes / "run",
        settings=node_settings(folder, plan.timing) | (found.settings(folder) if plan.layout.found else {}),
    )


def _install(plan: Blueprint, ceph: CephCluster, node: LabNode) -> None:
    """Put on a node what its operating system runs: the storage's daemons and the supervisor."""
    layout, home = plan.layout, plan.layout.home(node.id)
    commands = ceph.daemon_commands(node.id) if layout.volumes else []
    daemons = [Daemon(name=_daemon_name(argv), argv=argv, env=CEPH_ENVIRONMENT) for argv in commands]
    dark = node in layout.dark
    config = (home / "etc" if dark else node_folder(layout.folder / "rack", node.id)) / "node.toml"
    python = layout.python or sys.executable
    supervisor = (python, "-m", "drivers.cli", "supervisor", "--config", str(config))
    daemons.append(Daemon(name="supervisor", argv=supervisor))
    software = Software(
        node=node.id,
        lab=layout.folder,
        run_dir=home / "run",
        boot_id=home / "boot_id",
        daemons=tuple(daemons),
        first=Daemon(name="boot", argv=(python, "-m", "drivers.lab.netbooted", str(home))) if dark else None,
    )
    write_software(home, software)


def _daemon_name(argv: tuple[str, ...]) -> str:
    """``osd.0``, ``mon.n1``: how such daemons are called."""
    return f"{Path(argv[0]).name.removeprefix('ceph-')}.{argv[argv.index('-i') + 1]}"
