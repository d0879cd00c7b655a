"""A small rack of real supervisors and agents on loopback addresses, made by ``rack init``; ended by process id."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.ids import NodeId
from drivers.init import Plan, node_folder, operator_file
from tests.real.require import require

ROOT = Path(__file__).parents[2]
PORT = 26_100
UP_S_MAX = 60
END_S_MAX = 30
CATALOG = """
name = "loopback"
[[service]]
name = "ntp"
run = "everywhere"
process = { command = ["sleep", "86400"] }
[[service]]
name = "cron"
run = "singleton"
process = { command = ["sleep", "86400"] }
"""


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Look again and again until a condition holds. Raises: AssertionError if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def rack(*words: str, seconds: float = 60) -> "subprocess.CompletedProcess[str]":
    """Run the command ``rack`` as a person would."""
    command = [sys.executable, "-m", "drivers.cli", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)


class Rack:
    """A rack of ``nodes`` nodes below ``folder``; none of them runs yet. ``subnet``: addresses 127.SUBNET.0.*."""

    def __init__(self, folder: Path, nodes: int = 2, subnet: int = 41) -> None:
        require("java")
        self.folder = folder
        self.nodes = tuple(NodeId(f"n{number}") for number in range(1, nodes + 1))
        self._running: dict[NodeId, subprocess.Popen[bytes]] = {}
        text = ""
        for number, node in enumerate(self.nodes, 1):
            secret = folder / f"{node}.password"
            secret.write_text(f"hunter-{number}-secret\n", encoding="utf-8")
            secret.chmod(0o600)
            text += f'[[node]]\nid = "{node}"\nnumber = {number}\naddress = "127.{subnet}.0.{number}"\n'
            text += f'power_domain = "p{number}"\n[node.bmc]\ndriver = "ipmi"\naddress = "127.{subnet}.1.{number}"\n'
            text += f'port = {PORT + 9}\npassword_file = "{secret.name}"\n'
        (folder / "inventory.toml").write_text(text, encoding="utf-8")
        (folder / "catalog.toml").write_text(CATALOG, encoding="utf-8")
        self.plan = Plan(
            inventory=folder / "inventory.toml",
            catalog=folder / "catalog.toml",
            out=folder / "rack",
            state_dir=folder / "{node}" / "state",
            run_dir=folder / "{node}" / "run",
            settings={
                "zookeeper": {
                    "client_port": PORT,
                    "quorum_port": PORT + 1,
                    "election_port": PORT + 2,
                    "heap_mib": 64,
                },
                "heartbeat_port": PORT + 3,
                "metrics": "{address}:" + str(PORT + 4),
            },
        )

    @property
    def operator(self) -> str:
        """What the commands want as ``--config``."""
        return str(operator_file(self.plan.out))

    def node_file(self, node: NodeId) -> Path:
        """A node's ``node.toml``."""
        return node_folder(self.plan.out, node) / "node.toml"

    def log(self, node: NodeId) -> Path:
        """What a node's supervisor and agent say."""
        return self.folder / f"{node}.log"

    def start(self, node: NodeId) -> None:
        """Start a node's supervisor."""
        command = ["nice", "-n", "5", sys.executable, "-m", "drivers.cli", "supervisor", "--config"]
        with self.log(node).open("ab") as out:
            self._running[node] = subprocess.Popen(
                [*command, str(self.node_file(node))], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def status(self) -> dict[str, Any]:
        """What ``rack status --json`` says; empty while nobody answers."""
        done = rack("status", "--json", "--config", self.operator)
        assert "Traceback" not in done.stderr, done.stderr
        found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found

    def members(self) -> tuple[str, ...]:
        """The nodes that are members."""
        return tuple(node for node, seen in self.status().get("nodes", {}).items() if seen["member"])

    def stop(self) -> None:
        """End every supervisor, which ends what it runs; what does not end is killed."""
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(END_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def left_over(self) -> list[str]:
        """Processes that still name this rack's folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if str(self.folder) in words and int(path.name) != os.getpid():
                found.append(f"{path.name} {words[:120]}")
        return found
