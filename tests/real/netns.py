"""A few network namespaces on one switch, for tests of what happens on a wire; and what runs in them.

As a program, ``python -m tests.real.netns ROLE ...`` is one of the processes that tests put into a namespace: ``serve``
(a service on every address), ``call`` (its client), ``rights`` (a supervisor's hold on addresses), ``peers`` (its
heartbeats).
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

PORT = 25_010
CALL_SECONDS = 0.5
ROOT = Path(__file__).parents[2]


class Process:
    """A child that takes a JSON list a line and answers each with a JSON value; gone with ``end``."""

    def __init__(self, namespace: str, *role: str) -> None:
        command = ["ip", "netns", "exec", namespace, sys.executable, "-m", "tests.real.netns", *role]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._out.readline() == "ready\n"

    @property
    def _out(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def ask(self, *words: object) -> object:
        """Send a line and wait for its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return json.loads(self._out.readline())

    def send(self, number: int) -> None:
        """Send a signal (`ip` replaces itself by the program, so this is its own process)."""
        self._process.send_signal(number)

    def cpu_ms(self) -> int:
        """Processor time that it has used so far."""
        words = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) * 1_000 // os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Kill it and wait."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class Wire:
    """A switch in a namespace of its own, and nodes on it: ``name`` has ``10.254.0.<number>`` on ``eth0``."""

    def __init__(self, *names: str) -> None:
        self._prefix = f"mxa{os.getpid()}-"
        self._processes: list[Process] = []
        self.switch = self._prefix + "sw"
        self.nodes = {name: self._prefix + name for name in names}
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "br0", "up")
        for number, (name, node) in enumerate(self.nodes.items(), start=1):
            _ip("netns", "add", node)
            _ip("-n", node, "link", "set", "lo", "up")
            _ip("-n", self.switch, "link", "add", "p-" + name, "type", "veth", "peer", "name", "eth0", "netns", node)
            _ip("-n", node, "addr", "add", f"10.254.0.{number}/24", "dev", "eth0")
            _ip("-n", node, "link", "set", "eth0", "up")
            _ip("-n", self.switch, "link", "set", "p-" + name, "master", "br0", "up")

    def run(self, name: str, *role: str) -> Process:
        """Start a process on a node."""
        process = Process(self.nodes[name], *role)
        self._processes.append(process)
        return process

    def cut(self, name: str, cut: bool = True) -> None:
        """Pull (or plug in) a node's cable."""
        _ip("-n", self.switch, "link", "set", "p-" + name, "down" if cut else "up")

    def tables(self, name: str, *rules: str) -> str:
        """Run ``nft`` on a node."""
        command = ["ip", "netns", "exec", self.nodes[name], "nft", *rules]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def close(self) -> None:
        """End every process and remove the namespaces."""
        for process in self._processes:
            process.send(signal.SIGCONT)
            process.end()
        for namespace in (*self.nodes.values(), self.switch):
            subprocess.run(["ip", "netns", "del", namespace], check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


# -- what runs in a namespace ------------------------------------------------------------------------------------------


def serve(name: str) -> None:
    """Answer every connection with the name of this node."""
    listener = socket.create_server(("0.0.0.0", PORT), backlog=64)

    def answer() -> None:
        while True:
            link, _ = listener.accept()
            with link:
                link.sendall(name.encode())

    threading.Thread(target=answer, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


def call() -> None:
    """Say who answers at each address that is asked for, "" for nobody."""
    print("ready", flush=True)
    for line in sys.stdin:
        (address,) = json.loads(line)
        try:
            with socket.create_connection((address, PORT), CALL_SECONDS) as link:
                answer = link.recv(100).decode()
        except OSError:
            answer = ""
        print(json.dumps(answer), flush=True)


def rights(*addresses: str) -> None:
    """Do what is asked of ``drivers.rights.Rights``; deadlines are given as milliseconds from now."""
    from drivers.clock import now_ms
    from drivers.config import AddressTable
    from drivers.rights import Rights

    hold = Rights(AddressTable(interface="eth0"), addresses)
    print("ready", flush=True)
    for line in sys.stdin:
        match json.loads(line):
            case ["announce", address]:
                hold.announce(address)
            case ["withdraw", address]:
                hold.withdraw(address)
            case ["allow", address, int(ms)]:
                hold.allow(address, now_ms() + ms)
            case ["revoke", address]:
                hold.revoke(address)
            case ["close"]:
                hold.close()
        print("true", flush=True)


def peers(name: str, folder: str, suspect_ms: str) -> None:
    """Speak and listen as the node ``name``; nodes are ``a`` at 10.254.0.1, ``b`` at 10.254.0.2 and so on."""
    from core.events import AnyEvent
    from core.ids import NodeId
    from core.specs import Timing
    from drivers.config import Config, Machine, NodeTables
    from drivers.inventory import Machines
    from drivers.peers import Peers
    from formats.catalog import Catalog

    place = Path(folder)
    tables = NodeTables(
        node=name, inventory=place, catalog=place, state_dir=place, run_dir=place, heartbeat_key=place / "heartbeat.key"
    )
    machines = {
        NodeId(node): Machine(id=node, number=number, address=f"10.254.0.{number}")
        for number, node in enumerate("abc", start=1)
    }
    timing, catalog = Timing(suspect_ms=int(suspect_ms)), Catalog(name="none", services=())
    beats = Peers(Config(file=place, tables=tables, timing=timing, catalog=catalog, machines=Machines(machines)))
    told: list[tuple[str, str, int]] = []

    def hear(event: AnyEvent) -> None:
        told.append((type(event).__name__, getattr(event, "node", ""), event.at_ms))

    beats.start()
    print("ready", flush=True)
    for line in sys.stdin:
        match json.loads(line):
            case ["listen", *nodes]:
                beats.listen(tuple(map(NodeId, nodes)), hear)
        print(json.dumps(told), flush=True)


ROLES = {"serve": serve, "call": call, "rights": rights, "peers": peers}

if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    ROLES[role](*rest)
