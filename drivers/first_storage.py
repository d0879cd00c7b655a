"""The storage of a first server: one monitor, one manager, one OSD, made where Ceph's programs are installed.

It holds one copy of everything until other nodes bring disks, as ``rack storage`` has them do. Its daemons are run by
the system (``moxie-daemon@.service`` of the image) or by that service, not by the supervisor: they outlive it.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from core.errors import InputError
from drivers.ca import write_public
from drivers.ceph_cluster import ADMIN, MGR, POOL, STORAGE_USER, CephBroken, CephCluster, CephPlace, CephSettings
from drivers.ceph_parts import DAEMONS, PROGRAMS, READY, disk_bytes, no_room
from drivers.children import PATH
from drivers.init import CephAccess

GROUPS = 32


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """How the new storage is reached: by nodes, by the operator, and by those that make it grow."""

    nodes: CephAccess
    operator: CephAccess
    growth: CephAccess


def can_be_made() -> bool:
    """Whether Ceph's programs are installed here."""
    return not _missing()


def make_storage(
    root: Path, node: str, address: str, say: Callable[[str], None]
) -> tuple[Storage | None, tuple[str, ...]]:
    """Make the storage once; how it is reached, and what was done. None: Ceph is not installed here.

    What an interrupted run left is taken away first: nothing was in it. Raises: InputError.
    """
    if missing := _missing():
        return None, (f"made no storage: {missing[0]} is not installed (a catalog with volumes needs it)",)
    if not (root / READY).exists() and (lacking := no_room(root)):
        return None, (f"made no storage: {lacking} (a catalog with volumes needs it)",)
    settings = CephSettings(disk_bytes=disk_bytes(root), monitors=1, copies=1, groups=GROUPS)
    cluster = CephCluster(root, (CephPlace(name=node, address=address),), settings)
    storage = _reached(cluster, node)
    if (root / READY).exists():
        return storage, ()
    say("making the storage")
    shutil.rmtree(root, ignore_errors=True)
    try:
        cluster.prepare()
    except (CephBroken, OSError) as error:
        raise InputError([f"{root}: the storage cannot be made: {error}; needed: room there, and Ceph 16"]) from None
    for name, argv in daemons(cluster, node):
        write_public(root / DAEMONS / name, f'COMMAND="{" ".join(argv)}"\n'.encode())
    write_public(root / READY, b"the storage was made whole\n")
    return storage, (
        f"made a storage of one copy in {root}: it is as safe as this machine's disk until two more nodes bring theirs",
    )


def daemons(cluster: CephCluster, node: str) -> list[tuple[str, tuple[str, ...]]]:
    """The storage's daemons on this node: their names and commands, in the order of starting."""
    monitor, osd = cluster.daemon_commands(node)
    return [(f"mon.{node}", monitor), (MGR, cluster.mgr_command()), ("osd.0", osd)]


def _missing() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]


def _reached(cluster: CephCluster, node: str) -> Storage:
    def as_user(entity: str) -> CephAccess:
        user = entity.removeprefix("client.")
        return CephAccess(conf=cluster.conf, user=user, keyring=cluster.keyring(entity), pool=POOL)

    return Storage(
        nodes=as_user(f"client.moxie-{node}"), operator=as_user(ADMIN), growth=as_user(f"client.{STORAGE_USER}")
    )
