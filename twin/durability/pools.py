"""A cluster's pools as layouts, and how long it takes to make the copies of a lost disk again."""

from twin.capacity.cluster import Cluster
from twin.capacity.fill import place_all
from twin.capacity.recovery_settings import Figures, settings_of
from twin.crush.osdmap import Pool
from twin.crush.pools import Placed
from twin.durability.durations import Duration, Fixed
from twin.durability.layout import Layout, make_layout

HOUR_MS = 3_600_000
TRIED = 3
"""So many lost disks are followed, spread over the cluster; the recovery time is their mean."""


def layouts_of(cluster: Cluster, placed: dict[int, Placed]) -> dict[int, Layout]:
    """Return a layout for each pool of the cluster, by pool id.

    A replicated pool keeps its data while one copy is left; an erasure-coded one while all but the coding shards are.
    """
    nodes = [host.name for host in cluster.hosts]
    racks = [host.rack for host in cluster.hosts]
    pdus = [host.pdu for host in cluster.hosts]
    homes = {osd.id: osd.host for osd in cluster.osds}
    return {
        pool.id: make_layout(
            placed[pool.id].up,
            nodes,
            racks,
            pdus,
            homes,
            tolerance=_tolerance(pool),
            min_size=pool.min_size,
            name=pool.name,
        )
        for pool in sorted(cluster.osdmap.pools, key=lambda pool: pool.id)
    }


def _tolerance(pool: Pool) -> int:
    return pool.size - pool.data_shards if pool.kind == "erasure" else pool.size - 1


def recovery_of(cluster: Cluster, placed: dict[int, Placed], figures: Figures, pool: int) -> tuple[Duration, str]:
    """Return how long a lost disk's copies are missing, from its failure on, and where that figure is from.

    Of ``TRIED`` disks that hold the pool, spread over the cluster, each is lost in turn. All its copies are missing
    until the last one is made again; Ceph waits ``mon_osd_down_out_interval`` first.
    """
    if (hours := figures.number("recovery_hours")) > 0.0:
        return Fixed(hours=hours), "recovery_hours, as set"
    from twin.capacity.change import LoseOsds, apply
    from twin.capacity.movement import move
    from twin.capacity.recovery import recover

    used = dict.fromkeys(placed[pool].up.ravel().tolist())
    held = [osd.id for osd in cluster.osds if osd.id in used]
    step = max(1, len(held) // TRIED)
    settings = settings_of(figures)
    took: list[float] = []
    for osd in held[::step][:TRIED]:
        change = LoseOsds(osds=(osd,))
        after = apply(cluster, change)
        again = place_all(after.osdmap)
        movement = move(cluster, after, placed, again)
        took.append(recover(cluster, after, movement, settings).total_ms / HOUR_MS)
    if not took:
        return Fixed(hours=settings.mon_osd_down_out_interval / 3_600), "no disk holds data"
    return Fixed(hours=sum(took) / len(took)), f"twin plan's recovery of one lost OSD, mean of {len(took)}"
