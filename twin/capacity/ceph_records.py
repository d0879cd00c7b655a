"""The fields that are read of Ceph's JSON, with what they may hold. Everything else in the files is left alone."""

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Id = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]


class DfNode(msgspec.Struct, frozen=True):
    """A row of `osd df` or `osd df tree`: a daemon or, in a tree, also a bucket."""

    id: Id
    type: str
    kb: Count
    kb_used: Count
    kb_avail: Count
    kb_used_data: Count | None = None
    pgs: Count | None = None


class DfNodes(msgspec.Struct, frozen=True):
    """All of `osd df`. ``stray``: daemons that stand in no bucket."""

    nodes: list[msgspec.Raw]
    stray: list[msgspec.Raw] = []


class PoolStats(msgspec.Struct, frozen=True):
    """What `df` says of one pool. `df` without `detail` of older releases has no ``stored``: then it is None."""

    bytes_used: Count
    max_avail: Count | None = None
    stored: Count | None = None
    objects: Count = 0


class PoolDf(msgspec.Struct, frozen=True):
    """One pool of `df`."""

    id: Id
    name: str
    stats: PoolStats


class Df(msgspec.Struct, frozen=True):
    """All of `df` or `df detail`."""

    pools: list[msgspec.Raw]
    stats: dict[str, object]


class PgSum(msgspec.Struct, frozen=True):
    """What a placement group holds."""

    num_bytes: Count
    num_objects: Count
    num_object_copies: Count = 0
    num_objects_degraded: Count = 0


class Pg(msgspec.Struct, frozen=True):
    """One placement group of `pg dump`. ``version``, ``log_start``: epoch and entry, such as 121'94."""

    pgid: str
    state: str
    up: list[Id]
    stat_sum: PgSum
    version: str = ""
    log_start: str = ""


class PgMap(msgspec.Struct, frozen=True):
    """The inner part of `pg dump`; the whole of it before Nautilus."""

    pg_stats: list[msgspec.Raw]


class PgDump(msgspec.Struct, frozen=True):
    """`pg dump` since Nautilus."""

    pg_map: PgMap


class Metadata(msgspec.Struct, frozen=True):
    """What is read of one row of `osd metadata`; all values are strings there."""

    id: Id
    hostname: str = ""
    rotational: str = ""
    bluestore_bdev_type: str = ""
    devices: str = ""
    device_ids: str = ""
    cpu: str = ""
    mem_total_kb: str = ""
