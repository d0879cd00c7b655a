"""What a change moves: shards by sets and by position, the optimum, and what is at risk meanwhile."""

import csv
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from tests.unit.small_cluster import cluster, placed
from twin.capacity.movement import Movement, move
from twin.capacity.moves import NOWHERE
from twin.crush.map import NONE

DATA = Path(os.environ.get("MOXIE_DATA", Path(__file__).parents[3] / "shared" / "data"))
PUBLISHED = DATA / "expected" / "crush_movement_on_out.csv"
ROWS = list(csv.DictReader(PUBLISHED.read_text("utf-8").splitlines())) if PUBLISHED.exists() else []


def test_a_copy_that_only_changes_its_rank_does_not_move() -> None:
    both = cluster(4, 1)
    still = move(both, both, placed((0, 1, 2)), placed((2, 0, 1)))
    assert (still.shards_moved, still.bytes_moved, still.pgs_changed) == (0, 0, 0)


def test_a_shard_that_changes_its_position_does_move() -> None:
    both = cluster(4, 1, data_shards=2)
    moved = move(both, both, placed((0, 1, 2)), placed((0, 2, 1)))
    assert moved.shards_moved == 2
    assert moved.moves.source.tolist() == [1, 2]
    assert moved.moves.target.tolist() == [2, 1]


def test_a_shard_has_its_part_of_the_bytes_rounded_up() -> None:
    both = cluster(8, 1, size=7, data_shards=7)
    moved = move(both, both, placed((0, 1, 2, 3, 4, 5, 6)), placed((7, 1, 2, 3, 4, 5, 6)))
    assert moved.bytes_moved == 429


def test_growth_moves_at_least_what_arrives_on_the_new_osd() -> None:
    before, after = cluster(3, 3), cluster(4, 3)
    moved = move(before, after, placed((0, 1, 2), (1, 2, 0), (2, 0, 1)), placed((0, 3, 2), (1, 2, 3), (2, 0, 1)))
    assert (moved.shards_moved, moved.shards_ideal) == (2, 2)
    assert (moved.bytes_moved, moved.bytes_ideal) == (6_000, 6_000)
    assert moved.moves.source.tolist() == [1, 0]
    assert (moved.shards_degraded, moved.shards_misplaced) == (0, 2)
    assert (moved.pgs_at_min_size, moved.pgs_under_min_size) == (0, 0)


def test_a_shard_that_moves_between_old_osds_is_not_in_the_optimum() -> None:
    before, after = cluster(4, 2), cluster(5, 2)
    moved = move(before, after, placed((0, 1, 2), (1, 2, 3)), placed((0, 4, 2), (1, 2, 0)))
    assert (moved.shards_moved, moved.shards_ideal) == (2, 1)


def test_other_weights_must_move_what_osds_gain_on_balance() -> None:
    both = cluster(4, 3)
    moved = move(
        both,
        both,
        placed((0, 1, 2), (0, 1, 3), (2, 0, 3)),
        placed((0, 1, 3), (0, 1, 2), (2, 1, 3)),
    )
    assert (moved.shards_moved, moved.shards_ideal) == (3, 1)


def test_a_loss_is_degraded_and_leaves_groups_at_min_size() -> None:
    before, after = cluster(4, 2), cluster(4, 2, down=(0,))
    moved = move(before, after, placed((0, 1, 2), (1, 2, 3)), placed((1, 2, 3), (1, 2, 3)))
    assert (moved.shards_moved, moved.shards_ideal, moved.shards_degraded) == (1, 1, 1)
    assert (moved.pgs_at_min_size, moved.pgs_under_min_size, moved.pgs_lost) == (1, 0, 0)
    assert moved.osds_lost == (0,)
    assert moved.groups.driver.tolist() == [1]


def test_two_losses_stop_a_group_and_three_lose_it() -> None:
    before = cluster(6, 2)
    first, then = placed((0, 1, 2), (3, 4, 5)), placed((3, 4, 5), (3, 4, 5))
    two = move(before, cluster(6, 2, down=(0, 1)), first, then)
    assert (two.pgs_at_min_size, two.pgs_under_min_size, two.pgs_lost) == (0, 1, 0)
    three = move(before, cluster(6, 2, down=(0, 1, 2)), first, then)
    assert (three.pgs_under_min_size, three.pgs_lost) == (1, 1)
    assert three.groups.driver.tolist() == [-1], "nobody has anything to recover from"


def test_a_lost_copy_that_finds_no_place_is_neither_moved_nor_due() -> None:
    before, after = cluster(3, 1), cluster(3, 1, down=(2,))
    moved = move(before, after, placed((0, 1, 2)), placed((0, 1, NONE)))
    assert (moved.shards_moved, moved.shards_ideal) == (0, 0)
    assert moved.groups.whole_after.tolist() == [2]


def test_an_emptied_disk_is_filled_again_and_has_no_source() -> None:
    both = cluster(4, 2)
    same = placed((0, 1, 2), (1, 2, 3))
    moved = move(both, both, same, same, emptied=(2,))
    assert (moved.shards_moved, moved.shards_ideal, moved.shards_degraded) == (2, 2, 2)
    assert moved.moves.source.tolist() == [NOWHERE, NOWHERE]


def test_a_short_log_is_followed_so_that_the_old_copy_no_longer_counts() -> None:
    grown = move(cluster(3, 1, log=30), cluster(4, 1, log=30), placed((0, 1, 2)), placed((3, 1, 2)))
    assert grown.groups.by_log.tolist() == [True]
    assert (grown.shards_degraded, grown.pgs_at_min_size) == (1, 0)
    assert grown.groups.driver.tolist() == [3], "the new primary fetches the little it lacks itself"


def test_a_longer_log_leaves_the_newcomer_beside_the_acting_set() -> None:
    grown = move(cluster(3, 1, log=300), cluster(4, 1, log=300), placed((0, 1, 2)), placed((3, 1, 2)))
    assert grown.groups.serving.tolist() == [2]
    assert grown.pgs_at_min_size == 1
    assert grown.groups.driver.tolist() == [0]


def test_the_table_has_a_row_for_each_shard() -> None:
    moved = move(cluster(3, 1), cluster(4, 1), placed((0, 1, 2)), placed((3, 1, 2)))
    assert moved.table().rows == [
        {"pool": 1, "pg": 0, "from": 0, "to": 3, "bytes": 3_000, "objects": 10, "degraded": False}
    ]


@pytest.mark.skipif(not ROWS, reason="the shared data is not shipped; set MOXIE_DATA to its folder")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['map']}-{row['rule']}")
def test_movement_when_osds_go_out_is_what_crushtool_s_mappings_say(row: dict[str, str]) -> None:
    moved = _published(row)
    size = int(row["num_rep"])
    expected = row["positions_changed"] if size > 3 else row["replicas_moved"]
    assert moved.shards_ideal == int(row["replicas_on_out"])
    assert moved.shards_moved == int(expected)


def _published(row: dict[str, str]) -> Movement:
    size = int(row["num_rep"])
    first, second = (_mapping(row, state) for state in ("in", "out"))
    osds = int(max(first[first != NONE].max(), second[second != NONE].max())) + 1
    gone = tuple(int(word) for word in row["out_osds"].split())
    shards = 4 if size > 3 else 1
    before = cluster(osds, len(first), size=size, data_shards=shards)
    after = cluster(osds, len(first), size=size, data_shards=shards, down=gone)
    return move(before, after, *(placed(*map(tuple, rows.tolist())) for rows in (first, second)))


def _mapping(row: dict[str, str], state: str) -> "np.ndarray[tuple[int, int], np.dtype[np.int32]]":
    name = f"{row['map'].removesuffix('.txt')}.rule{row['rule']}.rep{row['num_rep']}.{state}.csv.xz"
    with lzma.open(DATA / "crush" / name, "rt") as text:
        lines = [line for line in csv.reader(text) if line and line[0].isdigit()]
    return np.array([[int(word) for word in line[1].split()] for line in lines], np.int32)
