"""Real ZooKeeper servers on loopback addresses, one for each node of a small made-up rack; ended by process id.

Every node has an address of its own in 127/8, so that all use the same ports, as on a real rack.
"""

import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from core.ids import NodeId, OpId
from core.ports import Emit
from drivers import zookeeper_jute as jute
from drivers import zookeeper_server as server
from drivers.access import endpoint
from drivers.config import Config, load_config
from drivers.zookeeper import Brief
from drivers.zookeeper_codec import OK
from tests.real.require import require

CATALOG = """
name = "coordination"

[[service]]
name = "db"
run = "singleton"
[service.twin]
start_ms = { min = 1, p50 = 2, p90 = 3, max = 4 }
source = "made up"
"""
PORT = 21_081
START_S_MAX = 90


def wait_until(condition: Callable[[], object], seconds: float, what: str = "") -> None:
    """Look every 10 ms until a condition holds. Raises: AssertionError if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what or condition}"
        time.sleep(0.01)


class NoServices:
    """For an agent whose node's server the test itself runs (``zookeeper_errands.NodeServices``)."""

    def run_server(self, argv: tuple[str, ...], log: str) -> None:
        raise AssertionError("no server was to be run")

    def end_server(self, op: OpId, done: Callable[[], None]) -> None:
        raise AssertionError("no server was to be ended")

    def listen(self, nodes: tuple[NodeId, ...], emit: Emit) -> None:
        """Nobody speaks."""


class Ensemble:
    """A rack of ``nodes`` nodes in ``folder``; servers run on those that ``start`` was called for."""

    def __init__(self, folder: Path, nodes: int = 3, *, tls: bool = False, subnet: int = 21, **timing: int) -> None:
        require("java", root=False)
        self.folder = folder
        self.nodes = tuple(NodeId(f"n{number}") for number in range(1, nodes + 1))
        self._running: dict[NodeId, subprocess.Popen[bytes]] = {}
        addresses = {node: f"127.{subnet}.0.{number}" for number, node in enumerate(self.nodes, 1)}
        (folder / "catalog.toml").write_text(CATALOG)
        (folder / "heartbeat.key").write_text("a secret of the rack\n")
        tables = [
            f'[[node]]\nid = "{n}"\nnumber = {i}\naddress = "{addresses[n]}"\n' for i, n in enumerate(self.nodes, 1)
        ]
        (folder / "inventory.toml").write_text("\n".join(tables))
        if tls:
            self._certify(addresses)
        self.configs: dict[NodeId, Config] = {}
        for node in self.nodes:
            place = folder / node
            place.mkdir(exist_ok=True)
            text = [
                f'node = "{node}"',
                'inventory = "../inventory.toml"',
                'catalog = "../catalog.toml"',
                'state_dir = "state"',
                'run_dir = "run"',
                'heartbeat_key = "../heartbeat.key"',
                f"[zookeeper]\nclient_port = {PORT}\nquorum_port = {PORT + 1}\nelection_port = {PORT + 2}",
                "heap_mib = 64",
                "[timing]\n" + "\n".join(f"{key} = {value}" for key, value in timing.items()),
            ]
            if tls:
                text.append(f'[tls]\nca = "../ca/ca.pem"\ncert = "../tls/{node}.pem"\nkey = "../tls/{node}.key"')
            (place / "node.toml").write_text("\n".join(text) + "\n")
            self.configs[node] = load_config(place / "node.toml")

    def _certify(self, addresses: dict[NodeId, str]) -> None:
        from drivers.ca import OPERATOR, Authority, Pair, write_public
        from drivers.join import REVOKED_FILE

        authority = Authority(self.folder / "ca")
        authority.make()
        write_public(authority.folder / REVOKED_FILE, authority.revoke((), number=1))
        for node, address in addresses.items():
            authority.issue(Pair.of(self.folder / "tls", node), node, (address, node, "localhost", "127.0.0.1"))
        authority.issue(Pair.of(self.folder / "tls", OPERATOR), OPERATOR)

    # -- servers -------------------------------------------------------------------------------------------------------

    def start(self, *nodes: NodeId, members: Iterable[NodeId] | None = None) -> None:
        """Run the servers of these nodes (all, if none are named) and wait until they serve."""
        chosen = nodes or self.nodes
        for node in chosen:
            server.prepare(self.configs[node], self.nodes if members is None else members, begin=members is None)
            self.run(node, server.command(self.configs[node]))
        self.await_serving(chosen)

    def run(self, node: NodeId, argv: tuple[str, ...]) -> None:
        """Run a server's process, if it does not run already."""
        if not self.runs(node):
            log = server.log_file(self.configs[node])
            with log.open("ab") as out:
                self._running[node] = subprocess.Popen(
                    ["nice", "-n", "5", *argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out
                )

    def runs(self, node: NodeId) -> bool:
        """Whether a server's process exists."""
        return node in self._running and self._running[node].poll() is None

    def await_serving(self, nodes: Iterable[NodeId]) -> None:
        """Wait until these servers answer clients."""
        for node in nodes:
            wait_until(lambda node=node: self.status(node).serves, START_S_MAX, f"{node} serves")  # type: ignore[misc]

    def status(self, node: NodeId) -> server.Status:
        """What a server says of itself."""
        return server.own_status(self.configs[node])

    def leader(self) -> NodeId:
        """The node whose server leads."""
        (leader,) = [node for node in self._running if self.runs(node) and self.status(node).mode == "leader"]
        return leader

    def kill(self, node: NodeId) -> None:
        """End a server without warning."""
        process = self._running.pop(node)
        process.kill()
        process.wait()

    def signal(self, node: NodeId, number: int) -> None:
        """Send a server a signal."""
        self._running[node].send_signal(number)

    def stop(self) -> None:
        """End all servers."""
        for node in list(self._running):
            self.kill(node)

    # -- content -------------------------------------------------------------------------------------------------------

    def endpoint(self, node: NodeId) -> str:
        """Where a server listens."""
        return endpoint(self.configs[node].me.address, PORT)

    def brief(self, node: NodeId | None = None) -> Brief:
        """A short conversation, with one server or any."""
        nodes = [node] if node is not None else [node for node in self.nodes if self.runs(node)]
        return Brief([self.endpoint(n) for n in nodes], self.configs[self.nodes[0]].tables.tls, 4_000)

    def wipe(self) -> None:
        """Remove all records and containers, and what nodes remember."""
        for config in self.configs.values():
            (config.tables.run_dir / "session").unlink(missing_ok=True)
        with self.brief() as brief:
            self._wipe(brief, "/moxie")

    def _wipe(self, brief: Brief, path: str) -> None:
        for name in brief.children(path)[1] or ():
            self._wipe(brief, f"{path}/{name}")
        error, _ = brief.commit([jute.remove(path, -1)])
        assert error == OK
