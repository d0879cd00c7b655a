"""Who has a port already: found in /proc, so that the message names the process."""

import errno
import socket
from contextlib import suppress
from pathlib import Path

from core.errors import InputError

PROC = Path("/proc")
SO_BINDTODEVICE = 25
"""Source: asm-generic/socket.h."""


def check_udp(port: int, interface: str, what: str) -> None:
    """Make sure that a UDP port can be had on an interface. Raises: InputError naming who has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        try:
            link.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, interface.encode() + b"\0")
            link.bind(("0.0.0.0", port))
        except OSError as error:
            raise taken(port, "udp", what, error) from None


def check_tcp(port: int, address: str, what: str) -> None:
    """Make sure that a TCP port can be had at an address. Raises: InputError naming who has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            link.bind((address, port))
            link.listen(1)
        except OSError as error:
            raise taken(port, "tcp", what, error) from None


def taken(port: int, protocol: str, what: str, error: OSError) -> InputError:
    """Say that a port cannot be had, and by whom it is taken if that can be seen."""
    if error.errno != errno.EADDRINUSE:
        reason = (error.strerror or str(error)).lower()
        return InputError([f"{what}: {protocol} port {port} cannot be opened ({reason})"])
    names = holders(port, protocol)
    by = f" by {', '.join(names)}" if names else ""
    needed = "stop that, or use another port" if protocol == "tcp" else "stop that: machines ask at no other port"
    return InputError([f"{what}: {protocol} port {port} is taken{by}; needed: {needed}"])


def holders(port: int, protocol: str) -> tuple[str, ...]:
    """The processes that have a port open in this network namespace, as ``name (pid)``."""
    inodes = {f"socket:[{inode}]" for family in ("", "6") for inode in _inodes(port, protocol + family)}
    found = []
    for process in sorted(PROC.glob("[0-9]*"), key=lambda path: int(path.name)) if inodes else ():
        with suppress(OSError):  # it has ended, or is another user's
            if any(str(handle.readlink()) in inodes for handle in (process / "fd").iterdir()):
                found.append(f"{(process / 'comm').read_text(errors='replace').strip()} (process {process.name})")
    return tuple(found)


def _inodes(port: int, table: str) -> list[str]:
    try:
        lines = (PROC / "net" / table).read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    listening = [row for row in rows if len(row) > 9 and int(row[1].rpartition(":")[2], 16) == port]
    return [row[9] for row in listening if table.startswith("udp") or row[3] == "0A"]
