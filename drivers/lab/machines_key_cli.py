"""``rack lab up --from-key``: the words of a rack whose first server is a machine that boots the USB key."""

import argparse
from collections.abc import Callable
from pathlib import Path

from core.errors import InputError

CATALOG = Path("catalog/machines.toml")
PROFILE = "hyperconverged"
STATE_MB = 8_192
"""Of the key: the rack's records and one OSD that begins empty."""

Say = Callable[[str], None]
Add = Callable[[str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]


def add_to_up(one: argparse.ArgumentParser) -> None:
    """Add what ``rack lab up`` takes for it."""
    one.add_argument(
        "--from-key", action="store_true", help="with --machines: the first server is a machine that boots a USB key"
    )
    one.add_argument("--usb", action="store_true", help="with --from-key: on an emulated USB port, which is slow")


def up(arguments: argparse.Namespace, say: Say) -> int:
    """Bring up a rack from a key. Raises: InputError, LabFailure."""
    from drivers.lab.lab import only_one
    from drivers.lab.layout import MACHINES_MAX, Layout
    from drivers.lab.machines_cli import MEMORY_MIB, check_folder, image_of
    from drivers.lab.machines_key import MACHINE_MIB, KeyPlan, dark_guests, first_guest
    from drivers.lab.machines_key import up as bring_up
    from formats.catalog import load_catalog

    if arguments.machines > MACHINES_MAX - 1:
        allowed = f"1 to {MACHINES_MAX - 1}: the first server is one as well"
        raise InputError([f"rack lab up --from-key: --machines {arguments.machines}; allowed: {allowed}"])
    if arguments.firmware != "bios" or arguments.voters != 1:
        raise InputError(["rack lab up: --from-key goes neither with --firmware uefi nor with --voters 3"])
    file = (arguments.catalog if arguments.catalog is not None else CATALOG).absolute()
    load_catalog(file)
    check_folder(arguments.dir)
    memory_mib = arguments.memory if arguments.memory != MEMORY_MIB else MACHINE_MIB
    guests = (first_guest(arguments.usb), *dark_guests(arguments.machines, memory_mib))
    layout = Layout(
        name=arguments.name,
        folder=arguments.dir.absolute(),
        nodes=(),
        boot_ms=0,
        voters=1,
        volumes=False,
        guests=guests,
    )
    with only_one(layout.folder):
        image = image_of(arguments.image, say, PROFILE, ("--disk", "--state-mb", str(STATE_MB)))
        bring_up(KeyPlan(layout=layout, catalog=file, image=image), say, arguments.keep)
    where = f"--name {layout.name} --dir {layout.folder}"
    print(f"the rack is up: rack lab status {where}; rack lab machine list {where}")
    return 0


def add(add_one: Add) -> None:
    """Add the command that a first server needs: nobody else switches it on again."""
    one = add_one("on", "switch a machine on by its BMC, as its button would", _on)
    one.add_argument("node", metavar="MACHINE", help="a machine (m1), also while no node answers")


def _on(arguments: argparse.Namespace) -> int:
    from drivers.lab.lab import find
    from drivers.lab.machines_key import switch
    from drivers.lab.shell import enter

    layout = find(arguments.name, arguments.dir.absolute())
    guests = {guest.name: guest for guest in layout.guests}
    if arguments.node not in guests:
        raise InputError([f'rack lab machine on: "{arguments.node}": no such machine; allowed: {", ".join(guests)}'])
    enter(layout.client)
    switch(layout, guests[arguments.node], on=True)
    print(f"{arguments.node} is on, by its BMC at {guests[arguments.node].bmc_address}")
    return 0
