"""What a cluster's OSD map says about placement: daemons, pools, and the exceptions to CRUSH."""

from typing import Literal

import msgspec

from twin.crush.map import ONE, CrushMap


class OsdState(msgspec.Struct, frozen=True, kw_only=True):
    """One storage daemon. ``reweight`` and ``primary_affinity`` in 16.16; ``reweight`` 0 means out."""

    id: int
    up: bool = True
    reweight: int = ONE
    primary_affinity: int = ONE


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """One pool. ``size`` counts replicas, or data and coding shards; ``data_shards`` is 1 for a replicated pool."""

    id: int
    name: str
    kind: Literal["replicated", "erasure"]
    size: int
    min_size: int
    pg_num: int
    pgp_num: int
    rule: int
    data_shards: int = 1
    hashpspool: bool = True


class OsdMap(msgspec.Struct, frozen=True, kw_only=True):
    """All that placement depends on. Upmaps by (pool, pg): whole results, and pairs (from, to).

    ``max_osd``: how many OSD ids there are, whether they exist or not; 0: the highest that exists and one.
    """

    epoch: int
    crush: CrushMap
    osds: tuple[OsdState, ...]
    pools: tuple[Pool, ...]
    upmaps: dict[tuple[int, int], tuple[int, ...]] = {}
    upmap_items: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
    nearfull_ratio: float = 0.85
    backfillfull_ratio: float = 0.90
    full_ratio: float = 0.95
    max_osd: int = 0
