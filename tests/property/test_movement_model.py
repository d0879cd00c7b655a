"""Movement against a dumb model: Python sets for replicas, positions for shards, whatever CRUSH may have given."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.small_cluster import cluster, placed
from twin.capacity.movement import move
from twin.capacity.recovery import recover
from twin.capacity.recovery_settings import RecoverySettings
from twin.crush.map import NONE

OSDS = 7
SETTINGS = RecoverySettings(mon_osd_down_out_interval=0)


def replicas(row: list[int]) -> tuple[int, ...]:
    """OSDs first, holes at the end, as a replicated pool has them."""
    there = [osd for osd in row if osd != NONE]
    return (*there, *[NONE] * (len(row) - len(there)))


@st.composite
def changes(draw: st.DrawFn) -> tuple[bool, tuple[int, ...], list[tuple[int, ...]], list[tuple[int, ...]], int | None]:
    """A pool's kind, OSDs that die, and two placements that fit them; whether logs are short."""
    erasure, groups = draw(st.booleans()), draw(st.integers(1, 6))
    down = tuple(sorted(draw(st.sets(st.integers(0, OSDS - 1), max_size=3))))
    row = st.permutations([*range(OSDS), NONE, NONE]).map(lambda items: items[:3])
    first = [draw(row) for _ in range(groups)]
    then = [[NONE if osd in down else osd for osd in draw(row)] for _ in range(groups)]
    shaped = tuple if erasure else replicas
    return (
        erasure,
        down,
        [shaped(one) for one in first],
        [shaped(one) for one in then],
        draw(st.sampled_from([None, 30, 300])),
    )


@given(changes())
def test_shards_move_as_sets_or_by_position_and_never_less_than_they_must(change: object) -> None:
    erasure, down, first, then, log = change  # type: ignore[misc]
    shards = 2 if erasure else 1
    before = cluster(OSDS, len(first), data_shards=shards, log=log)
    after = cluster(OSDS, len(first), data_shards=shards, down=down, log=log)
    moved = move(before, after, placed(*first), placed(*then))
    expected = [_came(old, new, erasure) for old, new in zip(first, then, strict=True)]
    found: list[set[int]] = [set() for _ in first]
    for pg, target in zip(moved.moves.pg.tolist(), moved.moves.target.tolist(), strict=True):
        found[pg].add(target)
    assert found == expected
    assert moved.shards_moved == sum(map(len, expected)) == moved.shards_degraded + moved.shards_misplaced
    assert moved.shards_ideal <= moved.shards_moved
    assert moved.bytes_ideal <= moved.bytes_moved == moved.shards_moved * 3_000 // shards
    left = [sum(1 for osd in row if osd != NONE and osd not in down) for row in first]
    assert moved.pgs_lost == sum(1 for one, row in zip(left, first, strict=True) if one < shards <= _full(row))


def _full(row: tuple[int, ...]) -> int:
    return sum(1 for osd in row if osd != NONE)


def _came(old: tuple[int, ...], new: tuple[int, ...], erasure: bool) -> set[int]:
    if erasure:
        return {osd for was, osd in zip(old, new, strict=True) if osd not in (was, NONE)}
    return set(new) - set(old) - {NONE}


@given(changes())
def test_every_recovery_ends_and_leaves_nothing_that_could_move(change: object) -> None:
    erasure, down, first, then, log = change  # type: ignore[misc]
    shards = 2 if erasure else 1
    before = cluster(OSDS, len(first), data_shards=shards, log=log)
    after = cluster(OSDS, len(first), data_shards=shards, down=down, log=log)
    moved = move(before, after, placed(*first), placed(*then))
    took = recover(before, after, moved, SETTINGS)
    timeline = took.timeline
    assert timeline["bytes_left"][-1] == 0
    assert timeline["pgs_recovering"][-1] == 0
    assert (timeline["bytes_left"][:-1] >= timeline["bytes_left"][1:]).all()
    assert timeline["pgs_degraded"][-1] <= took.stuck_pgs
    assert took.low_ms <= took.recovery_ms <= took.high_ms
