"""Where a pool's shards lie when no real map says it: at random, no two of a placement group in one failure domain."""

import math

import numpy as np
import numpy.typing as npt

from core.errors import InputError
from twin.failures.bulk import uniforms
from twin.failures.renewal import Ints

SHARDS_PER_DISK = 100
"""Source: Ceph's own target, ``mon_target_pg_per_osd``."""
_ROUNDS = 200

Placement = npt.NDArray[np.int32]


def groups_for(disks: int, size: int) -> int:
    """How many placement groups a pool on all disks has: the power of two nearest to 100 shards on each disk."""
    return 1 << max(0, round(math.log2(max(1.0, disks * SHARDS_PER_DISK / size))))


def scatter(groups: int, size: int, disk_node: Ints, rack_of: Ints, seed: int) -> Placement:
    """Choose ``size`` disks for each group: int32 array, shape (groups, size).

    Of different racks if there are more than that, else of different nodes, else different disks. Every disk is as
    likely as any other, which is how CRUSH spreads equal weights. Cost: O(groups x size) for each of a few rounds.

    Raises: InputError if there are fewer disks than shards.
    """
    disks = len(disk_node)
    if disks < size:
        raise InputError([f"disks: {disks}; needed: {size}, one for each shard of a placement group"])
    domain_of = _domains(size, disk_node, rack_of)
    chosen = np.zeros((groups, size), dtype=np.int32)
    taken = np.full((groups, size), -1, dtype=np.int64)
    for slot in range(size):
        left = np.arange(groups)
        for attempt in range(_ROUNDS):
            drawn = (uniforms(seed, f"layout.{slot}", attempt, groups)[left] * disks).astype(np.int32)
            domain = domain_of[drawn]
            good = ~(taken[left, :slot] == domain[:, None]).any(axis=1)
            chosen[left[good], slot], taken[left[good], slot] = drawn[good], domain[good]
            left = left[~good]
            if not len(left):
                break
        for group in left.tolist():  # rarer than once in a million groups: the first domain that is free
            free = np.flatnonzero(~np.isin(domain_of, taken[group, :slot]))
            chosen[group, slot], taken[group, slot] = free[0], domain_of[free[0]]
    return chosen


def _domains(size: int, disk_node: Ints, rack_of: Ints) -> Ints:
    """More racks than shards, so that a lost one can be made good; else as many nodes; else disks."""
    disk_rack = rack_of[disk_node]
    if len(np.unique(disk_rack)) > size:
        return disk_rack
    return disk_node if len(np.unique(disk_node)) >= size else np.arange(len(disk_node), dtype=np.int64)
