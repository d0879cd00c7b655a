"""What one node has of the rack's own storage: the files of its OSD, its monitor and its manager, made step by step.

All is below one folder, that of a first server (``drivers.first_storage``) as that of a node that joined. A daemon is
made when ``daemons/NAME`` says its command, which is written last; what an interrupted step left is taken away by the
next one. Nothing is ever taken away that the storage knows.
"""

import json
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

import msgspec

from core.ids import NodeId
from drivers.ca import write_public, write_secret
from drivers.ceph import Ceph, CephError
from drivers.ceph_cluster import CephBroken, CephSettings, conf_text, do, make_modules
from drivers.ceph_look import Seen
from drivers.children import PATH

READY, DAEMONS = "ready", "daemons"
PROGRAMS = ("ceph-mon", "ceph-mgr", "ceph-osd", "ceph-authtool", "monmaptool")
DISK_BYTES_MAX, DISK_BYTES_MIN = 64 << 30, 2 << 30
ROOM_SHARE, SPARE_BYTES = 2, 512 << 20
"""A disk is a file without content: it may grow to one half of what is free, and never to all of it."""
MANAGER_CAPS = ("mon", "allow profile mgr", "osd", "allow *", "mds", "allow *")
MON_HOST = re.compile(r"^mon_host = .*$", re.MULTILINE)
FSID = re.compile(r"^fsid = (\S+)$", re.MULTILINE)
COMMAND = re.compile(r'\ACOMMAND="([^"\n]+)"\n\Z')


class NewOsd(msgspec.Struct, frozen=True, kw_only=True):
    """The OSD that is being made: kept, so that a second try makes the same one and not another."""

    unique: str
    secret: str


class Parts:
    """The storage's files of one node. What asks the storage raises CephError; what makes files raises CephBroken,
    OSError and InputError.
    """

    def __init__(self, root: Path, node: NodeId, address: str) -> None:
        self.root = root.absolute()
        self._node = node
        self._address = address

    @property
    def conf(self) -> Path:
        """The configuration of this node's daemons."""
        return self.root / "ceph.conf"

    @property
    def fsid(self) -> str:
        """Which storage the files here belong to; "" if there are none."""
        try:
            found = FSID.search(self.conf.read_text(encoding="utf-8"))
        except OSError:
            return ""
        return found[1] if found is not None else ""

    def daemons(self) -> dict[str, tuple[str, ...]]:
        """What is made here: names and commands of daemons, monitors before managers before OSDs."""
        folder, found = self.root / DAEMONS, dict[str, tuple[str, ...]]()
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        for name in sorted(names, key=lambda name: ("mon", "mgr", "osd").index(name[:3]) if _is_daemon(name) else 3):
            said = COMMAND.match((folder / name).read_text(encoding="utf-8"))
            if _is_daemon(name) and said is not None:
                found[name] = tuple(said[1].split())
        return found

    def osd(self) -> int | None:
        """The number of this node's OSD; None if it has none."""
        return next((int(name[4:]) for name in self.daemons() if name.startswith("osd.")), None)

    def has(self, kind: str) -> bool:
        """Whether a ``mon``, ``mgr`` or ``osd`` is made here."""
        return any(name.startswith(f"{kind}.") for name in self.daemons())

    def forgotten(self, seen: Seen) -> bool:
        """Whether the storage has forgotten the OSD that is made here: it was purged, and nothing is lost with it."""
        number = self.osd()
        if number is None or self.fsid != seen.fsid:
            return False
        return seen.osds.get(number) != _line(self.root / f"osd.{number}" / "fsid")

    # -- making -----------------------------------------------------------------------------------------------------

    def begin(self, seen: Seen, disk_bytes_max: int = DISK_BYTES_MAX) -> None:
        """Make the folder that all else goes into, once."""
        if (self.root / READY).exists():
            return
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            size = min(disk_bytes(self.root), max(disk_bytes_max, DISK_BYTES_MIN))
            settings = CephSettings(disk_bytes=size, copies=1)
            text = conf_text(settings, self.root, seen.fsid, seen.mon_host)
            write_public(self.conf, text.encode())
            make_modules(self.root)
            (self.root / DAEMONS).mkdir(exist_ok=True)
            write_public(self.root / READY, b"this node has a part of the storage\n")
        except OSError as error:
            raise CephBroken(f"{self.root}: {error}") from None

    def make_osd(self, ceph: Ceph) -> str:
        """Make this node's OSD, and name it."""
        kept = self.root / "osd.json"
        try:
            new = msgspec.json.decode(kept.read_bytes(), type=NewOsd)
        except (OSError, msgspec.DecodeError):
            new = NewOsd(unique=str(uuid.uuid4()), secret=do("ceph-authtool", "--gen-print-key").strip())
            write_secret(kept, msgspec.json.encode(new))
        said = ceph.command("osd new", uuid=new.unique, text_in=json.dumps({"cephx_secret": new.secret}))
        name = f"osd.{_number(said)}"
        self._section(name, f"cluster_addr = {self._address}", f"crush_location = root=default host={self._node}")
        write_secret(self.root / f"{name}.keyring", f"[{name}]\n\tkey = {new.secret}\n".encode())
        place = self.root / name
        if not (place / "ready").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(mode=0o700)
            number = name[4:]
            flags = ("-c", str(self.conf), "--mkfs", "--osd-uuid", new.unique, "--no-mon-config")
            do("ceph-osd", "-i", number, *flags)
        self._made(name, "ceph-osd")
        kept.unlink(missing_ok=True)
        return name

    def make_monitor(self, ceph: Ceph, seen: Seen) -> str:
        """Make this node's monitor, and name it. It adds itself to the others' list when it has copied what they have.

        An older one here is thrown away: who is not in that list holds nothing that the others have not. One that is
        in the list, and was lost here, begins anew in the same way.
        """
        assert self._node not in seen.cluster.monitors or not self.has("mon")
        name = f"mon.{self._node}"
        place, map_file, ring = self.root / name, self.root / "monmap", self.root / "mon.keyring"
        (key,) = ceph.command("auth get", entity="mon.")
        (self.root / DAEMONS / name).unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        self._section(name)
        try:
            text = f'[mon.]\n\tkey = {key["key"]}\n\tcaps mon = "allow *"\n'
            write_secret(ring, text.encode())
            map_file.unlink(missing_ok=True)
            pairs = zip(seen.cluster.monitors, re.findall(r"\[[^]]*\]", seen.mon_host), strict=True)
            known = [word for monitor, address in pairs for word in ("--addv", monitor, address)]
            do("monmaptool", "--create", "--fsid", seen.fsid, "--enable-all-features", *known, str(map_file))
            place.mkdir(mode=0o700)
            flags = ("--mkfs", "--monmap", str(map_file), "--keyring", str(ring))
            do("ceph-mon", "-i", self._node, "-c", str(self.conf), *flags)
        finally:
            ring.unlink(missing_ok=True)
            map_file.unlink(missing_ok=True)
        self._made(name, "ceph-mon")
        return name

    def make_manager(self, ceph: Ceph) -> str:
        """Make this node's manager, and name it."""
        name = f"mgr.{self._node}"
        (key,) = ceph.command("auth get-or-create", entity=name, caps=list(MANAGER_CAPS))
        write_secret(self.root / f"{name}.keyring", f"[{name}]\n\tkey = {key['key']}\n".encode())
        (self.root / name).mkdir(mode=0o700, exist_ok=True)
        self._section(name)
        self._made(name, "ceph-mgr")
        return name

    def drop(self, name: str) -> None:
        """Take away a daemon that the storage has forgotten; it does not run any more."""
        (self.root / DAEMONS / name).unlink(missing_ok=True)
        (self.root / f"{name}.keyring").unlink(missing_ok=True)
        shutil.rmtree(self.root / name, ignore_errors=True)

    def _made(self, name: str, program: str) -> None:
        _, _, identity = name.partition(".")
        text = f'COMMAND="{program} -i {identity} -c {self.conf} -f"\n'
        write_public(self.root / DAEMONS / name, text.encode())

    def _section(self, name: str, *lines: str) -> None:
        """Have the configuration say where a daemon is to be reached."""
        text = self.conf.read_text(encoding="utf-8")
        without = re.sub(rf"^\[{re.escape(name)}\]\n(?:[^\[\n].*\n)*", "", text, flags=re.MULTILINE)
        new = without + "".join(f"{line}\n" for line in (f"[{name}]", f"public_addr = {self._address}", *lines))
        if new != text:
            write_public(self.conf, new.encode())


def keep_monitors(conf: Path, mon_host: str) -> bool:
    """Have a configuration name the monitors that there are now; whether it had to be changed. Raises: OSError."""
    text = conf.read_text(encoding="utf-8")
    new = MON_HOST.sub(f"mon_host = {mon_host}", text, count=1)
    if new == text:
        return False
    write_public(conf, new.encode())
    return True


def disk_bytes(folder: Path) -> int:
    """How large an OSD in a folder may become."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    room = shutil.disk_usage(place).free // ROOM_SHARE
    return min(max(room >> 30 << 30, DISK_BYTES_MIN), DISK_BYTES_MAX)


def cannot(folder: Path, in_memory: bool) -> str:
    """Say why a node can keep nothing of the storage in a folder; "" if it can."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if missing:
        return f"this node brings no disk: {missing[0]} is not installed (an image of profile hyperconverged has it)"
    if in_memory:
        return f"this node brings no disk: {folder} is in memory (a disk with a partition moxie-state is needed)"
    if (folder / READY).exists():
        return ""
    lacking = no_room(folder)
    return f"this node brings no disk: {lacking}" if lacking else ""


def no_room(folder: Path) -> str:
    """Say that a folder's file system is too small for an OSD; "" if it is not."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free, needed = shutil.disk_usage(place).free, DISK_BYTES_MIN + SPARE_BYTES
    return f"{free >> 20} MiB are free in {place}; needed: {needed >> 20}" if free < needed else ""


def _number(said: object) -> int:
    """The number of a new OSD in the answer. Raises: CephError."""
    found = said.get("osdid") if isinstance(said, Mapping) else said
    if not isinstance(found, int):
        raise CephError("failed", f"no number of an OSD: {said!r}")
    return found


def _is_daemon(name: str) -> bool:
    return re.fullmatch(r"(mon|mgr|osd)\.[A-Za-z0-9_-]+", name) is not None


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
