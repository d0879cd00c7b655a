"""How long recovery takes: Ceph's reservations and sleeps, disks and networks, and what clients have left."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.unit.small_cluster import cluster, placed
from twin.capacity.cluster import Cluster, Host
from twin.capacity.movement import move
from twin.capacity.recovery import Recovery, recover
from twin.capacity.recovery_settings import Kind, RecoverySettings
from twin.crush.map import NONE
from twin.crush.pools import Placed

QUICK = RecoverySettings(
    osd_recovery_sleep_hdd=0.0, object_ms_hdd=0.0, peering_ms=0, pg_recovery_ms=0, mon_osd_down_out_interval=0
)


def heavy(small: Cluster, pg_bytes: int, kind: Kind = "hdd", mbit_per_s: int | None = None) -> Cluster:
    """The same cluster with so much in each PG, on such disks and networks."""
    use = small.uses[0]
    return msgspec.structs.replace(
        small,
        uses=(msgspec.structs.replace(use, pg_bytes=use.pg_bytes * 0 + pg_bytes),),
        osds=tuple(msgspec.structs.replace(osd, kind=kind) for osd in small.osds),
        hosts=tuple(Host(name=host.name, storage_mbit_per_s=mbit_per_s) for host in small.hosts),
    )


def grown(
    rows: list[tuple[int, ...]],
    then: list[tuple[int, ...]],
    settings: RecoverySettings,
    osds: int = 8,
    log: int | None = None,
) -> Recovery:
    small = cluster(osds, len(rows), log=log)
    return recover(small, small, move(small, small, placed(*rows), placed(*then)), settings)


def test_one_group_takes_a_sleep_and_its_cost_for_each_object() -> None:
    settings = msgspec.structs.replace(QUICK, osd_recovery_sleep_hdd=0.1, object_ms_hdd=10.0, pg_recovery_ms=50)
    took = grown([(0, 1, 2)], [(0, 1, 3)], settings)
    assert took.recovery_ms == pytest.approx(10 * 110 + 4 * 100 + 50, abs=2)


def test_groups_for_one_target_wait_for_its_reservation() -> None:
    settings = msgspec.structs.replace(QUICK, osd_recovery_sleep_hdd=0.1)
    alone = grown([(0, 1, 2)], [(0, 1, 6)], settings)
    rows, then = [(0, 1, 2), (3, 4, 5)], [(0, 1, 6), (3, 4, 6)]
    both = grown(rows, then, settings)
    assert both.recovery_ms == pytest.approx(2 * alone.recovery_ms, rel=0.02)
    more = grown(rows, then, msgspec.structs.replace(settings, osd_max_backfills=2))
    assert more.recovery_ms == pytest.approx(alone.recovery_ms, rel=0.02)


def test_groups_with_nothing_in_common_recover_side_by_side() -> None:
    settings = msgspec.structs.replace(QUICK, osd_recovery_sleep_hdd=0.1)
    alone = grown([(0, 1, 2)], [(0, 1, 6)], settings)
    apart = grown([(0, 1, 2), (3, 4, 5)], [(0, 1, 6), (3, 4, 7)], settings)
    assert apart.recovery_ms == pytest.approx(alone.recovery_ms, rel=0.02)


def test_a_driver_sleeps_for_all_its_groups_together() -> None:
    settings = msgspec.structs.replace(QUICK, osd_recovery_sleep_hdd=0.1, osd_max_backfills=2)
    both = grown([(0, 1, 2), (0, 4, 5)], [(0, 1, 6), (0, 4, 7)], settings)
    assert both.recovery_ms == pytest.approx(2 * 10 * 100 + 400, abs=2)


def test_recovery_by_the_log_reserves_every_member() -> None:
    settings = msgspec.structs.replace(QUICK, osd_recovery_sleep_hdd=0.1)
    rows, then = [(0, 1, 2), (3, 1, 4)], [(0, 1, 6), (3, 1, 7)]
    backfill = grown(rows, then, settings)
    assert backfill.recovery_ms == pytest.approx((10 + 4) * 100, rel=0.02), "only targets are reserved: side by side"
    by_log = grown(rows, then, settings, log=10)
    assert by_log.recovery_ms == pytest.approx(2 * (10 + 2) * 100, rel=0.02)


def test_a_slow_network_decides() -> None:
    """3 GB to one host over 1 Gbit/s take 24 s, whatever the disks can do."""
    small = heavy(cluster(4, 1), 3_000_000_000, "nvme", 1_000)
    moved = move(small, small, placed((0, 1, 2)), placed((0, 1, 3)))
    wide = msgspec.structs.replace(QUICK, object_ms_nvme=0.0)
    took = recover(small, small, moved, wide)
    assert took.recovery_ms == pytest.approx(24_000 + 2 * 1_500, rel=0.01), "read, sent and written one after the other"
    assert took.client_share_worst < 0.2


def test_hosts_that_share_a_network_port_share_its_bandwidth() -> None:
    small = heavy(cluster(8, 2), 3_000_000_000, "nvme", 1_000)
    settings = msgspec.structs.replace(QUICK, object_ms_nvme=0.0, osd_max_backfills=2)
    one_target = move(small, small, placed((0, 1, 2), (3, 4, 5)), placed((0, 1, 6), (3, 4, 6)))
    two_targets = move(small, small, placed((0, 1, 2), (3, 4, 5)), placed((0, 1, 6), (3, 4, 7)))
    assert recover(small, small, one_target, settings).recovery_ms == pytest.approx(48_000, rel=0.01)
    assert recover(small, small, two_targets, settings).recovery_ms == pytest.approx(27_000, rel=0.01)


def test_clients_that_take_half_the_disks_slow_it_down() -> None:
    small = heavy(cluster(12, 4), 3_000_000_000)
    rows = placed((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 1))
    moved = move(small, small, rows, placed((0, 1, 11), (3, 4, 11), (6, 7, 11), (9, 10, 11)))
    settings = msgspec.structs.replace(QUICK, osd_max_backfills=4)
    all_of_it = recover(small, small, moved, settings)
    half = recover(small, small, moved, msgspec.structs.replace(settings, recovery_share=0.5))
    assert all_of_it.recovery_ms == pytest.approx(80_000, rel=0.01), "12 GB onto one disk of 150 MB/s"
    assert half.recovery_ms == pytest.approx(2 * all_of_it.recovery_ms, rel=0.01)
    assert half.client_share_worst == pytest.approx(0.5, abs=0.01)


def test_a_loss_waits_before_anything_moves_and_a_degraded_group_goes_first() -> None:
    before, after = cluster(8, 2), cluster(8, 2, down=(2,))
    moved = move(before, after, placed((0, 1, 3), (0, 4, 2)), placed((0, 1, 6), (0, 4, 6)))
    settings = msgspec.structs.replace(QUICK, osd_recovery_sleep_hdd=0.1, mon_osd_down_out_interval=600)
    took = recover(before, after, moved, settings)
    assert took.wait_ms == 600_000
    timeline = took.timeline
    assert timeline["pgs_degraded"][0] == 1
    assert timeline["pgs_at_min_size"][0] == 1
    half = timeline["t_ms"].astype(int) > 600_000 + took.recovery_ms // 2 + 100
    assert timeline["pgs_degraded"][half].tolist() == [0] * int(half.sum()), "the misplaced one is still on its way"
    assert timeline["bytes_left"][half].astype(int)[0] > 0
    assert timeline["bytes_left"][-1] == 0


def test_what_can_never_be_whole_again_is_told() -> None:
    before, after = cluster(3, 1), cluster(3, 1, down=(2,))
    took = recover(before, after, move(before, after, placed((0, 1, 2)), placed((0, 1, NONE))), QUICK)
    assert (took.stuck_pgs, took.recovery_ms) == (1, 0)
    assert took.timeline["pgs_degraded"].tolist() == [1] * len(took.timeline["t_ms"])


def test_nothing_that_moves_takes_no_time() -> None:
    took = grown([(0, 1, 2)], [(0, 1, 2)], RecoverySettings())
    assert (took.recovery_ms, took.wait_ms, took.objects) == (0, 0, 0)
    assert took.client_share_worst == 1.0


def test_empty_groups_take_only_their_peering() -> None:
    small = cluster(4, 1)
    empty = msgspec.structs.replace(
        small,
        uses=(
            msgspec.structs.replace(
                small.uses[0], pg_bytes=small.uses[0].pg_bytes * 0, pg_objects=small.uses[0].pg_objects * 0
            ),
        ),
    )
    moved = move(empty, empty, placed((0, 1, 2)), placed((0, 1, 3)))
    settings = msgspec.structs.replace(QUICK, pg_recovery_ms=50, peering_ms=700)
    assert recover(empty, empty, moved, settings).recovery_ms == 700


def test_the_same_movement_is_foreseen_the_same_every_time() -> None:
    rows = [(0, 1, 2), (3, 4, 5), (1, 2, 3), (4, 5, 0)]
    then = [(0, 1, 6), (3, 4, 6), (1, 2, 7), (4, 5, 7)]
    one, two = grown(rows, then, RecoverySettings()), grown(rows, then, RecoverySettings())
    assert one.recovery_ms == two.recovery_ms
    assert one.timeline.to_text() == two.timeline.to_text()
    assert one.low_ms <= one.recovery_ms <= one.high_ms


MEASURED = json.loads((Path(__file__).parents[1] / "data" / "growth" / "measured.json").read_text("utf-8"))


@pytest.mark.parametrize("name", MEASURED["runs"])
def test_a_real_cluster_took_about_as_long(name: str) -> None:
    """Six recoveries of a real cluster, by the log and by backfill; what their PGs' order changes is in the range."""
    run = MEASURED["runs"][name]
    ups, thens, objects, sizes, starts, versions = zip(*run["pgs"], strict=True)
    lost = (2,) if name.startswith("lose") else ()
    before, after = cluster(6, len(ups)), cluster(6, len(ups), down=lost)
    use = msgspec.structs.replace(
        before.uses[0],
        pg_bytes=np.array(sizes),
        pg_objects=np.array(objects),
        pg_log_start=np.array(starts),
        pg_version=np.array(versions),
    )
    before = msgspec.structs.replace(before, uses=(use,))
    took = recover(before, after, move(before, after, placed(*ups), placed(*thens)))
    assert took.recovery_ms == pytest.approx(1_000 * run["took_s"], rel=0.15)
    assert 0.9 * took.low_ms < 1_000 * run["took_s"] < 1.1 * took.high_ms


def test_what_is_left_goes_faster_once_others_have_finished() -> None:
    """3 GB and 9 GB through one port of 1 Gbit/s: both at half of it for 48 s, then 6 GB at 9 ns a byte."""
    small = heavy(cluster(8, 2), 0, "nvme", 1_000)
    use = msgspec.structs.replace(small.uses[0], pg_bytes=np.array([3_000_000_000, 9_000_000_000]))
    small = msgspec.structs.replace(small, uses=(use,))
    moved = move(small, small, placed((0, 1, 2), (3, 4, 5)), placed((0, 1, 6), (3, 4, 6)))
    took = recover(small, small, moved, msgspec.structs.replace(QUICK, object_ms_nvme=0.0, osd_max_backfills=2))
    assert took.recovery_ms == pytest.approx(48_000 + 54_000, rel=0.01)


def first_done(logs: tuple[int, ...], then: dict[int, Placed], down: tuple[int, ...]) -> float:
    """When the degraded one of seven groups that share their driver is whole again, as part of the whole time."""
    before, after = cluster(12, 7), cluster(12, 7, down=down)
    starts = np.array(logs)
    use = msgspec.structs.replace(before.uses[0], pg_log_start=starts, pg_version=np.full(7, 30))
    before = msgspec.structs.replace(before, uses=(use,))
    slow = msgspec.structs.replace(QUICK, osd_recovery_sleep_hdd=0.1)
    moved = move(before, after, placed(*[(0, 1, 2)] * 6, (0, 1, 11)), then)
    latest = 0.0
    for seed in range(8):
        took = recover(before, after, moved, slow, seed)
        whole = took.timeline["t_ms"][took.timeline["pgs_degraded"].astype(int) == 0]
        latest = max(latest, float(whole[0]) / took.recovery_ms)
    return latest


def test_degraded_groups_do_not_wait_for_misplaced_ones() -> None:
    """One is running when the others begin to wait; the degraded one comes first, or second."""
    then = placed(*[(0, 1, 3)] * 6, (0, 1, 4))
    assert first_done((9,) * 7, then, (11,)) < 2.5 / 7


def test_recovery_by_the_log_comes_before_backfill() -> None:
    then = placed(*[(0, 1, 3)] * 6, (0, 1, 4))
    assert first_done((9, 9, 9, 9, 9, 9, 0), then, ()) < 2.5 / 7
