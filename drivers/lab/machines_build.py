"""What a rack with emulated machines starts from: its inventory knows the native nodes, and where to look for more.

The machines are in no file: the rack finds them by their BMCs, with credentials that are good for a whole network.
"""

import secrets
import shutil
import sys
from pathlib import Path

import msgspec

from core.errors import InputError
from core.ids import ImageId, NodeId
from core.specs import Timing
from drivers.ca import write_secret
from drivers.init import Plan, node_folder, prepare
from drivers.lab import bmcs, power
from drivers.lab.build import PASSWORD_BYTES, inventory_nodes, node_settings
from drivers.lab.layout import DATA_NET, INFRA_HOST, MANAGEMENT_NET, Layout
from drivers.lab.machine import Daemon, Software, write_software
from drivers.lab.rack import bmc_of
from drivers.toml_text import toml_text

POOL = f"{DATA_NET}.220-{DATA_NET}.239"
INSTALL = "/dev/vda"
"""The disk of a machine, as its kernel calls it."""
CALIBRATION = Path("racks/virtual/calibration.toml")
"""What boots and downloads take on emulated processors: `rack upgrade rehearse` on a native node foretells with it."""

TIMING = Timing(
    session_timeout_ms=8_000,
    fresh_ms=2_000,
    withdraw_ms=500,
    suspect_ms=2_000,
    commit_ms_max=8_000,
    fence_ms_max=15_000,
    recover_ms=5_000,
    boot_ms_max=420_000,
    scan_ms=5_000,
    stable_ms=60_000,
)
"""Slower than a rack's where an emulated processor must keep up, quicker where somebody waits and watches."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """The image that machines boot: its folder, its id, and the public key that it was verified with."""

    folder: Path
    id: ImageId
    key: Path


class MachinesPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a rack with emulated machines is built from. ``catalog``: its file, used as it is."""

    layout: Layout
    catalog: Path
    image: Image
    timing: Timing = TIMING


def write_files(plan: MachinesPlan) -> None:
    """Write everything but what is in the kernel. Raises: InputError."""
    layout, folder = plan.layout, plan.layout.folder
    for name in ("nodes", "machines", "passwords", "images"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    for name in ("lab", *(node.id for node in layout.nodes)):
        write_secret(folder / "passwords" / name, f"{secrets.token_hex(PASSWORD_BYTES)}\n".encode())
    for node in layout.nodes:
        power.write_switches(layout, node)
        bmcs.write(bmc_of(layout, node))
    _place_image(plan)
    inventory = folder / "inventory.toml"
    inventory.write_text(_inventory(layout), encoding="utf-8")
    prepare(_init_plan(plan, inventory))
    for node in layout.nodes:
        _install(layout, node.id)


def _place_image(plan: MachinesPlan) -> None:
    """Put the image where the boot services look for it; linked, not copied, where that can be done."""
    to = plan.layout.folder / "images"
    try:
        shutil.copytree(plan.image.folder, to / plan.image.id, copy_function=_link)
        shutil.copyfile(plan.image.key, to / "images.pub")
    except (OSError, shutil.Error) as error:
        raise InputError([f"{plan.image.folder}: cannot be copied to {to}: {error}"]) from None


def _link(source: str, to: str) -> None:
    try:
        Path(to).hardlink_to(source)
    except OSError:  # another filesystem
        shutil.copyfile(source, to)


def _inventory(layout: Layout) -> str:
    access = {"name": "lab", "driver": "ipmi", "user": "admin", "password_file": "passwords/lab"}
    network = {"name": "mgmt", "subnet": f"{MANAGEMENT_NET}.0/24", "rack": "r1", "power_domain": "p1"}
    boot = {"subnet": f"{DATA_NET}.0/24", "pool": POOL, "gateway": f"{DATA_NET}.{INFRA_HOST}", "install": INSTALL}
    return toml_text({"node": inventory_nodes(layout), "network": [{**network, "access": [access]}], "boot": boot})


def _init_plan(plan: MachinesPlan, inventory: Path) -> Plan:
    folder = plan.layout.folder
    homes = folder / "nodes" / "{node}"
    netboot = {
        "interface": "eth0",
        "images": folder / "images",
        "image": plan.image.id,
        "ca": folder / "rack" / "ca",
    }
    return Plan(
        inventory=inventory,
        catalog=plan.catalog,
        out=folder / "rack",
        state_dir=homes / "state",
        run_dir=homes / "run",
        settings={**node_settings(folder, plan.timing), "netboot": netboot},
    )


def _install(layout: Layout, node: NodeId) -> None:
    """Put on a native node what its operating system runs: the supervisor, and by it all the rest."""
    home = layout.home(node)
    if CALIBRATION.is_file():
        (home / "state").mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(CALIBRATION, home / "state" / CALIBRATION.name)
    config = node_folder(layout.folder / "rack", node) / "node.toml"
    python = layout.python or sys.executable
    supervisor = (python, "-m", "drivers.cli", "supervisor", "--config", str(config))
    software = Software(
        node=node,
        lab=layout.folder,
        run_dir=home / "run",
        boot_id=home / "boot_id",
        daemons=(Daemon(name="supervisor", argv=supervisor),),
    )
    write_software(home, software)
