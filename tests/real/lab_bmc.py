"""One lab BMC with a machine that is a file: it is on while the file ``on`` is there."""

import socket
import uuid
from pathlib import Path

from drivers.config import BmcTable, Machine
from drivers.lab import bmcs
from tests.real.require import require

HOOKS = {
    "power-on": 'touch "${0%/*}/on"',
    "power-off": 'rm -f "${0%/*}/on"',
    "is-on": '[ -e "${0%/*}/on" ]',
}


def free_port(kind: int) -> int:
    """Return a port of 127.0.0.1 that nobody uses now; ``kind`` is of ``socket.SOCK_*``."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def password_file(folder: Path, password: str) -> Path:
    """Write a password so that only its owner can read it."""
    path = folder / "password"
    path.touch(mode=0o600)
    path.write_text(f"{password}\n", encoding="utf-8")
    return path


class FileMachine:
    """A machine with a real BMC; ``machine`` is its entry in an inventory. ``console``: where its serial port is."""

    def __init__(self, folder: Path, number: int = 2, password: str = "s3cret", console: str = "") -> None:
        require(bmcs.PROGRAM, "nsenter", "setsid", root=False)
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, body in HOOKS.items():
            (folder / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
            (folder / name).chmod(0o755)
        file, port = password_file(folder, password), free_port(socket.SOCK_DGRAM)
        self.bmc = bmcs.LabBmc(
            name=f"n{number}",
            folder=folder,
            addresses=("127.0.0.1",),
            port=port,
            password_file=file,
            uuid=str(uuid.uuid5(uuid.NAMESPACE_DNS, f"n{number}")),
            console=console,
        )
        table = BmcTable(driver="ipmi", address="127.0.0.1", port=port, password_file=file)
        self.machine = Machine(id=f"n{number}", number=number, address=f"127.0.0.{number}", bmc=table)
        bmcs.write(self.bmc)
        bmcs.start(self.bmc)

    @property
    def is_on(self) -> bool:
        return (self.folder / "on").exists()

    def close(self) -> None:
        bmcs.stop(self.folder)
