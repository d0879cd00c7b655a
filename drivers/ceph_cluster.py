"""A small real Ceph cluster: its files are made ahead, its daemons run wherever their node is.

The first three nodes have a monitor each, every node one OSD, and somebody outside runs the one mgr. ``prepare`` runs a
monitor of its own for a moment, on loopback, to fill the monitors' store; from then on the cluster has its real
addresses. Source of the recipe and of the settings: facts/ceph.md sections 1 and 5, and docs/drivers/ceph.md.
"""

import json
import shutil
import signal
import subprocess
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from drivers.clock import now_ms

POOL = "rbd"
ADMIN, MGR = "client.admin", "mgr.x"
CLIENT_CAPS = (
    "mon",
    'profile rbd, allow r, allow command "osd blocklist" with blocklistop=rm, allow command "osd down"',
    "osd",
    f"profile rbd pool={POOL}",
    "mgr",
    "allow r",
)
"""What a node may: read, open and make volumes, fence and lift client instances, mark daemons down."""
OSD_USER, STORAGE_USER = "moxie-osd", "moxie-storage"
GROWTH_CAPS = {
    OSD_USER: ("mon", "profile bootstrap-osd, allow r", "mgr", "allow r"),
    STORAGE_USER: (
        "mon",
        (
            'profile bootstrap-osd, allow r, allow command "mon rm", allow command "osd pool set", '
            'allow command "auth get" with entity=mon., allow command "auth get-or-create" with entity prefix mgr.'
        ),
        "mgr",
        "allow r",
    ),
}
"""What nodes may that make the storage grow: bring an OSD; and those that may vote, have a monitor and a manager and
change pools. The key of the monitors is worth everything: the second key keeps from mistakes, not from malice."""
MODULES = (
    "mgr_module.py mgr_util.py balancer crash devicehealth orchestrator pg_autoscaler progress rbd_support status "
    "telemetry volumes"
)
"""The modules that a mgr insists on, and two libraries of theirs; each more costs memory."""
MODULE_ROOT = Path("/usr/share/ceph/mgr")
STEP_S_MAX = 60
LOOK_S = 0.1

CONF = """[global]
fsid = {fsid}
mon_host = {mon_host}
auth_allow_insecure_global_id_reclaim = false
keyring = {root}/$name.keyring
run_dir = {root}
admin_socket = {root}/$name.asok
log_file = {root}/$name.log
mon_cluster_log_file = {root}/cluster.log
mon_data = {root}/$name
mgr_data = {root}/$name
osd_data = {root}/$name
mgr_module_path = {root}/modules
osd_objectstore = {store}
bluestore_block_size = {disk_bytes}
bluestore_cache_autotune = false
bluestore_cache_size = 16777216
bluestore_fsck_quick_fix_on_mount = false
osd_memory_target = 939524096
mon_cluster_log_file_level = info
debug_rocksdb = 0/0
debug_bluestore = 0/0
debug_bluefs = 0/0
debug_bdev = 0/0
debug_osd = 0/0
debug_mgr = 0/0
debug_mon = 0/0
debug_paxos = 0/0
debug_ms = 0/0
osd_max_pg_log_entries = 500
osd_min_pg_log_entries = 100
osd_op_num_shards = 1
osd_op_num_threads_per_shard = 2
osd_pool_default_pg_autoscale_mode = off
osd_pool_default_size = {copies}
mon_allow_pool_size_one = {alone}
mon_data_avail_warn = 3
mon_warn_on_pool_no_redundancy = false
paxos_propose_interval = 0.1
mon_tick_interval = 1
mon_lease = {mon_lease_s}
mon_election_timeout = {mon_lease_s}
mgr_tick_period = 1
mgr_stats_period = 1
osd_heartbeat_interval = 1
osd_heartbeat_grace = {grace_s}
osd_pool_default_read_lease_ratio = {lease_ratio}
mon_osd_adjust_heartbeat_grace = false
mon_osd_min_down_reporters = 2
mon_osd_adjust_down_out_interval = false
osd_recovery_sleep_hdd = 0
osd_mon_report_interval = 1
osd_mon_heartbeat_interval = 1
mon_client_ping_interval = 1
mon_client_ping_timeout = 2
mon_client_hunt_interval = 0.5
ms_bind_port_min = {port_min}
ms_bind_port_max = {port_max}
[mon]
keyring = {root}/$name/keyring
[client]
admin_socket =
log_file =
client_mount_timeout = 10
"""


class CephSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between clusters.

    ``disk_bytes``: size of each OSD's sparse file; ``monitors``: how many nodes, from the first, have one; ``groups``:
    placement groups of the pool; ``copies``: of each object, on different nodes. ``grace_s``: an OSD silent for so long
    is reported; ``mon_lease_s``: the monitors'.
    ``ports``: None for the usual ones (each node has its own address), else three numbers for all on one address: the
    monitors' first port, and the range for the other daemons.
    """

    store: Literal["bluestore", "memstore"] = "bluestore"
    disk_bytes: int = 4 << 30
    monitors: int = 3
    groups: int = 64
    copies: int = 3
    grace_s: int = 2
    lease_ratio: float = 0.3
    mon_lease_s: float = 0.4
    ports: tuple[int, int, int] | None = None
    prepare_port: int = 22_090


class CephPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A node of the cluster: its number among the OSDs is its place in the list."""

    name: str
    address: str


class CephBroken(Exception):
    """A step of making the cluster failed; the text says which and what it said."""


def do(*argv: str) -> str:
    """Run a program of Ceph's; what it says. Raises: CephBroken."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=STEP_S_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CephBroken(f"{argv[0]}: {error}") from None
    if done.returncode:
        raise CephBroken(f"{argv[0]}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


class CephCluster:
    """The files of one cluster below ``root``, and the commands that run its daemons."""

    def __init__(self, root: Path, nodes: Sequence[CephPlace], settings: CephSettings) -> None:
        self.root = root.absolute()
        self.nodes = tuple(nodes)
        self.settings = settings
        self._monitors = self.nodes[: settings.monitors]

    # -- the files --------------------------------------------------------------------------------------------------

    @property
    def conf(self) -> Path:
        """The configuration that daemons and clients use."""
        return self.root / "ceph.conf"

    def keyring(self, entity: str) -> Path:
        """The key of ``client.admin``, ``osd.0``, ``client.moxie-<node>`` ..."""
        return self.root / f"{entity}.keyring"

    def prepare(self) -> None:
        """Make everything that the daemons need. Takes some seconds. Raises: CephBroken."""
        self.root.mkdir(mode=0o700, parents=True)
        fsid, addresses = str(uuid.uuid4()), [self._address(index) for index in range(len(self._monitors))]
        self._write_conf(self.conf, fsid, ",".join(addresses))
        own = f"[v2:127.0.0.1:{self.settings.prepare_port},v1:127.0.0.1:{self.settings.prepare_port + 1}]"
        self._write_conf(self.root / "prepare.conf", fsid, own)
        self._make_keys()
        self._make_modules()
        first = self._monitors[0].name
        for name, monmap in ((own, "prepare.monmap"), (",".join(addresses), "monmap")):
            self._make_monmap(fsid, [name] if monmap == "prepare.monmap" else addresses, self.root / monmap)
        store = self.root / f"mon.{first}"
        store.mkdir()
        conf = str(self.root / "prepare.conf")
        flags = ("--monmap", str(self.root / "prepare.monmap"), "--keyring", str(self.root / "all.keyring"))
        do("ceph-mon", "-i", first, "-c", conf, "--mkfs", *flags)
        self._fill(first, conf)
        do("ceph-mon", "-i", first, "-c", str(self.conf), "--inject-monmap", str(self.root / "monmap"))
        for monitor in self._monitors[1:]:
            shutil.copytree(store, self.root / f"mon.{monitor.name}")
        for name in ("all.keyring", "prepare.conf", "prepare.monmap", "monmap"):
            (self.root / name).unlink()

    def _fill(self, first: str, conf: str) -> None:
        """Run one monitor for a moment, to make what is kept in the monitors' store; the OSDs' disks meanwhile."""
        argv = ("ceph-mon", "-i", first, "-c", conf, "-f", "--public-addr", f"127.0.0.1:{self.settings.prepare_port}")
        with (self.root / "prepare.out").open("wb") as out:
            monitor = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        try:
            osds = [(number, str(uuid.uuid4())) for number in range(len(self.nodes))]
            disks = [self._begin_disk(number, unique) for number, unique in osds]
            self._records(conf, osds)
            for process in disks:
                if process.wait(STEP_S_MAX):
                    raise CephBroken(f"an OSD's disk could not be made, see {self.root}/osd.*.out")
        finally:
            monitor.send_signal(signal.SIGTERM)
            try:
                monitor.wait(10)
            except subprocess.TimeoutExpired:
                monitor.kill()
                monitor.wait()

    def _records(self, conf: str, osds: list[tuple[int, str]]) -> None:
        """Make buckets before OSDs: placement hashes their ids, which would come in the order of the OSDs' starts."""
        script = [["osd", "crush", "add-bucket", node.name, "host", "root=default"] for node in self.nodes]
        script += [["osd", "new", unique, str(number)] for number, unique in osds]
        script += [
            ["config", "set", "mgr", f"mgr/{key}", "false", "--force"]
            for key in ("devicehealth/enable_monitoring", "balancer/active")
        ]
        script += [
            ["osd", "pool", "create", POOL, str(self.settings.groups)],
            ["osd", "pool", "application", "enable", POOL, "rbd"],
            *(["auth", "get-or-create", f"client.moxie-{node.name}", *CLIENT_CAPS] for node in self.nodes),
            *(["auth", "get-or-create", f"client.{user}", *caps] for user, caps in GROWTH_CAPS.items()),
        ]
        do("/usr/bin/python3", "-I", "-c", SCRIPT, conf, json.dumps(script), str(self.root))

    def _begin_disk(self, number: int, unique: str) -> "subprocess.Popen[bytes]":
        (self.root / f"osd.{number}").mkdir()
        argv = ("ceph-osd", "-i", str(number), "-c", str(self.conf), "--mkfs", "--osd-uuid", unique, "--no-mon-config")
        with (self.root / f"osd.{number}.out").open("wb") as out:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

    def _address(self, index: int) -> str:
        """Name a monitor's two ports: protocol 2 and protocol 1."""
        port, step = (self.settings.ports[0], 2) if self.settings.ports is not None else (3_300, 0)
        second = port + step * index + 1 if self.settings.ports is not None else 6_789
        address = self._monitors[index].address
        return f"[v2:{address}:{port + step * index},v1:{address}:{second}]"

    def _write_conf(self, path: Path, fsid: str, mon_host: str) -> None:
        text = conf_text(self.settings, self.root, fsid, mon_host)
        for number, node in enumerate(self.nodes):
            text += f"[osd.{number}]\npublic_addr = {node.address}\ncluster_addr = {node.address}\n"
            text += f"crush_location = root=default host={node.name}\n"
        path.write_text(text, encoding="utf-8")

    def _make_keys(self) -> None:
        caps: dict[str, tuple[str, ...]] = {
            "mon.": ("mon", "allow *"),
            ADMIN: ("mon", "allow *", "mgr", "allow *", "osd", "allow *"),
            MGR: ("mon", "allow profile mgr", "osd", "allow *", "mds", "allow *"),
        }
        for number in range(len(self.nodes)):
            caps[f"osd.{number}"] = ("mon", "allow profile osd", "mgr", "allow profile osd", "osd", "allow *")
        whole = self.root / "all.keyring"
        whole.touch(mode=0o600)
        for entity, pairs in caps.items():
            flags = [word for pair in zip(pairs[::2], pairs[1::2], strict=True) for word in ("--cap", *pair)]
            do("ceph-authtool", str(whole), "--gen-key", "-n", entity, *flags)
            if entity != "mon.":
                ring = self.keyring(entity)
                ring.touch(mode=0o600)
                key = do("ceph-authtool", str(whole), "-p", "-n", entity).strip()
                ring.write_text(f"[{entity}]\n\tkey = {key}\n", encoding="ascii")

    def _make_modules(self) -> None:
        make_modules(self.root)
        (self.root / MGR).mkdir()

    def _make_monmap(self, fsid: str, addresses: list[str], path: Path) -> None:
        pairs = zip(self._monitors, addresses, strict=False)
        flags = [word for monitor, address in pairs for word in ("--addv", monitor.name, address)]
        do("monmaptool", "--create", "--fsid", fsid, "--enable-all-features", *flags, str(path))

    # -- the daemons ------------------------------------------------------------------------------------------------

    def daemon_commands(self, node: str) -> list[tuple[str, ...]]:
        """List the commands that run in a node, each in the foreground: its monitor if it has one, then its OSD."""
        number = [place.name for place in self.nodes].index(node)
        words = ("-c", str(self.conf), "-f")
        monitor = [("ceph-mon", "-i", node, *words)] if number < self.settings.monitors else []
        return [*monitor, ("ceph-osd", "-i", str(number), *words)]

    def mgr_command(self) -> tuple[str, ...]:
        """The command that runs the one mgr."""
        return ("ceph-mgr", "-i", MGR.removeprefix("mgr."), "-c", str(self.conf), "-f")

    def wait_ready(self, ms_max: int, launch: Sequence[str] = ()) -> str:
        """Wait until every OSD is up and every group clean; "" or what is missing. ``launch``: before the command."""
        until_ms, pending, pause = now_ms() + ms_max, "the monitors do not answer", threading.Event()
        command = ("ceph", "-c", str(self.conf), "--connect-timeout", "3", "status", "-f", "json")
        while now_ms() < until_ms:
            try:
                done = subprocess.run([*launch, *command], capture_output=True, timeout=10, check=False)
            except subprocess.TimeoutExpired:
                continue
            if done.returncode == 0:
                pending = self.pending(json.loads(done.stdout))
                if not pending:
                    return ""
            pause.wait(LOOK_S)
        return pending

    def pending(self, status: dict[str, Any]) -> str:
        """Say what a cluster's status lacks until it is ready; "" if nothing."""
        osds, groups = status["osdmap"], {g["state_name"]: g["count"] for g in status["pgmap"]["pgs_by_state"]}
        if osds["num_up_osds"] < len(self.nodes):
            return f"{osds['num_up_osds']} of {len(self.nodes)} OSDs are up"
        if groups != {"active+clean": self.settings.groups}:
            return f"placement groups: {groups or 'none yet'}"
        return ""


def conf_text(settings: CephSettings, root: Path, fsid: str, mon_host: str) -> str:
    """Write a configuration whose daemons keep everything below ``root``, up to the sections of single daemons."""
    _, port_min, port_max = settings.ports or (0, 6_800, 7_300)
    return CONF.format(
        fsid=fsid,
        mon_host=mon_host,
        root=root,
        store=settings.store,
        disk_bytes=settings.disk_bytes,
        copies=settings.copies,
        alone="true" if settings.copies == 1 else "false",
        mon_lease_s=settings.mon_lease_s,
        grace_s=settings.grace_s,
        lease_ratio=settings.lease_ratio,
        port_min=port_min,
        port_max=port_max,
    )


def make_modules(root: Path) -> None:
    """Have a manager find those modules that it insists on, and no others. Raises: OSError."""
    (root / "modules").mkdir(exist_ok=True)
    for name in MODULES.split():
        link = root / "modules" / name
        link.unlink(missing_ok=True)
        link.symlink_to(MODULE_ROOT / name)


SCRIPT = """
import json, os, sys, rados
from ceph_argparse import json_command, parse_json_funcsigs, validate_command
conf, script, root = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
c = rados.Rados(conffile=conf, rados_id="admin", conf={"client_mount_timeout": "30"}); c.connect()
_, out, _ = c.mon_command(json.dumps({"prefix": "get_command_descriptions"}), b"")
known = parse_json_funcsigs(out.decode(), "cli")
for words in script:
    said = validate_command(known, words)
    code, out, err = c.mon_command(json.dumps(said), b"")
    if code: sys.exit(f"{words[:3]}: {code} {err}")
    if words[0] == "auth":
        with open(os.open(f"{root}/{words[2]}.keyring", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f: f.write(out)
c.shutdown()
"""
"""Runs commands of the ``ceph`` program one after the other over one connection; the program takes 0.3 s for each."""
