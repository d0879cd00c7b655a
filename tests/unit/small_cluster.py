"""A small cluster with one pool, and placements written by hand: for tests of movement and recovery."""

import numpy as np

from twin.capacity.cluster import Cluster, Host, Osd, PoolUse
from twin.crush.map import NONE, CrushMap
from twin.crush.osdmap import OsdMap, OsdState, Pool
from twin.crush.pools import Placed


def cluster(
    osds: int, rows: int, *, size: int = 3, data_shards: int = 1, down: tuple[int, ...] = (), log: int | None = None
) -> Cluster:
    """A cluster of single-OSD hosts with one pool whose PGs hold 10 objects and 3,000 bytes each."""
    pool = Pool(
        id=1,
        name="rbd",
        kind="erasure" if data_shards > 1 else "replicated",
        size=size,
        min_size=max(2, data_shards),
        pg_num=rows,
        pgp_num=rows,
        rule=0,
        data_shards=data_shards,
    )
    states = tuple(OsdState(id=number, up=number not in down) for number in range(osds))
    crush = CrushMap(devices=(), types={}, buckets=(), rules=())
    use = PoolUse(
        pool=1,
        pg_bytes=np.full(rows, 3_000, np.int64),
        pg_objects=np.full(rows, 10, np.int64),
        pg_log_start=np.zeros(rows, np.int64) if log is not None else None,
        pg_version=np.full(rows, log, np.int64) if log is not None else None,
    )
    return Cluster(
        name="small",
        source="small",
        osdmap=OsdMap(epoch=1, crush=crush, osds=states, pools=(pool,)),
        osds=tuple(Osd(id=number, host=f"h{number}", kind="hdd", size_bytes=1 << 40) for number in range(osds)),
        hosts=tuple(Host(name=f"h{number}") for number in range(osds)),
        uses=(use,),
    )


def placed(*rows: tuple[int, ...]) -> dict[int, Placed]:
    """One pool's up sets; the first of each is primary."""
    up = np.array(rows, np.int32)
    return {1: Placed(pool=1, up=up, primary=np.where(up[:, 0] == NONE, -1, up[:, 0]).astype(np.int32))}
