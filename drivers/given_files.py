"""Passwords and certificates that an inventory names: read and checked before anything is made of them."""

from pathlib import Path

from core.errors import InputError
from core.ids import NodeId
from drivers.ca import read
from drivers.inventory import Inventory, Machine
from formats.problems import Problems

PASSWORD_BYTES_MAX = 256


def passwords_of(machines: dict[NodeId, Machine], problems: Problems) -> dict[NodeId, bytes]:
    """The BMC passwords by node; each is one line of text."""
    found: dict[NodeId, bytes] = {}
    for node, machine in machines.items():
        path = machine.bmc.password_file
        if machine.bmc.driver == "none" or path is None:
            continue
        found[node] = _one_line(path, f"the BMC of {node}", problems)
    return found


def access_passwords(inventory: Inventory, problems: Problems) -> dict[tuple[str, str], bytes]:
    """The passwords that the BMCs of the management networks are tried with."""
    return {
        (network.name, access.name): _one_line(access.password_file, f"the BMCs of {network.name}", problems)
        for network in inventory.networks
        for access in network.access
    }


def authorities_of(inventory: Inventory, problems: Problems) -> dict[Path, bytes]:
    """What the certificates of Redfish BMCs must be signed by, by file."""
    named = [machine.bmc.ca for machine in inventory.machines.values()]
    named += [access.ca for network in inventory.networks for access in network.access]
    found: dict[Path, bytes] = {}
    for path in dict.fromkeys(one for one in named if one is not None):
        try:
            read(path)
            found[path] = path.read_bytes()
        except InputError as error:
            problems.take(error)
    return found


def _one_line(path: Path, of: str, problems: Problems) -> bytes:
    """Read a password: one line of text; what is wrong with it is noted."""
    try:
        data = path.read_bytes() if path.stat().st_size <= PASSWORD_BYTES_MAX else b"\n\n"
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problems.say(f"{path}: cannot be read ({str(reason).lower()}); needed: the password of {of}")
        return b""
    line = data.strip()
    if not line or b"\n" in line or b"\0" in line:
        problems.say(f"{path}: is not one line; needed: the password of {of} and nothing else")
    return line + b"\n"
