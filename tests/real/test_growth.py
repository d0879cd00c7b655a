"""What the plan says of a sixth host, held against a real cluster that then really grows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.real.growing_ceph import PROGRAMS, growing_cluster
from tests.real.require import require
from twin.capacity.change import AddHosts, apply
from twin.capacity.cluster import Cluster
from twin.capacity.fill import settled
from twin.capacity.max_avail import max_avail_bytes
from twin.capacity.movement import Movement, move
from twin.capacity.recovery import Recovery, recover
from twin.capacity.source import read_source
from twin.crush.map import NONE
from twin.crush.pools import osd_pgs

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("ceph")]

OBJECTS = 640
BUSY_FACTOR = 3
"""Recovery on a loaded machine may take this much longer than foreseen; more is a wrong forecast."""


Ups = dict[tuple[int, int], list[int]]
"""The up set of each group, by pool and number."""


class Grown(NamedTuple):
    """A forecast, and what came true."""

    before: Cluster
    forecast: Cluster
    movement: Movement
    recovery: Recovery
    after: Cluster
    up_before: Ups
    up_after: Ups
    took_s: float


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grown]:
    require(*PROGRAMS)
    folder = tmp_path_factory.mktemp("growth")
    with growing_cluster((22_510, 22_520, 22_599), 22_590) as ceph:
        ceph.fill(OBJECTS)
        ceph.clean_after_s()
        before = read_source(ceph.read_into(folder / "before"))
        forecast = apply(before, AddHosts())
        movement = move(before, forecast)
        recovery = recover(before, forecast, movement)
        ceph.grow()
        took_s = ceph.clean_after_s()
        after = read_source(ceph.read_into(folder / "after"))
        yield Grown(before, forecast, movement, recovery, after, ups(folder / "before"), ups(folder / "after"), took_s)


def ups(folder: Path) -> Ups:
    """The up sets from the cluster's own `pg dump`."""
    rows = json.loads((folder / "pg_dump.json").read_text("utf-8"))["pg_map"]["pg_stats"]
    return {(int(pool), int(pg, 16)): row["up"] for row in rows for pool, pg in [row["pgid"].split(".")]}


def test_the_new_host_gets_the_ids_and_weights_that_ceph_gives_it(grown: Grown) -> None:
    def real(cluster: Cluster) -> list[tuple[int, str, tuple[int, ...], tuple[int, ...]]]:
        return [(one.id, one.name, one.items, one.weights) for one in sorted(cluster.osdmap.crush.buckets, key=str)]

    assert sorted(real(grown.forecast)) == sorted(real(grown.after))


def test_every_group_lands_where_it_was_foreseen(grown: Grown) -> None:
    foreseen = {
        (pool, pg): [osd for osd in row if osd != NONE]
        for pool, placed in grown.movement.placed_after.items()
        for pg, row in enumerate(placed.up.tolist())
    }
    assert foreseen == grown.up_after


def test_every_osd_has_as_many_groups_as_foreseen(grown: Grown) -> None:
    assert osd_pgs(list(grown.movement.placed_after.values())) == {osd.id: osd.pgs for osd in grown.after.osds}


def test_as_many_shards_and_bytes_moved_as_foreseen(grown: Grown) -> None:
    shards = size = 0
    uses = {use.pool: use for use in grown.after.uses}
    for pool in grown.after.osdmap.pools:
        for pg in range(pool.pg_num):
            old, new = grown.up_before[pool.id, pg], grown.up_after[pool.id, pg]
            if pool.kind == "erasure":
                came = sum(1 for was, osd in zip(old, new, strict=True) if was != osd)
            else:
                came = len(set(new) - set(old))
            shards += came
            size += came * -(-int(uses[pool.id].pg_bytes[pg]) // pool.data_shards)
    assert {pool.kind for pool in grown.after.osdmap.pools} == {"replicated", "erasure"}
    assert (grown.movement.shards_moved, grown.movement.bytes_moved) == (shards, size)
    assert grown.movement.shards_moved >= grown.movement.shards_ideal > 0


def test_recovery_takes_about_as_long_as_foreseen(grown: Grown) -> None:
    foreseen_s = grown.recovery.recovery_ms / 1_000
    print(
        f"recovery of {grown.recovery.objects} objects, {grown.movement.bytes_moved / 1e6:.0f} MB: foreseen "
        f"{foreseen_s:.1f} s ({grown.recovery.low_ms / 1e3:.1f} to {grown.recovery.high_ms / 1e3:.1f}), "
        f"took {grown.took_s:.1f} s"
    )
    assert foreseen_s / 2 < grown.took_s < foreseen_s * BUSY_FACTOR


def test_max_avail_after_the_growth_is_about_what_was_foreseen(grown: Grown) -> None:
    then = settled(grown.before, grown.movement.placed_before, grown.forecast, grown.movement.placed_after)
    told = {use.pool: use.max_avail_bytes for use in grown.after.uses}
    for pool in grown.forecast.osdmap.pools:
        foreseen, real = max_avail_bytes(then, pool), told[pool.id]
        assert real is not None
        print(f"MAX AVAIL of {pool.name}: foreseen {foreseen / 1e9:.3f} GB, told {real / 1e9:.3f} GB")
        assert np.isclose(foreseen, real, rtol=0.05)
