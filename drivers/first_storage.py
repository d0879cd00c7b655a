"""The storage of a first server: one monitor, one manager, one OSD, made where Ceph's programs are installed.

It holds one copy of everything until other nodes bring disks; that is said, not hidden. Its daemons are run by the
system (``moxie-daemon@.service`` of the image), not by the supervisor: they outlive it.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from core.errors import InputError
from drivers.ca import write_public
from drivers.ceph_cluster import MGR, POOL, CephBroken, CephCluster, CephPlace, CephSettings
from drivers.children import PATH
from drivers.init import CephAccess

PROGRAMS = ("ceph-mon", "ceph-mgr", "ceph-osd", "ceph-authtool", "monmaptool")
DISK_BYTES_MAX, DISK_BYTES_MIN = 64 << 30, 2 << 30
ROOM_SHARE = 2
"""The disk is a file without content: it may grow to one half of what is free."""
READY, DAEMONS = "ready", "daemons"
GROUPS = 32


def make_storage(
    root: Path, node: str, address: str, say: Callable[[str], None]
) -> tuple[CephAccess | None, tuple[str, ...]]:
    """Make the storage once; how nodes reach it, and what was done. None: Ceph is not installed here.

    What an interrupted run left is taken away first: nothing was in it. Raises: InputError.
    """
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if missing:
        return None, (f"made no storage: {missing[0]} is not installed (a catalog with volumes needs it)",)
    cluster = CephCluster(root, (CephPlace(name=node, address=address),), _settings(root))
    access = CephAccess(
        conf=cluster.conf, user=f"moxie-{node}", keyring=cluster.keyring(f"client.moxie-{node}"), pool=POOL
    )
    if (root / READY).exists():
        return access, ()
    say("making the storage")
    shutil.rmtree(root, ignore_errors=True)
    try:
        cluster.prepare()
    except (CephBroken, OSError) as error:
        raise InputError([f"{root}: the storage cannot be made: {error}; needed: room there, and Ceph 16"]) from None
    for name, argv in daemons(cluster, node):
        write_public(root / DAEMONS / name, f'COMMAND="{" ".join(argv)}"\n'.encode())
    write_public(root / READY, b"the storage was made whole\n")
    return access, (f"made a storage of one copy in {root}: it is as safe as this machine's disk",)


def daemons(cluster: CephCluster, node: str) -> list[tuple[str, tuple[str, ...]]]:
    """The storage's daemons on this node: their names and commands, in the order of starting."""
    monitor, osd = cluster.daemon_commands(node)
    return [(f"mon.{node}", monitor), (MGR, cluster.mgr_command()), ("osd.0", osd)]


def _settings(root: Path) -> CephSettings:
    place = next(path for path in (root, *root.parents) if path.exists())
    room = shutil.disk_usage(place).free // ROOM_SHARE
    disk_bytes = min(max(room >> 30 << 30, DISK_BYTES_MIN), DISK_BYTES_MAX)
    return CephSettings(disk_bytes=disk_bytes, monitors=1, copies=1, groups=GROUPS)
