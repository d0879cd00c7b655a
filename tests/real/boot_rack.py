"""A boot network of two namespaces: a server with ``rack netboot`` and a machine that boots, on one wire."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from core.ids import ImageId
from drivers.config import Config, load_config
from drivers.lab.firmware import Booted
from tests.real.join_rack import CATALOG, first_node
from tests.unit.boot_server import make_image, uuid_of

ROOT = Path(__file__).parents[2]
START_S = 30
NODES = 4


class BootRack:
    """n1 at 10.98.0.1 serves; n6 to n9 are machines of the inventory that boot. Needs root, dnsmasq and iPXE."""

    def __init__(self, folder: Path, **netboot: object) -> None:
        self.folder = folder
        self.image: ImageId = make_image(folder / "images")
        self.file = self._make_files(netboot)
        self.server, self.machine = f"mxb{os.getpid()}-s", f"mxb{os.getpid()}-m"
        self.log = folder / "netboot.log"
        self._process: subprocess.Popen[bytes] | None = None
        for namespace in (self.server, self.machine):
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", self.server, "link", "add", "boot0", "type", "veth", "peer", "name", "eth0", "netns", self.machine)
        _ip("-n", self.server, "addr", "add", "10.98.0.1/24", "dev", "boot0")
        _ip("-n", self.server, "link", "set", "boot0", "up")
        _ip("-n", self.machine, "link", "set", "eth0", "up")

    def _make_files(self, netboot: dict[str, object]) -> Path:
        folder = self.folder
        (folder / "secret").write_text("s3cret\n", encoding="ascii")
        nodes = '[[node]]\nid = "n1"\nnumber = 1\naddress = "10.98.0.1"\n'
        for number in range(6, 6 + NODES):
            nodes += f'[[node]]\nid = "n{number}"\nnumber = {number}\naddress = "10.98.0.{number}"\n'
            nodes += f'uuid = "{uuid_of(number)}"\n'
            nodes += f'[node.bmc]\ndriver = "ipmi"\naddress = "10.98.1.{number}"\npassword_file = "secret"\n'
        boot = '[boot]\nsubnet = "10.98.0.0/24"\npool = "10.98.0.200-10.98.0.250"\n'
        (folder / "inventory.toml").write_text(boot + nodes, encoding="ascii")
        (folder / "catalog.toml").write_text(CATALOG, encoding="ascii")
        file = first_node(folder)
        table = {"interface": "boot0", "images": str(folder / "images"), "image": self.image}
        table |= {"ca": str(folder / "rack" / "ca"), **netboot}
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())
        file.write_text(file.read_text(encoding="utf-8") + f"\n[netboot]\n{lines}", encoding="utf-8")
        return file

    @property
    def config(self) -> Config:
        """The serving node's configuration."""
        return load_config(self.file)

    def command(self) -> list[str]:
        """What starts the service, in its namespace."""
        words = [sys.executable, "-m", "drivers.cli", "netboot", "--config", str(self.file)]
        return ["ip", "netns", "exec", self.server, *words]

    def start(self) -> None:
        """Start the service and wait until it serves."""
        with self.log.open("ab") as log:
            begin = log.tell()
            self._process = subprocess.Popen(self.command(), stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT)
        end = time.monotonic() + START_S
        while b'"netboot_ready"' not in self.log.read_bytes()[begin:]:
            assert self._process.poll() is None, self.log.read_text(encoding="utf-8")
            assert time.monotonic() < end, self.log.read_text(encoding="utf-8")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """The service's process (``ip netns exec`` becomes it)."""
        assert self._process is not None
        return self._process.pid

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the service; its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(20)
        self._process = None
        return code

    def refused(self) -> tuple[int, str]:
        """Start the service where it cannot: its exit code and what it says."""
        ended = subprocess.run(self.command(), capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
        return ended.returncode, ended.stderr

    def boot(self, uuid: str, mac: str, *more: str) -> Booted:
        """Let a machine boot."""
        words = [sys.executable, "-m", "drivers.lab.firmware", uuid, mac, *more]
        command = ["ip", "netns", "exec", self.machine, *words]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
        assert ended.returncode == 0, ended.stderr
        return msgspec.json.decode(ended.stdout, type=Booted)

    def within(self, *words: str) -> subprocess.Popen[bytes]:
        """Run a program in the server's namespace."""
        return subprocess.Popen(["ip", "netns", "exec", self.server, *words], cwd=ROOT)

    def dnsmasqs(self) -> list[int]:
        """The processes of dnsmasq that serve this rack."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes()
            except OSError:
                continue
            if words.split(b"\0")[0].endswith(b"dnsmasq") and str(self.folder).encode() in words:
                found.append(int(path.parent.name))
        return found

    def close(self) -> None:
        """End everything and remove the namespaces."""
        if self._process is not None:
            self.stop()
        for pid in self.dnsmasqs():
            os.kill(pid, signal.SIGKILL)
        for namespace in (self.server, self.machine):
            subprocess.run(["ip", "netns", "del", namespace], check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
