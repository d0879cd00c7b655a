"""``rack check`` on a node: whether this machine has what its supervisor and its drivers need."""

import errno
import importlib.util
import os
import platform
import re
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from drivers.config import Config
from drivers.finding import Finding, error, note, ok, warning
from drivers.registry import DRIVERS, with_addresses, with_volumes

KERNEL_MIN = (5, 10)
"""The oldest kernel that this was run on is that of Debian 11."""
DISK_FACTOR = 4
"""The journal is rotated, so twice its size is in use at the worst; ZooKeeper's log and snapshots lie beside it."""
COMMAND_S = 10.0
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def check_machine(config: Config) -> Iterator[Finding]:
    """Look at this machine as the node of the configuration."""
    yield from secrets_of(config)
    if config.tables.heartbeat_key is None:
        remedy = "heartbeat_key with the file that 'rack init' made"
        yield warning("secrets", str(config.file), "no heartbeat_key: heartbeats of nodes can be forged", remedy)
    yield _root()
    yield _kernel()
    yield from _drivers(config)
    if with_volumes(config):
        yield from _devices()
    if with_addresses(config):
        yield _nftables()
        yield _interface(config.tables.address.interface)
    yield _watchdog(config.tables.watchdog)
    yield from _ports(config)
    yield from _folders(config)


def secrets_of(config: Config) -> Iterator[Finding]:
    """Whether secrets are readable by their owner only; every file that the configuration names."""
    tables = config.tables
    files = [tables.heartbeat_key, tables.tls.key if tables.tls is not None else None]
    files += [tables.ceph.keyring] if tables.ceph is not None else []
    files += tables.storage.rings if tables.storage is not None else ()
    files += [machine.bmc.password_file for _, machine in sorted(config.machines.items())]
    files += [access.password_file for network in config.inventory.networks for access in network.access]
    for path in dict.fromkeys(path for path in files if path is not None):
        yield _secret(path)
    if tables.tls is None:
        remedy = "[tls] with the files that 'rack init' made"
        yield error(
            "secrets", str(config.file), "no [tls]: everybody on the network may write the rack's records", remedy
        )


def _secret(path: Path) -> Finding:
    try:
        mode, owner = path.stat().st_mode, path.stat().st_uid
    except OSError as failure:
        reason = str(failure.strerror).lower()
        return error("secrets", str(path), f"cannot be read ({reason})", "copy it from what 'rack init' made")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return error("secrets", str(path), f"others may read it (mode {mode & 0o777:04o})", f"chmod 600 {path}")
    if owner not in (0, os.geteuid()):
        return warning("secrets", str(path), f"belongs to user {owner}", f"chown root {path}")
    return ok("secrets", str(path), "readable by its owner only")


def _root() -> Finding:
    if os.geteuid() == 0:
        return ok("rights", "this process", "runs as root")
    remedy = "run the supervisor (and this check) as root: it mounts volumes and changes addresses"
    return error("rights", "this process", f"runs as user {os.geteuid()}", remedy)


def _kernel() -> Finding:
    release = platform.release()
    found = re.match(r"(\d+)\.(\d+)", release)
    if platform.system() != "Linux" or found is None:
        return error("kernel", release, "not Linux", "a node runs Linux; only the twin runs elsewhere")
    if (int(found[1]), int(found[2])) < KERNEL_MIN:
        wanted = ".".join(map(str, KERNEL_MIN))
        return error("kernel", release, "older than any that this was tried on", f"Linux {wanted} or newer")
    return ok("kernel", release, "new enough")


def _drivers(config: Config) -> Iterator[Finding]:
    """Whether each driver that this node needs finds its Python packages and its programs."""
    path = os.pathsep.join((os.environ.get("PATH", ""), SBIN))
    for driver in DRIVERS:
        if not driver.wanted(config):
            continue
        modules = [name for name in driver.modules if importlib.util.find_spec(name) is None]
        programs = [name for name in driver.programs if shutil.which(name, path=path) is None]
        if modules:
            yield error(
                "packages", driver.name, f"no Python package {' '.join(modules)}", "pip install 'moxie-rack[drivers]'"
            )
        if programs:
            remedy = f"apt-get install {' '.join(driver.debian)}" if driver.debian else f"install {' '.join(programs)}"
            yield error("packages", driver.name, f"no program {' '.join(programs)}", remedy)
        if not modules and not programs:
            yield ok("packages", driver.name, "everything it needs is installed")


def _devices() -> Iterator[Finding]:
    """How a volume can be attached: by the kernel, or through FUSE and a loop device."""
    by_kernel = [name for name in ("rbd", "nbd") if Path(f"/sys/module/{name}").exists() or _module(name)]
    fuse, loop = Path("/dev/fuse").exists(), Path("/dev/loop-control").exists()
    about = "volumes"
    if by_kernel:
        yield note("devices", about, f"the kernel has {' and '.join(by_kernel)}")
    if fuse and loop:
        yield ok("devices", about, "/dev/fuse and loop devices are there: volumes open through qemu-storage-daemon")
    else:
        lacking = [name for name, there in (("/dev/fuse", fuse), ("/dev/loop-control", loop)) if not there]
        remedy = "modprobe fuse loop, or give the container these devices"
        yield error("devices", about, f"{' and '.join(lacking)} not there: no volume can be opened", remedy)


def _module(name: str) -> bool:
    """Whether the running kernel could load a module."""
    base = Path("/lib/modules") / platform.release()
    return base.is_dir() and next(base.glob(f"kernel/drivers/block/**/{name}.ko*"), None) is not None


def _nftables() -> Finding:
    """Whether this kernel takes a set whose elements end by themselves: what guards addresses (rule 11)."""
    rules = "table inet moxie_check { set s { type ipv4_addr; flags timeout; } }"
    path = shutil.which("nft", path=os.pathsep.join((os.environ.get("PATH", ""), SBIN)))
    if path is None:
        return error("nftables", "nft", "not installed", "apt-get install nftables")
    try:
        done = subprocess.run([path, "--check", rules], capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as failure:
        return error("nftables", path, f"does not run: {failure}", "apt-get install --reinstall nftables")
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[0][:120]
        remedy = "a kernel with nf_tables, and root (in a container CAP_NET_ADMIN)"
        return error("nftables", path, f"the kernel refuses sets with timeouts: {said}", remedy)
    return ok("nftables", path, "sets with timeouts work: addresses go off even if every process here hangs")


def _interface(name: str) -> Finding:
    there = sorted(interface for _, interface in socket.if_nameindex())
    if name in there:
        return ok("interface", name, "exists")
    return error("interface", name, "does not exist", f"[address] interface = one of {' '.join(there)}")


def _watchdog(device: str) -> Finding:
    if not device:
        there = sorted(Path("/dev").glob("watchdog[0-9]*"))
        remedy = "a machine with a watchdog (or modprobe softdog), and its device here"
        remedy = f'watchdog = "{there[0]}"' if there else remedy
        return warning("watchdog", "none configured", "a frozen kernel keeps its services' connections open", remedy)
    path = Path(device)
    try:
        is_device = stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        is_device = False
    if not is_device:
        return error("watchdog", device, "is no such device", 'modprobe the driver of this board, or watchdog = ""')
    return ok("watchdog", device, "is there")


def _ports(config: Config) -> Iterator[Finding]:
    """Whether the ports are ours to take: free, or taken while the supervisor runs."""
    tables, address = config.tables, config.me.address
    running = (tables.run_dir / "supervisor.sock").exists()
    zk = tables.zookeeper
    wanted = [("client_port", zk.client_port), ("quorum_port", zk.quorum_port), ("election_port", zk.election_port)]
    for name, port in wanted:
        yield _port(f"zookeeper.{name}", address, port, socket.SOCK_STREAM, running)
    yield _port("heartbeat_port", address, tables.heartbeat_port, socket.SOCK_DGRAM, running)
    host, _, port_text = tables.metrics.rpartition(":")
    if port_text.isdigit():
        yield _port("metrics", host.strip("[]"), int(port_text), socket.SOCK_STREAM, running)


def _port(name: str, address: str, port: int, kind: socket.SocketKind, running: bool) -> Finding:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    about = f"{name} {address} {port}"
    with socket.socket(family, kind) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind is socket.SOCK_STREAM))
        try:
            tried.bind((address, port))
        except OSError as failure:
            if failure.errno == errno.EADDRNOTAVAIL:
                remedy = "bring the address up, or correct it in the inventory"
                return error("ports", about, "this machine does not have that address", remedy)
            if running:
                return ok("ports", about, "in use, and a supervisor of this node runs")
            said = str(failure.strerror).lower()
            return error(
                "ports",
                about,
                f"cannot be taken ({said})",
                f"stop what uses it (ss -lnp | grep :{port}), or choose another",
            )
    return ok("ports", about, "free")


def _folders(config: Config) -> Iterator[Finding]:
    tables = config.tables
    yield _folder("state_dir", tables.state_dir, tables.journal_mib << 20)
    yield _folder("run_dir", tables.run_dir, 1 << 20)


def _folder(name: str, path: Path, bytes_min: int) -> Finding:
    nearest = next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))
    about = f"{name} {path}"
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        return error("disk", about, f"{nearest} cannot be written", f"{name} = a folder of root's")
    free = shutil.disk_usage(nearest).free
    needed = DISK_FACTOR * bytes_min
    if free < needed:
        remedy = f"free {needed - free >> 20} MiB there, or lower journal_mib"
        return error("disk", about, f"{free >> 20} MiB free, {needed >> 20} MiB needed", remedy)
    return ok("disk", about, f"{free >> 20} MiB free")
