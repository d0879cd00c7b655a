"""What a machine that joins gets beside its certificate: made from what the serving node has itself.

Its own ``node.toml``; inventory and catalog; the machines that were found so far; the secrets that every node of a rack
shares: key of the heartbeats, passwords of the BMCs, key of the storage. The authority's key goes to nodes whose image
can boot others, and to no others: docs/adr/0010-who-signs.md says why at all.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from core.errors import InputError
from core.ids import NO_IMAGE, ImageId, NodeId
from drivers.ca import ISSUED_FILE
from drivers.ceph_cluster import OSD_USER, STORAGE_USER
from drivers.config import Config
from drivers.inventory import Machine
from drivers.join import REVOKED_FILE
from drivers.join.client import INTERFACE
from drivers.join.messages import Bundle, File
from drivers.node_file import NODE_FILE, node_text
from drivers.roster import FILE as ROSTER_FILE
from drivers.roster import Roster
from drivers.toml_text import toml_text
from formats.load import read_toml
from formats.problems import one_of

STATE_DIR, RUN_DIR = Path("/var/lib/moxie"), Path("/run/moxie")
IMAGES = STATE_DIR / "images"
IMAGE_KEY = Path("/usr/lib/moxie/images.pub")
FILE_BYTES_MAX = 4 << 20
SAME = ("zookeeper", "timing", "workload", "heartbeat_port", "journal_mib", "restart_ms", "give_up_ms")
"""What a new node has as the serving node has it. Folders, devices and addresses are its own."""


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What an image can do: run a ZooKeeper server, boot other machines, have a part of the storage."""

    server: bool = False
    storage: bool = False
    netboot: bool = False


class Bundles:
    """The bundles of one serving node. ``config`` is its own, with the machines of this moment."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def names(self, node: NodeId) -> tuple[str, ...]:
        """What a node is reached by. Raises: InputError if it is not known here."""
        return (self._machine(node).address, node, "localhost", "127.0.0.1")

    def bundle(self, node: NodeId, image: ImageId) -> Bundle:
        """Everything but key and certificate. Raises: InputError, OSError if some of it cannot be read."""
        able = abilities(self._config, image)
        inventory, secrets = carried(self._config.tables.inventory)
        tables = self._config.tables
        files = [
            File(path=NODE_FILE, data=self._node_file(node, able)),
            File(path="inventory.toml", data=inventory),
            File(path="catalog.toml", data=_read(tables.catalog)),
            *secrets,
            *self._keys(),
            *self._ceph_files(),
            *self._growth_files(able),
        ]
        if (roster := tables.state_dir / ROSTER_FILE).exists():
            files.append(File(path=ROSTER_FILE, data=_read(roster)))
        if able.netboot and tables.netboot is not None:
            for name in ("ca.key", "ca.pem", ISSUED_FILE):
                if (path := tables.netboot.ca / name).exists() or name != ISSUED_FILE:
                    files.append(File(path=f"ca/{name}", data=_read(path), secret=name == "ca.key"))
        return Bundle(node=node, files=tuple(files))

    def _machine(self, node: NodeId) -> Machine:
        if node not in self._config.machines:
            Roster(self._config, self._config.tables.state_dir)  # the agent's file has it before it orders the boot
        machine = self._config.machines.get(node)
        if machine is None:
            raise InputError([f"node {node} is not known here yet; known: {one_of(self._config.machines)}"])
        return machine

    def _node_file(self, node: NodeId, able: Abilities) -> bytes:
        tables, raw = self._config.tables, read_toml(self._config.file, "this node's configuration")
        more: dict[str, object] = {key: raw[key] for key in SAME if key in raw}
        zookeeper = raw.get("zookeeper")
        more["zookeeper"] = {**(zookeeper if isinstance(zookeeper, dict) else {}), "server": able.server}
        more["address"] = {"interface": INTERFACE.decode(), "prefix": tables.address.prefix}
        if (ceph := tables.ceph) is not None:
            keyring = "ceph/keyring" if ceph.keyring is not None else None
            more["ceph"] = {"conf": "ceph/ceph.conf", "user": ceph.user, "keyring": keyring, "pool": ceph.pool}
            more["ceph"] = {**_without(more["ceph"]), "volume_mib": ceph.volume_mib}
        if user := self._growth_user(able):
            assert tables.storage is not None
            keyring = f"ceph/{_ring(user)}"
            more["storage"] = {"user": user, "keyring": keyring, "disk_gib": tables.storage.disk_gib}
        if able.netboot and (netboot := tables.netboot) is not None:
            own = {"interface": INTERFACE.decode(), "images": IMAGES, "image": "", "ca": "ca", "key": IMAGE_KEY}
            more["netboot"] = {**_without(_plain(netboot)), **own}  # its image: whichever it runs
        if port := tables.metrics.rpartition(":")[2]:
            address = self._machine(node).address
            more["metrics"] = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        return node_text(self._machine(node), STATE_DIR, RUN_DIR, more)

    def _keys(self) -> list[File]:
        tables, files = self._config.tables, []
        if tables.heartbeat_key is not None:
            files.append(File(path="heartbeat.key", data=_read(tables.heartbeat_key), secret=True))
        if tables.tls is not None:
            files.append(File(path="tls/ca.pem", data=_read(tables.tls.ca)))
            if (revoked := tables.tls.ca.with_name(REVOKED_FILE)).exists():
                files.append(File(path=f"tls/{REVOKED_FILE}", data=_read(revoked)))
        return files

    def _ceph_files(self) -> list[File]:
        ceph = self._config.tables.ceph
        if ceph is None:
            return []
        files = [File(path="ceph/ceph.conf", data=_read(ceph.conf))]
        if ceph.keyring is not None:
            files.append(File(path="ceph/keyring", data=_read(ceph.keyring), secret=True))
        return files

    def _growth_user(self, able: Abilities) -> str:
        """As whom a node has a part of the storage: who may vote may have a monitor; "" if it has no part."""
        own = self._config.tables.storage
        if own is None or not able.storage:
            return ""
        users = (STORAGE_USER, OSD_USER) if able.server else (OSD_USER,)
        return next((user for user in users if (own.keyring.parent / _ring(user)).exists()), "")

    def _growth_files(self, able: Abilities) -> list[File]:
        """The key of its part, and the lesser one, which it hands on to nodes that vote nowhere."""
        user, own = self._growth_user(able), self._config.tables.storage
        if not user or own is None:
            return []
        names = [name for name in map(_ring, dict.fromkeys((user, OSD_USER))) if (own.keyring.parent / name).exists()]
        return [File(path=f"ceph/{name}", data=_read(own.keyring.parent / name), secret=True) for name in names]


def abilities(config: Config, image: ImageId) -> Abilities:
    """What the image of a machine can do, by its profile; what this node can where its image is not kept here."""
    from drivers.image.manifest import MANIFEST, read_manifest  # only where images are
    from drivers.image.profile import PROFILES

    netboot = config.tables.netboot
    if netboot is None:
        return Abilities()
    folder = netboot.images / (image if image != NO_IMAGE else netboot.image)
    if not (folder / MANIFEST).exists():  # a netbooted node has its image from another, which is the usual one
        own = config.tables
        return Abilities(server=own.zookeeper.server, netboot=True, storage=own.storage is not None)
    profile = PROFILES.get(read_manifest(folder).profile)
    packages = profile.packages if profile is not None else ()
    return Abilities(server="zookeeper" in packages, netboot="dnsmasq-base" in packages, storage="ceph-osd" in packages)


def carried(inventory: Path) -> tuple[bytes, tuple[File, ...]]:
    """Copy an inventory for another machine: its text, and every file that it names under a new name.

    Raises: InputError, OSError if one of them cannot be read.
    """
    raw: dict[str, Any] = read_toml(inventory, "an inventory file")
    files: dict[str, File] = {}
    places = [(one.get("bmc", {}), str(one.get("id"))) for one in raw.get("node", ())]
    for network in raw.get("network", ()):
        for access in network.get("access", ()):
            places.append((access, f"{network.get('name')}-{access.get('name')}"))
    for table, name in places:
        for key, ending in (("password_file", ""), ("ca", ".pem")):
            if key in table:
                path = str(PurePosixPath("bmc", name + ending))
                files[path] = File(path=path, data=_read(inventory.parent / table[key]), secret=key == "password_file")
                table[key] = path
    return toml_text(raw).encode(), tuple(files.values())


def _ring(user: str) -> str:
    return f"client.{user}.keyring"


def _plain(struct: msgspec.Struct) -> dict[str, object]:
    found: dict[str, object] = msgspec.to_builtins(struct, builtin_types=(Path,), enc_hook=str)
    return found


def _without(table: object) -> dict[str, object]:
    """A table without what is not set."""
    return {key: value for key, value in table.items() if value is not None} if isinstance(table, Mapping) else {}


def _read(path: Path) -> bytes:
    """Read a file of the serving node's. Raises: OSError; InputError if it is too long to be one."""
    with path.open("rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise InputError([f"{path}: is longer than {FILE_BYTES_MAX} bytes; needed: a file of 'rack init'"])
    return data
