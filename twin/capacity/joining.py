"""How long a new server takes from dark to member, out of the simulated rack: what comes before any data moves."""

import msgspec

from twin.scaling.scale import time_to_join

SEEDS = 9
NODES_MAX = 40
"""Joining hardly depends on the size of the rack (``twin scale`` shows it): larger ones are not simulated for it."""


class Joining(msgspec.Struct, frozen=True, kw_only=True):
    """Times in milliseconds from carrying a server in, dark, until it is a member: of several runs of the twin."""

    nodes: int
    seeds: int
    median_ms: int
    low_ms: int
    high_ms: int


def joining(nodes: int, seeds: int = SEEDS) -> Joining:
    """Let one more server join a settled rack of ``nodes``, with another seed each time.

    Raises: InputError if the catalog of the twin's own services cannot be read.
    """
    size = max(1, min(nodes, NODES_MAX))
    times = sorted(time_to_join(size, seed) for seed in range(1, seeds + 1))
    return Joining(nodes=size, seeds=seeds, median_ms=times[len(times) // 2], low_ms=times[0], high_ms=times[-1])
