"""A management network in namespaces of its own: many real BMCs on one switch, and a node that looks for them."""

import os
import subprocess
import uuid
from pathlib import Path
from types import TracebackType

from drivers.lab import bmcs
from tests.real.lab_bmc import HOOKS
from tests.real.netns import ROOT
from tests.real.require import require

SUBNET = "10.97.0.0/24"
SUBNET_6 = "fd97::/120"
NO_WAIT: dict[bool, tuple[str, ...]] = {True: ("nodad",), False: ()}
"""An IPv6 address is usable at once only if nobody looks for another one that has it."""


class ManyBmcs:
    """``count`` BMCs from 10.97.0.``first`` on in one namespace; ``node`` is the name of the other, at 10.97.0.1.

    ``ipv6``: they are in fd97::/64 instead, whose lowest 256 addresses are ``SUBNET_6``.
    """

    def __init__(self, folder: Path, count: int, first: int = 11, *, ipv6: bool = False) -> None:
        require(bmcs.PROGRAM, "nsenter", "setsid", "ip")
        self.folder = folder
        self.node, self._there = f"mxf{os.getpid()}-{first}n", f"mxf{os.getpid()}-{first}b"
        self.uuids = [str(uuid.uuid5(uuid.NAMESPACE_DNS, f"m{number}")) for number in range(count)]
        start, self._prefix = ("fd97::", 64) if ipv6 else ("10.97.0.", 24)
        self.addresses = [f"{start}{first + number:{'x' if ipv6 else 'd'}}" for number in range(count)]
        self.folders = [folder / f"m{number}" for number in range(count)]
        self.password = self._password("right", "s3cret")
        for name in (self.node, self._there):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", self.node, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self._there)
        for name in (self.node, self._there):
            _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", self.node, "addr", "add", f"{start}1/{self._prefix}", "dev", "eth0", *NO_WAIT[ipv6])
        for number in range(count):
            self._start(number)

    def __enter__(self) -> "ManyBmcs":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for folder in self.folders:
            bmcs.stop(folder)
        for name in (self.node, self._there):
            subprocess.run(["ip", "netns", "del", name], check=False)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program on the node."""
        command = ["ip", "netns", "exec", self.node, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)

    def _password(self, name: str, password: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(password + "\n", encoding="utf-8")
        return path

    def _start(self, number: int) -> None:
        folder, address = self.folders[number], self.addresses[number]
        folder.mkdir(parents=True)
        for name, body in HOOKS.items():
            (folder / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
            (folder / name).chmod(0o755)
        _ip("-n", self._there, "addr", "add", f"{address}/{self._prefix}", "dev", "eth0", *NO_WAIT[self._prefix == 64])
        bmc = bmcs.LabBmc(
            name=f"m{number}",
            folder=folder,
            addresses=(address,),
            password_file=self.password,
            uuid=self.uuids[number],
            netns=self._there,
        )
        bmcs.write(bmc)
        bmcs.start(bmc)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
