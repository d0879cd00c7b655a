"""Usable bytes of a rack as CRUSH places its data: the fullest disk ends them for all, without a balancer."""

from pathlib import Path

from formats.hardware import RackFile
from twin.capacity.assumptions import default_assumptions
from twin.capacity.rack_source import cluster_of_rack
from twin.capacity.usable import usable
from twin.crush.pools import place


def placed_bytes(rack: RackFile) -> int:
    """Place the pool that `twin plan` assumes on a rack, and say how much users can store, with no loss kept room for.

    Whole placement groups fall on disks by chance, so the fullest disk is fuller the more disks there are. Ceph's
    balancer moves single groups until they are even (docs.ceph.com, Balancer module, mode upmap).
    """
    cluster = cluster_of_rack(rack, Path(rack.name))
    placed = {pool.id: place(cluster.osdmap, pool.id) for pool in cluster.osdmap.pools}
    return usable(cluster, placed, default_assumptions(), "none").usable_bytes
