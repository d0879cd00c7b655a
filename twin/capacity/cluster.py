"""A cluster to plan for, from whatever source: its storage as Ceph places it, and the servers around it."""

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from twin.crush.osdmap import OsdMap


class Osd(msgspec.Struct, frozen=True, kw_only=True):
    """One storage daemon's disk. ``used_bytes``: all that is on it; ``overhead_bytes``: what no pool has put there.

    ``available_bytes``: what Ceph itself says is free (None: size less used); ``pgs``: how many PGs Ceph counted on it
    (None where no cluster said so).
    """

    id: int
    host: str
    kind: Literal["hdd", "ssd", "nvme"]
    size_bytes: int
    used_bytes: int = 0
    overhead_bytes: int = 0
    model: str = ""
    available_bytes: int | None = None
    pgs: int | None = None


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One server. What a source does not tell is None (a Ceph cluster knows no cores, no power and no price)."""

    name: str
    rack: str | None = None
    pdu: str | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    storage_mbit_per_s: int | None = None
    price: float | None = None
    watts: float | None = None


class PoolUse(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What lies in one pool, by placement group.

    ``pg_bytes`` and ``pg_objects``: int64 arrays, shape (pg_num,): what users stored, each object counted once. Zeros
    for a cluster that is still empty. ``stored_bytes``: the same without the holes of sparse objects;
    ``allocated_bytes``: what the disks hold for it, all replicas or shards together. ``copies`` and ``degraded`` count
    objects times replicas, and those of them that are missing. ``max_avail_bytes``: Ceph's own MAX AVAIL, if one said.

    ``pg_log_start`` and ``pg_version``: int64 arrays, shape (pg_num,): the last log entry that was trimmed (0: the log
    still tells a PG's whole history, and recovery follows it instead of backfilling) and the last entry; None: unknown.
    """

    pool: int
    pg_bytes: npt.NDArray[np.int64]
    pg_objects: npt.NDArray[np.int64]
    stored_bytes: int = 0
    allocated_bytes: int = 0
    copies: int = 0
    degraded: int = 0
    max_avail_bytes: int | None = None
    pg_log_start: npt.NDArray[np.int64] | None = None
    pg_version: npt.NDArray[np.int64] | None = None


class Spare(msgspec.Struct, frozen=True, kw_only=True):
    """A server that a rack file names but that is not plugged in yet. The ids of its ``osds`` are not given yet: -1."""

    host: Host
    osds: tuple[Osd, ...]


class Cluster(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A cluster at one moment. ``source``: its file or folder, for messages. Hosts by name, OSDs by id.

    ``files``: the names of the files that were read, by kind; ``warnings``: what a reader of results should know;
    ``spares``: servers that are there to be plugged in next.
    """

    name: str
    source: str
    osdmap: OsdMap
    osds: tuple[Osd, ...]
    hosts: tuple[Host, ...]
    uses: tuple[PoolUse, ...]
    currency: str = "EUR"
    files: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    spares: tuple[Spare, ...] = ()
