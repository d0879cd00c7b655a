"""A rack whose own storage grows: a first server in a namespace, and nodes that join it with the bundle they would get.

Each node runs ``rack storage`` alone, or its whole supervisor. Daemons outlive both; they are ended by process id.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from core.ids import DomainId, Guid, ImageId, NodeId, RackId
from core.records import MachineRecord
from drivers.ca import Authority, key_pem, request_for
from drivers.config import load_config
from drivers.image.manifest import BOOT_FILES, MANIFEST, Manifest, describe, make_keys, sign, write_manifest
from drivers.join.bundle import Bundles
from drivers.join.client import write
from drivers.roster import FILE as ROSTER
from drivers.roster import encode
from drivers.state_file import write_whole
from drivers.zookeeper_session import Kept
from tests.real.netns import Wire
from tests.real.rack_on_loopback import wait_until

ROOT = Path(__file__).parents[2]
FIRST = NodeId("n1")
PROGRAMS = ("ip", "nft", "java", "dnsmasq", "ceph", "ceph-mon", "ceph-mgr", "ceph-osd")
CATALOG = 'name = "bare"\n[[service]]\nname = "netboot"\nrun = "everywhere"\n'
END_S_MAX = 60
SECONDS_MAX = 240
"""A busy machine takes its time; an idle one 15 s."""
N2, N3 = NodeId("n2"), NodeId("n3")
ROOM_BYTES = 8 << 30


class StorageRack:
    """Nodes n1, n2, ... below ``folder`` (a short path: sockets are in it). ``names``: how many there may be."""

    def __init__(self, folder: Path, nodes: int = 3) -> None:
        self.folder = folder
        self.nodes = tuple(NodeId(f"n{number}") for number in range(1, nodes + 1))
        self.wire = Wire(*self.nodes)
        self._services: dict[NodeId, subprocess.Popen[bytes]] = {}
        self.image = self._make_image()

    # -- making -----------------------------------------------------------------------------------------------------

    def begin(self, catalog: str = CATALOG) -> None:
        """Make n1 the first server, with the storage of one."""
        folder = self.folder
        (folder / "password").write_text("s3cret\n")
        (folder / "password").chmod(0o600)
        (folder / "catalog.toml").write_text(catalog)
        told = {
            "boot": "10.254.0.0/24",
            "management": "10.254.1.0/24",
            "interface": "eth0",
            "bmc-password": "password",
            "images": "images",
            "image-key": "keys/images.pub",
            "catalog": "catalog.toml",
            "home": "n1/etc",
            "state": "n1/state",
        }
        flags = [word for name, value in told.items() for word in (f"--{name}", _full(value, folder))]
        done = self.rack(FIRST, "init", "--first", *flags)
        assert done.returncode == 0, done.stderr
        config = self.config(FIRST)
        run_dir = json.dumps(str(folder / "n1/run"))
        config.write_text(config.read_text().replace('"/run/moxie"', run_dir))

    def join(self, node: NodeId) -> None:
        """Write what a node gets when it joins, with the folders of this test."""
        bundles = Bundles(load_config(self.config(FIRST)))
        bundle = bundles.bundle(node, ImageId(self.image))
        authority = Authority(self.folder / "n1/state/rack/ca")
        key = ec.generate_private_key(ec.SECP256R1())
        signed = authority.sign(request_for(key, node), node, bundles.names(node))
        home = self.folder / node / "etc"
        write(bundle, key_pem(key), "eth0", home)
        (home / "tls/node.pem").write_bytes(signed.pem)
        config = self.config(node)
        text = config.read_text()
        for name, of in (("/var/lib/moxie", "state"), ("/run/moxie", "run")):
            text = text.replace(json.dumps(name), json.dumps(str(self.folder / node / of)))
        config.write_text(text)

    def list_nodes(self) -> None:
        """Have the inventories of n1 and of the operator list the other nodes, as if they had been found."""
        text = "".join(
            f'\n[[node]]\nid = "{node}"\nnumber = {number}\naddress = "10.254.0.{number}"\n'
            for number, node in enumerate(self.nodes, 1)
            if node != FIRST
        )
        for path in ("n1/etc/inventory.toml", "n1/state/rack/operator/inventory.toml"):
            file = self.folder / path
            file.write_text(file.read_text() + text)

    def vote(self, *voters: NodeId) -> None:
        """Have all nodes know who votes in ZooKeeper, as their agents would."""
        for node in self.nodes:
            Kept(self.folder / node / "run", self.folder / node / "state").keep_voters(voters)

    # -- running ----------------------------------------------------------------------------------------------------

    def config(self, node: NodeId) -> Path:
        """A node's file."""
        return self.folder / node / "etc/node.toml"

    def command(self, node: NodeId, *words: str) -> list[str]:
        """A command of ``rack`` on a node."""
        return ["ip", "netns", "exec", self.wire.nodes[node], sys.executable, "-m", "drivers.cli", *words]

    def rack(self, node: NodeId, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run it."""
        return subprocess.run(
            self.command(node, *words),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
        )

    def start(self, node: NodeId, service: str = "storage") -> None:
        """Start a node's service."""
        with (self.folder / f"{node}.log").open("ab") as log:
            self._services[node] = subprocess.Popen(
                self.command(node, service, "--config", str(self.config(node))),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
            )

    def stop(self, node: NodeId, number: int = signal.SIGTERM) -> None:
        """End a node's service; its daemons go on."""
        process = self._services.pop(node)
        process.send_signal(number)
        process.wait(END_S_MAX)

    def log(self, node: NodeId) -> str:
        """What a node's service said."""
        return (self.folder / f"{node}.log").read_text(encoding="utf-8", errors="replace")

    def daemons(self, node: NodeId) -> dict[int, str]:
        """The storage's processes of a node, by id."""
        return daemons_below(self.folder / node / "state")

    def running(self, node: NodeId) -> set[str]:
        """Which services of ours a node's processes are."""
        found = set()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode("utf-8", "replace").split("\0")
            except OSError:
                continue
            if "drivers.cli" in words and str(self.config(node)) in words:
                found.add(words[words.index("drivers.cli") + 1])
        return found

    def retire(self, node: NodeId) -> None:
        """Have every node know that a node is retired, as the records of machines would say."""
        record = MachineRecord(
            guid=Guid(f"00000000-0000-0000-0000-00000000000{node[1:]}"),
            bmc=f"10.254.1.{node[1:]}:623",
            rack=RackId("r1"),
            power_domain=DomainId("p1"),
            node=node,
            number=int(node[1:]),
            retired=True,
        )
        for one in self.nodes:
            write_whole(self.folder / one / "state" / ROSTER, encode([record]))

    def kill(self, node: NodeId) -> None:
        """Kill what a node has of the storage, at once."""
        for pid in self.daemons(node):
            os.kill(pid, signal.SIGKILL)

    # -- looking ----------------------------------------------------------------------------------------------------

    def ask(self, *words: str, on: NodeId = FIRST, seconds: int = 20) -> Any:
        """What the ``ceph`` program says on a node; None if it does not answer."""
        root = self.folder / "n1/state/ceph"
        conf = self.folder / on / ("state/ceph/ceph.conf" if on == FIRST else "etc/ceph/ceph.conf")
        command = ("ceph", "-c", str(conf), "-n", "client.admin", "-k", str(root / "client.admin.keyring"))
        full = ("ip", "netns", "exec", self.wire.nodes[on], *command, "--connect-timeout", "10", *words, "-f", "json")
        try:
            done = subprocess.run(full, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return None
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else None

    def rados(self, on: NodeId, *words: str, given: bytes = b"", seconds: int = 60) -> bytes:
        """What the ``rados`` program says on a node, as the client that the node is. Raises: AssertionError."""
        table = load_config(self.config(on)).tables.ceph
        assert table is not None
        command: Sequence[str] = ("-c", str(table.conf), "-n", f"client.{table.user}", "-k", str(table.keyring))
        full = ("ip", "netns", "exec", self.wire.nodes[on], "rados", *command, "-p", table.pool, *words)
        done = subprocess.run(full, input=given, capture_output=True, timeout=seconds, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        """End everything, the daemons last, and remove the namespaces."""
        for node in tuple(self._services):
            process = self._services[node]
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        try:
            kill_below(self.folder)
        finally:
            self.wire.close()

    def _make_image(self) -> str:
        """An image of the profile that can all, signed, of very small files."""
        private, _ = make_keys(self.folder / "keys")
        images = self.folder / "images/any"
        images.mkdir(parents=True)
        for name in BOOT_FILES:
            (images / name).write_text(name)
        manifest = Manifest(
            format=1, profile="hyperconverged", version="1", cmdline="", files=describe(images, BOOT_FILES)
        )
        write_manifest(images, manifest)
        sign(images, private)

        return hashlib.sha256((images / MANIFEST).read_bytes()).hexdigest()[:16]


def daemons_below(folder: Path) -> dict[int, str]:
    """The storage's processes whose files are below a folder, by id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if words[0] in ("ceph-mon", "ceph-mgr", "ceph-osd") and f"{folder}/" in " ".join(words):
            found[int(path.parent.name)] = f"{words[0][5:]}.{words[2]}"
    return found


def kill_below(folder: Path) -> None:
    """Kill them; they outlive supervisors, as they have to. Raises: AssertionError if some are there yet."""
    end = time.monotonic() + END_S_MAX
    while (left := daemons_below(folder)) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    assert not left


@contextmanager
def storage_rack(nodes: int = 3) -> Iterator[StorageRack]:
    """A rack in a folder of its own, which is gone afterwards; what its services said is printed."""
    folder = Path(mkdtemp(prefix="mxg-"))  # short: Ceph's sockets are in it
    try:
        assert shutil.disk_usage(folder).free > ROOM_BYTES, "too little room for this test"
        rack = StorageRack(folder, nodes)
        try:
            yield rack
        finally:
            rack.close()
            for node in rack.nodes:
                if (folder / f"{node}.log").exists():
                    print(rack.log(node)[-4_000:])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def pool(rack: StorageRack, on: NodeId = FIRST) -> tuple[int, int]:
    """Copies of the pool, and how many a write needs; zeros while nobody answers."""
    said = rack.ask("osd", "pool", "ls", "detail", on=on)
    return (said[0]["size"], said[0]["min_size"]) if said else (0, 0)


def status(rack: StorageRack, on: NodeId = FIRST) -> dict[str, Any]:
    """What the storage says of itself; empty while it does not."""
    return rack.ask("status", on=on) or {}


def clean(rack: StorageRack, on: NodeId = FIRST) -> bool:
    """Whether every group has all its copies."""
    groups = status(rack, on).get("pgmap", {}).get("pgs_by_state", [])
    return [group["state_name"] for group in groups] == ["active+clean"]


def quorum(rack: StorageRack, on: NodeId = FIRST) -> list[str]:
    """The monitors that agree."""
    return sorted(status(rack, on).get("quorum_names", []))


def grown(rack: StorageRack) -> bool:
    """Whether three nodes have all that three nodes can have."""
    said = status(rack)
    return (
        pool(rack) == (3, 2)
        and sorted(said.get("quorum_names", [])) == [FIRST, N2, N3]
        and said["mgrmap"]["num_standbys"] == 2
        and clean(rack)
        and said["health"]["status"] == "HEALTH_OK"
    )


def grow_to_three(rack: StorageRack) -> None:
    """Begin with one node, keep something there, have two more join, and wait for what follows."""
    rack.begin()
    rack.list_nodes()
    rack.vote(FIRST)
    rack.start(FIRST)
    wait_until(lambda: clean(rack), SECONDS_MAX, "one node has a storage")
    assert pool(rack) == (1, 1)
    rack.rados(FIRST, "put", "before", "-", given=b"written to one copy")
    for node in (N2, N3):
        rack.join(node)
    rack.vote(FIRST, N2, N3)
    for node in (N2, N3):
        rack.start(node)
    wait_until(lambda: grown(rack), SECONDS_MAX, "three monitors, three copies, two managers that stand by")


def _full(value: str, folder: Path) -> str:
    relative = ("password", "images", "keys/", "catalog", "n1/")
    return str(folder / value) if value.startswith(relative) else value
