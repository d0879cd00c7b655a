"""Years of failures of a site: exact against closed forms and a dumb model, the same whatever else is in the site."""

import math
from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from twin.failures.components import COMPONENTS, Component, disk
from twin.failures.distributions import YEAR_H, Distribution, Exponential, Lognormal, Weibull, mean_h
from twin.failures.published import Behaviour
from twin.failures.renewal import HOUR_MS, NONE, Outages, expected_per_year, renew, union
from twin.years.layout import groups_for, scatter
from twin.years.site import Site, regular
from twin.years.site_years import SiteYears, site_years
from twin.years.storage import Pool, storage_years
from twin.years.timeline import KINDS, Timeline, simulate

YEAR_MS = round(YEAR_H * HOUR_MS)


def component(up: Distribution, down: Distribution, ages_years: float = 0.0) -> Component:
    return Component(kind="node", behaviour=Behaviour(up=up, down=down, source="a test"), ages_years=ages_years)


@cache
def year(nodes: int = 300, seed: int = 1) -> SiteYears:
    return site_years(nodes=nodes, disks=4, seed=seed)


# --- renewal processes


@pytest.mark.parametrize(
    "up", [Exponential(500.0), Weibull(0.48, 300.0), Weibull(2.0, 500.0), Lognormal(5.0, 1.0)], ids=str
)
def test_availability_is_the_closed_form_at_every_moment(up: Distribution) -> None:
    """Of a site that has long been running: mean up / (mean up + mean down), from the first hour on."""
    of = component(up, Exponential(100.0))
    outages = renew(of, 20_000, 2_000 * HOUR_MS, 3)
    expected = 1 - of.behaviour.availability
    for hour in (0, 1, 50, 1_999):
        down = ((outages.start_ms <= hour * HOUR_MS) & (outages.end_ms > hour * HOUR_MS)).sum() / 20_000
        assert down == pytest.approx(expected, abs=4 * math.sqrt(expected / 20_000))
    per_hour = len(outages.component) / 20_000 / 2_000
    already_down = (outages.start_ms == 0).sum() / 20_000 / 2_000
    assert per_hour - already_down == pytest.approx(1 / (mean_h(up) + 100.0), rel=0.02)


def test_disks_of_all_ages_fail_as_often_as_their_hazards_say() -> None:
    of = disk()
    outages = renew(of, 200_000, YEAR_MS, 3)
    expected = expected_per_year(of, 1.0)
    assert len(outages.component) / 200_000 == pytest.approx(expected, rel=0.05)
    assert expected == pytest.approx(0.0119, abs=0.0005), "a little above the published 0.0109 of the first five years"


def test_outages_of_one_component_never_overlap_and_all_begin_in_time() -> None:
    outages = renew(component(Weibull(0.5, 20.0), Lognormal(0.0, 2.0)), 300, YEAR_MS, 1)
    same = outages.component[1:] == outages.component[:-1]
    assert (outages.start_ms[1:] > outages.end_ms[:-1])[same].all()
    assert (outages.start_ms >= 0).all()
    assert (outages.start_ms < YEAR_MS).all()
    assert (outages.end_ms > outages.start_ms).all()


def test_too_many_outages_are_bad_input() -> None:
    with pytest.raises(InputError, match="allowed: up to 50,000,000"):
        renew(component(Exponential(1e-3), Exponential(1e-3)), 10_000, YEAR_MS, 1)


Rows = list[tuple[int, int, int]]
SPANS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(1, 9)), max_size=20)


@given(SPANS, SPANS)
def test_a_union_covers_the_same_moments_without_overlap(first: Rows, second: Rows) -> None:
    def outages(spans: Rows) -> Outages:
        rows = sorted((who, start, start + length) for who, start, length in spans)
        columns = np.asarray(rows, dtype=np.int64).reshape(-1, 3).T
        return Outages(columns[0], columns[1], columns[2])

    def moments(of: Outages) -> set[tuple[int, int]]:
        rows = zip(of.component.tolist(), of.start_ms.tolist(), of.end_ms.tolist(), strict=True)
        return {(who, at) for who, start, end in rows for at in range(start, end)}

    joined = union([outages(first), outages(second)])
    assert moments(joined) == moments(outages(first)) | moments(outages(second))
    same = joined.component[1:] == joined.component[:-1]
    assert (joined.start_ms[1:] > joined.end_ms[:-1])[same].all()


# --- the site


def test_a_node_more_changes_nothing_that_happens_to_the_others() -> None:
    few, more = (simulate(regular(nodes, 4), 10 * YEAR_MS, 5) for nodes in (401, 402))
    for kind, members in (("node", 401), ("burst", 401), ("disk", 1_604), ("rack", 11), ("pdu", 1)):
        ours, theirs = few.by_kind[kind], more.by_kind[kind]
        kept = theirs.component < members
        assert len(ours.component), kind
        for name in ("component", "start_ms", "end_ms"):
            assert getattr(ours, name).tolist() == getattr(theirs, name)[kept].tolist(), (kind, name)


def test_the_same_seed_gives_the_same_years_and_another_gives_others() -> None:
    first, again, other = (simulate(regular(50, 4), YEAR_MS, seed).events() for seed in (5, 5, 6))
    assert first.rows == again.rows
    assert first.rows != other.rows


def test_events_are_in_exact_order() -> None:
    rows = year().events.rows
    assert len(rows) > 500
    order = [(row["start_ms"], KINDS.index(str(row["kind"])), row["component"]) for row in rows]
    assert order == sorted(order)


def test_nodes_fail_as_often_as_published_with_and_without_bursts() -> None:
    published = YEAR_H / mean_h(COMPONENTS["node"].behaviour.up)
    for correlated in (True, False):
        timeline = simulate(regular(4_000, 1, correlated=correlated), 4 * YEAR_MS, 2)
        assert len(timeline.node_down.component) / 4_000 / 4 == pytest.approx(published, rel=0.06)


def test_a_node_is_down_with_its_rack_and_its_power_unit() -> None:
    timeline = simulate(regular(400, 1, racks_per_pdu=2), 20 * YEAR_MS, 2)
    rack, pdu = timeline.by_kind["rack"], timeline.by_kind["pdu"]
    assert len(rack.component)
    assert len(pdu.component)
    for outages, nodes in ((rack, 40), (pdu, 80)):
        at = (int(outages.start_ms[0]) + int(outages.end_ms[0])) // 2
        down = timeline.node_down
        there = down.component[(down.start_ms <= at) & (down.end_ms > at)]
        first = int(outages.component[0]) * nodes
        assert np.isin(np.arange(first, first + nodes), there).all()


# --- placement groups


def by_hand(site: Site, of: dict[str, Outages], duration_ms: int) -> Timeline:
    parts = {kind: of.get(kind, NONE) for kind in KINDS}
    held = of.get("held", NONE)
    return Timeline(
        duration_ms=duration_ms,
        by_kind=parts,
        node_alone=parts["node"],
        node_held=held,
        node_down=union([parts["node"], held]),
    )


def spans(*rows: tuple[int, int, int]) -> Outages:
    columns = np.asarray(sorted(rows), dtype=np.int64).reshape(-1, 3).T
    return Outages(columns[0], columns[1], columns[2])


SMALL = regular(6, 1, nodes_per_rack=1, correlated=False)
POOL = Pool(
    placement=np.asarray([[0, 1, 2], [3, 4, 5]], dtype=np.int32),
    min_size=2,
    shard_bytes=100,
    backfill_bytes_per_s=1_000,
    out_after_ms=50,
)
"""A shard is made again 100 ms after its disk was taken out, which is 50 ms after it went."""


def test_a_group_is_degraded_inactive_and_lost_when_it_should_be() -> None:
    away = by_hand(SMALL, {"node": spans((0, 100, 140), (1, 120, 1_000), (3, 500, 510))}, 1_000)
    held = storage_years(SMALL, away, POOL)
    assert held.degraded_ms == (120 - 100) + (270 - 140) + 10
    assert held.inactive_ms == 20
    assert (held.inactive_groups, held.any_inactive_ms, held.rebuilt_shards) == (1, 20, 1)
    assert held.clean_ms + held.degraded_ms + held.inactive_ms + held.lost_total_ms == 2 * 1_000
    gone = by_hand(SMALL, {"disk": spans((0, 100, 5_000), (1, 150, 5_000), (2, 240, 5_000))}, 1_000)
    held = storage_years(SMALL, gone, POOL)
    assert (held.lost_groups.tolist(), held.lost_ms.tolist(), held.lost_total_ms) == ([0], [240], 760)
    assert (held.degraded_ms, held.inactive_ms) == (50, 90)
    late = by_hand(SMALL, {"disk": spans((0, 100, 5_000), (1, 150, 5_000), (2, 250, 5_000))}, 1_000)
    assert not len(storage_years(SMALL, late, POOL).lost_groups), "the first was made again at that moment"


def test_a_whole_rack_is_waited_for_and_a_node_is_not() -> None:
    for kind, degraded_ms in (("held", 800), ("node", 150)):
        held = storage_years(SMALL, by_hand(SMALL, {kind: spans((0, 100, 900))}, 1_000), POOL)
        assert (held.degraded_ms, held.rebuilt_shards) == (degraded_ms, int(kind == "node"))


def test_nothing_is_made_again_where_no_other_node_is() -> None:
    three = regular(3, 1, nodes_per_rack=1, correlated=False)
    pool = msgspec.structs.replace(POOL, placement=POOL.placement[:1])
    held = storage_years(three, by_hand(three, {"node": spans((0, 100, 900))}, 1_000), pool)
    assert (held.degraded_ms, held.rebuilt_shards) == (800, 0)
    held = storage_years(three, by_hand(three, {"disk": spans((0, 100, 400))}, 1_000), pool)
    assert held.degraded_ms == 300 + 150, "its disk is replaced first"


def test_a_hole_in_the_placement_is_a_copy_that_is_never_there() -> None:
    holed = msgspec.structs.replace(POOL, placement=np.asarray([[0, 1, -1], [3, 4, 2**31 - 1]], dtype=np.int32))
    held = storage_years(SMALL, by_hand(SMALL, {"node": spans((0, 100, 140))}, 1_000), holed)
    assert (held.degraded_ms, held.inactive_ms) == (2 * 1_000 - 40, 40)


def dumb(site: Site, timeline: Timeline, pool: Pool) -> tuple[int, int, int, list[tuple[int, int]]]:
    """Step through every moment of every group: degraded, inactive and lost milliseconds, and the losses."""
    degraded = inactive = lost = 0
    losses: list[tuple[int, int]] = []
    rebuilt_ms = pool.out_after_ms + pool.backfill_ms

    def rows(of: Outages) -> list[tuple[int, int, int]]:
        return list(zip(of.component.tolist(), of.start_ms.tolist(), of.end_ms.tolist(), strict=True))

    disks, alone, held = rows(timeline.by_kind["disk"]), rows(timeline.node_alone), rows(timeline.node_held)
    for group, shards in enumerate(pool.placement.tolist()):
        over = False
        for at in range(timeline.duration_ms):
            away = gone = 0
            for shard in shards:
                node = int(site.disk_node[shard])
                is_gone = any(who == shard and s <= at < s + rebuilt_ms for who, s, _ in disks)
                is_away = any(who == node and s <= at < min(e, s + rebuilt_ms) for who, s, e in alone)
                is_held = any(who == node and s <= at < e for who, s, e in held)
                away += is_gone or is_away or is_held
                gone += is_gone
            if gone > len(shards) - pool.needed and not over:
                over = True
                losses.append((at, group))
            lost += over
            inactive += not over and len(shards) - away < pool.min_size
            degraded += not over and 0 < away <= len(shards) - pool.min_size
    return degraded, inactive, lost, losses


NODE_SPANS = st.dictionaries(st.integers(0, 5), st.tuples(st.integers(0, 60), st.integers(1, 50)), max_size=6)


@settings(max_examples=40)
@given(node=NODE_SPANS, held=NODE_SPANS, gone=NODE_SPANS, needed=st.integers(1, 2), order=st.permutations(range(6)))
def test_the_sweep_is_as_the_dumb_model_says(
    node: dict[int, tuple[int, int]],
    held: dict[int, tuple[int, int]],
    gone: dict[int, tuple[int, int]],
    needed: int,
    order: list[int],
) -> None:
    def outages(of: dict[int, tuple[int, int]]) -> Outages:
        return spans(*((who, start, start + length) for who, (start, length) in of.items()))

    timeline = by_hand(SMALL, {"node": outages(node), "held": outages(held), "disk": outages(gone)}, 80)
    pool = msgspec.structs.replace(
        POOL,
        placement=np.asarray([[0, 1, 2], order[:3], [3, 4, 5]], dtype=np.int32),
        needed=needed,
        shard_bytes=10,
        out_after_ms=5,
    )
    found = storage_years(SMALL, timeline, pool)
    degraded, inactive, lost, losses = dumb(SMALL, timeline, pool)
    assert (found.degraded_ms, found.inactive_ms, found.lost_total_ms) == (degraded, inactive, lost)
    assert list(zip(found.lost_ms.tolist(), found.lost_groups.tolist(), strict=True)) == sorted(losses)
    assert found.clean_ms == 3 * 80 - degraded - inactive - lost


def test_chunks_and_days_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = year().storage
    assert whole is not None
    monkeypatch.setattr("twin.years.storage.CHUNK_SPANS", 10_000)
    parts = site_years(nodes=300, disks=4, seed=1).storage
    assert parts is not None
    assert (parts.degraded_ms, parts.inactive_ms, parts.any_inactive_ms) == (
        whole.degraded_ms,
        whole.inactive_ms,
        whole.any_inactive_ms,
    )
    edges = np.append(np.arange(0, whole.duration_ms, whole.bin_ms), whole.duration_ms)
    assert float((whole.degraded_daily * np.diff(edges)).sum()) == pytest.approx(whole.degraded_ms)
    assert float((whole.inactive_daily * np.diff(edges)).sum()) == pytest.approx(whole.inactive_ms)


def test_independent_exponential_nodes_give_the_closed_form_of_groups() -> None:
    """Chance of k of three nodes down is binomial; nothing is made again, since all come back within ten minutes."""
    nodes, mean_up_h, mean_down_h = 600, 20.0, 0.02
    site = regular(nodes, 1, correlated=False)
    frail = component(Exponential(mean_up_h), Exponential(mean_down_h))
    site = msgspec.structs.replace(site, node=frail, disk=None)
    pool = Pool(placement=scatter(1_500, 3, site.disk_node, site.rack_of, 1), min_size=2, out_after_ms=YEAR_MS)
    held = storage_years(site, simulate(site, YEAR_MS, 4), pool)
    q = mean_down_h / (mean_up_h + mean_down_h)
    whole = held.groups * held.duration_ms
    assert held.inactive_ms / whole == pytest.approx(3 * q**2 * (1 - q) + q**3, rel=0.05)
    assert held.degraded_ms / whole == pytest.approx(3 * q * (1 - q) ** 2, rel=0.01)


def test_independence_lies_about_groups_that_stand_still() -> None:
    both = (site_years(nodes=2_000, disks=2, years=2.0, seed=3, correlated=correlated) for correlated in (True, False))
    together, apart = (years.storage for years in both)
    assert together is not None
    assert apart is not None
    assert together.inactive_ms > 10 * max(1, apart.inactive_ms)


# --- layout


@pytest.mark.parametrize(("nodes", "disks", "size"), [(1_000, 2, 3), (60, 3, 3), (5, 4, 3), (3, 2, 3), (1, 4, 3)])
def test_copies_lie_apart_as_far_as_the_site_allows(nodes: int, disks: int, size: int) -> None:
    site = regular(nodes, disks)
    laid = scatter(2_000, size, site.disk_node, site.rack_of, 1)
    racks = site.racks
    domain = (
        site.rack_of[site.disk_node] if racks > size else site.disk_node if nodes >= size else np.arange(site.disks)
    )
    assert all(len(set(row)) == size for row in domain[laid].tolist())
    counts = np.bincount(laid.ravel(), minlength=site.disks)
    assert counts.min() > 0 or nodes == 1_000


def test_a_pool_has_about_a_hundred_shards_on_each_disk() -> None:
    assert groups_for(10_000, 3) == 262_144
    assert 66 <= groups_for(37, 3) * 3 / 37 <= 142
    with pytest.raises(InputError, match="needed: 3, one for each shard"):
        scatter(8, 3, np.asarray([0, 0]), np.asarray([0]), 1)


def test_the_site_refuses_what_it_is_not_made_for() -> None:
    with pytest.raises(InputError) as caught:
        regular(0, 1, nodes_per_rack=0)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "nodes",
        "disks of all nodes",
        "nodes in a rack",
    ]
    with pytest.raises(InputError, match="years: -1: allowed"):
        site_years(nodes=10, disks=1, years=-1)
    with pytest.raises(InputError, match="1 <= needed <= min_size <= size"):
        site_years(nodes=10, disks=1, size=2, min_size=3)


def test_nodes_of_one_rack_may_hang_on_different_power_units() -> None:
    site = msgspec.structs.replace(
        regular(6, 1), pdu_of=np.asarray([0, 1, 0, 1, 0, 1]), node=None, rack=None, bursts=None
    )
    timeline = simulate(site, 50 * YEAR_MS, 1)
    pdu, down = timeline.by_kind["pdu"], timeline.node_down
    assert len(pdu.component) > 10
    for unit in (0, 1):
        starts = sorted(pdu.start_ms[pdu.component == unit].tolist())
        for node in range(unit, 6, 2):
            assert sorted(down.start_ms[down.component == node].tolist()) == starts
