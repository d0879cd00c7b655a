"""``rack lab up --machines N`` and ``rack lab machine``: a rack with emulated machines, and what is done to them."""

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from core.errors import InputError
from core.ids import DomainId, NodeId
from drivers.lab import machines_key_cli
from drivers.lab.layout import MACHINES_MAX, Layout
from formats.arguments import whole

if TYPE_CHECKING:
    from drivers.lab.machines import Firmware, Machines
    from drivers.lab.machines_build import Image

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

CATALOG = Path("catalog/machines.toml")
IMAGES = Path("/var/lib/moxie-images")
"""Where ``rack lab up --machines`` keeps the image that it builds if it is given none."""
PROFILE = "minimal"
MEMORY_MIB, MEMORY_MIB_MIN, MEMORY_MIB_MAX = 1_024, 384, 65_536
BACK_MS_MAX = 600_000
LOOK_S = 0.2

Say = Callable[[str], None]
Add = Callable[[str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]


def add_to_up(one: argparse.ArgumentParser) -> None:
    """Add what ``rack lab up`` takes for emulated machines."""
    one.add_argument(
        "--machines", type=whole(1, MACHINES_MAX), metavar="N", help="N dark machines that a first node finds and boots"
    )
    one.add_argument("--image", type=Path, metavar="DIR", help=f"what they boot (default: built once in {IMAGES})")
    one.add_argument("--voters", type=int, choices=(1, 3), default=1, help="native nodes, which run ZooKeeper")
    one.add_argument("--keep", action="store_true", help="leave machines up even if not all of them join")
    _add_size(one)
    machines_key_cli.add_to_up(one)


def _add_size(one: argparse.ArgumentParser) -> None:
    size = whole(MEMORY_MIB_MIN, MEMORY_MIB_MAX)
    one.add_argument("--memory", type=size, default=MEMORY_MIB, metavar="MIB", help=f"of a machine ({MEMORY_MIB})")
    one.add_argument("--firmware", choices=("bios", "uefi"), default="bios", help="of a machine (default: bios)")


def add(add_one: Add) -> None:
    """Add the commands of single machines."""
    one = add_one("add", "plug one more dark machine in; the rack does the rest", _add)
    _add_size(one)
    one.add_argument("--wait", action="store_true", help="watch until it has joined")
    one = add_one("kill", "cut a machine's power by its BMC", _kill)
    one.add_argument("node", metavar="NODE", help="a node, or a machine (m1)")
    one.add_argument("--wait", action="store_true", help="watch until the rack has brought it back")
    one = add_one("replace", "put another machine with an empty disk in the slot of this one", _replace)
    one.add_argument("node", metavar="NODE", help="a node, or a machine (m1)")
    one = add_one("console", "see what a machine wrote and writes on its serial port, until Ctrl-C", _console)
    one.add_argument("node", metavar="NODE", help="a node, or a machine (m1)")
    one.add_argument("--past", action="store_true", help="only what it wrote so far")
    machines_key_cli.add(add_one)
    add_one("list", "which machines there are, and which nodes they are", _list)


def up(arguments: argparse.Namespace, say: Say) -> int:
    """Bring a rack with emulated machines up. Raises: InputError, LabFailure."""
    from drivers.lab.build import equal_nodes
    from drivers.lab.lab import only_one
    from drivers.lab.machines import check_guests, guests_of
    from drivers.lab.machines import up as bring_up
    from drivers.lab.machines_build import MachinesPlan
    from formats.catalog import load_catalog

    for name in ("rack", "real_services", "from_one"):
        if getattr(arguments, name):
            raise InputError([f"rack lab up: --machines and --{name.replace('_', '-')} do not go together"])
    if arguments.from_key:
        return machines_key_cli.up(arguments, say)
    file = (arguments.catalog if arguments.catalog is not None else CATALOG).absolute()
    catalog = load_catalog(file)
    volumes = [spec.name for spec in catalog.specs if spec.volume]
    if volumes:
        raise InputError([f"{file}: {', '.join(volumes)}: machines have no storage; needed: services without volumes"])
    guests = guests_of(arguments.machines, arguments.memory, arguments.firmware)
    check_guests(guests, arguments.voters)
    check_folder(arguments.dir)
    nodes = tuple(msgspec.structs.replace(node, power_domain=DomainId("p1")) for node in equal_nodes(arguments.voters))
    layout = Layout(
        name=arguments.name,
        folder=arguments.dir.absolute(),
        nodes=nodes,
        boot_ms=0,
        voters=arguments.voters,
        volumes=False,
        guests=guests,
    )
    with only_one(layout.folder):
        plan = MachinesPlan(layout=layout, catalog=file, image=image_of(arguments.image, say))
        bring_up(plan, say, arguments.keep)
    where = f"--name {layout.name} --dir {layout.folder}"
    print(f"the rack is up: rack lab status {where}; rack lab machine list {where}")
    return 0


def check_folder(folder: Path) -> None:
    """Raises: InputError if QEMU could not read the name of a lab's folder."""
    if "," in str(folder):
        raise InputError([f"{folder}: a comma in it; allowed: a folder whose name QEMU can read"])


def image_of(folder: Path | None, say: Say, profile: str = PROFILE, more: tuple[str, ...] = ()) -> "Image":
    """The image in a folder, verified; without a folder the one of ``profile`` that is built once on this machine.

    ``more``: further words of ``rack image build``. Raises: InputError if it is missing or was tampered with.
    """
    from drivers.image.manifest import MANIFEST, PUBLIC_KEY, verify
    from drivers.lab.machines_build import Image

    if folder is None:
        folder = _own_image(say, profile, more)
    elif not folder.is_dir():
        raise InputError([f"{folder}: no such folder; needed: an image (rack image build --out DIR)"])
    elif not (folder / MANIFEST).is_file():
        raise InputError([f"{folder}: no image in it; needed: an image (rack image build --out DIR)"])
    keys = [place / PUBLIC_KEY for place in (folder, folder.parent) if (place / PUBLIC_KEY).exists()]
    if not keys:
        raise InputError([f"{folder}: {PUBLIC_KEY} is neither in it nor beside it; needed: the key it was signed with"])
    return Image(folder=folder.absolute(), id=verify(folder, keys[0]), key=keys[0].absolute())


def _own_image(say: Say, profile: str, more: tuple[str, ...]) -> Path:
    """The image of this machine; built if there is none. Raises: InputError."""
    from drivers.image.manifest import MANIFEST, PRIVATE_KEY, make_keys

    folder = IMAGES / profile
    built = folder / MANIFEST
    if built.exists() and built.stat().st_mtime >= _changed_last():
        return folder
    say(f"building the image in {folder}: until our code changes, two to four minutes")
    IMAGES.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (IMAGES / PRIVATE_KEY).exists():
        make_keys(IMAGES)
    build_image(folder, IMAGES / PRIVATE_KEY, profile, more)
    return folder


def _changed_last() -> float:
    """When any file that goes into an image was written last."""
    packages = Path(__file__).parents[2]
    files = (path for name in ("core", "drivers", "formats") for path in (packages / name).rglob("*"))
    return max(path.stat().st_mtime for path in files if path.is_file() and "__pycache__" not in path.parts)


def build_image(folder: Path, key: Path, profile: str = PROFILE, more: tuple[str, ...] = ()) -> None:
    """Build the image that machines boot. Raises: InputError, LabFailure."""
    from drivers.cli import main
    from drivers.lab.layout import LabFailure

    shutil.rmtree(folder, ignore_errors=True)
    words = [
        "image",
        "build",
        "--profile",
        profile,
        "--compress",
        "lz4",
        "--out",
        str(folder),
        "--key",
        str(key),
        *more,
    ]
    code = main(words)
    if code:
        raise LabFailure(f"the image could not be built (rack image build ended with {code})")


# -- single machines --------------------------------------------------------------------------------------------------


def _of(arguments: argparse.Namespace) -> "Machines":
    """The rack that is up, seen from its clients. Raises: InputError."""
    from drivers.lab.lab import find
    from drivers.lab.machines import Machines
    from drivers.lab.shell import enter

    layout = find(arguments.name, arguments.dir.absolute())
    if not layout.guests:
        raise InputError([f"{layout.folder}: this lab has no emulated machines; remedy: rack lab up --machines 3"])
    enter(layout.client)
    return Machines(layout)


def _add(arguments: argparse.Namespace) -> int:
    from drivers.lab.cli import say
    from drivers.lab.lab import only_one
    from drivers.lab.machines import JOIN_MS_MAX, check_guests, guests_of, wait_joined
    from drivers.lab.machines_watch import Watch

    firmware: Firmware = arguments.firmware
    check_guests(guests_of(1, arguments.memory, firmware), 0)
    with only_one(arguments.dir.absolute()):
        machines = _of(arguments)
        watch = Watch(machines.layout, machines.observer)
        watch.look()
        guest = machines.add(arguments.memory, firmware)
    print(f"{guest.name} is plugged in; its BMC answers at {guest.bmc_address}")
    if arguments.wait:
        watch.take(machines.layout)
        wait_joined(watch, say(), JOIN_MS_MAX)
    return 0


def _kill(arguments: argparse.Namespace) -> int:
    from drivers.lab.cli import say
    from drivers.lab.machines import wait_joined
    from drivers.lab.machines_watch import Watch

    machines = _of(arguments)
    guest = machines.find(arguments.node)
    watch = Watch(machines.layout, machines.observer)
    watch.look()
    machines.cut(guest)
    print(f"{guest.name} is off, by its BMC at {guest.bmc_address}")
    if arguments.wait:
        watch.again(watch.courses[guest.uuid])
        wait_joined(watch, say(), BACK_MS_MAX)
    return 0


def _replace(arguments: argparse.Namespace) -> int:
    from drivers.lab.lab import only_one

    with only_one(arguments.dir.absolute()):
        machines = _of(arguments)
        new = machines.replace(machines.find(arguments.node))
    print(f"another machine is in slot {new.slot}: its BMC answers at {new.bmc_address} as {new.uuid}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from drivers.lab import qemu

    machines = _of(arguments)
    names = machines.names()
    for guest in machines.layout.guests:
        state = "on" if qemu.pid_of(machines.layout, guest) else "off"
        node = names[guest.name] or NodeId("-")
        print(
            f"{guest.name}  {node:4}  {state:3}  BMC {guest.bmc_address}  {guest.mac}  {guest.uuid}  {guest.firmware}"
        )
    return 0


def _console(arguments: argparse.Namespace) -> int:
    from drivers.lab import qemu
    from drivers.lab.machines import console_of

    machines = _of(arguments)
    guest = machines.find(arguments.node)
    file = console_of(machines.layout, guest)
    if not file.exists():
        print(f"{guest.name} never wrote anything", file=sys.stderr)
        return 0
    with file.open("rb") as written:
        while True:
            shutil.copyfileobj(written, sys.stdout.buffer)
            sys.stdout.flush()
            if arguments.past or not qemu.pid_of(machines.layout, guest):
                return 0
            time.sleep(LOOK_S)
