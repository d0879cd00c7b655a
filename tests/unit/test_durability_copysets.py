"""Copysets: the published schemes, and the chance that simultaneous losses take data along, against brute force."""

import csv
import math
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.durability import simultaneous
from twin.durability.compare import PLACEMENTS, placed_alike, scheme_table
from twin.durability.fatal import fatal_sets
from twin.durability.layout import Layout, make_layout, synthetic
from twin.durability.schemes import PUBLISHED, Scheme, loss_closed_form, make_copysets
from twin.durability.simultaneous import loss_of_k, loss_table

DATA = Path(os.environ.get("MOXIE_DATA", Path(__file__).parents[3] / "shared" / "data"))
RECOMPUTED = DATA / "expected" / "copysets_fig1_fig6_recomputed.csv"
AT_5000 = {"Facebook_random": 0.22808204776, "Facebook_copyset": 0.00781401835, "RAMCloud_copyset": 0.0015677111570}
"""5,000 nodes, 1 % lost at once. Source: A. Cidon et al.: Copysets, USENIX ATC 2013, figures 1 and 6, recomputed."""


def generator(seed: int = 1) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


@pytest.mark.parametrize("name", AT_5000)
def test_the_closed_form_gives_the_published_figures(name: str) -> None:
    found = loss_closed_form(5_000, 50, 3, PUBLISHED[name].count(5_000))
    assert found == pytest.approx(AT_5000[name], rel=1e-9)


@pytest.mark.skipif(not RECOMPUTED.exists(), reason="the shared data is not shipped; set MOXIE_DATA to its folder")
def test_the_closed_form_gives_the_whole_table() -> None:
    with RECOMPUTED.open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 9
    for row in rows:
        nodes, failed = int(row.pop("nodes")), int(row.pop("failed_nodes_1pct"))
        for name, value in row.items():
            found = loss_closed_form(nodes, failed, 3, PUBLISHED[name].count(nodes))
            assert found == pytest.approx(float(value), rel=1e-9), (nodes, name)


@pytest.mark.parametrize("name", AT_5000)
def test_simulated_copysets_agree_with_the_published_figures_within_three_sigma(name: str) -> None:
    copysets = make_copysets(PUBLISHED[name], 5_000, generator())
    layout = synthetic(copysets, 5_000, tolerance=2, nodes_per_rack=40, name=name)
    found = loss_of_k(layout, "node", [50], 2_000, generator(2))[50]
    assert found.value is not None
    sigma = (found.high - found.low) / (2 * 1.959964)
    assert 0 < sigma < 0.02 * found.value
    assert abs(found.value - AT_5000[name]) < 3 * sigma


def test_nodes_that_are_lost_as_they_come_agree_too() -> None:
    copysets = make_copysets(PUBLISHED["Facebook_random"], 5_000, generator())
    lost, trials, random = 0, 1_500, generator(3)
    first = np.argsort(copysets[:, 0], kind="stable")
    ordered = copysets[first]
    bounds = np.searchsorted(ordered[:, 0], np.arange(5_001))
    for _ in range(trials):
        gone = np.zeros(5_000, dtype=bool)
        gone[random.choice(5_000, 50, replace=False)] = True
        lost += any(gone[ordered[bounds[node] : bounds[node + 1]]].all(axis=1).any() for node in np.flatnonzero(gone))
    chance = AT_5000["Facebook_random"]
    assert abs(lost / trials - chance) < 3 * math.sqrt(chance * (1 - chance) / trials)


def test_copysets_of_a_window_overlap_so_loss_is_rarer_than_the_formula_says() -> None:
    scheme = Scheme(name="window", style="window", scatter_width=11)
    copysets = make_copysets(scheme, 1_000, generator())
    assert len(copysets) == scheme.count(1_000) == 55_000
    layout = synthetic(copysets, 1_000, tolerance=2, nodes_per_rack=40, name="window")
    found = loss_of_k(layout, "node", [10], 4_000)[10]
    assert found.value is not None
    assert found.value < loss_closed_form(1_000, 10, 3, 55_000)


@pytest.mark.parametrize("name", PUBLISHED)
def test_copysets_hold_different_nodes_and_none_comes_twice(name: str) -> None:
    copysets = make_copysets(PUBLISHED[name], 60, generator())
    assert (np.diff(copysets, axis=1) > 0).all()
    assert len(np.unique(copysets, axis=0)) == len(copysets)
    assert len(copysets) == pytest.approx(PUBLISHED[name].count(60), rel=0.15)


def test_the_scatter_width_of_copysets_is_what_was_asked_for() -> None:
    copysets = make_copysets(Scheme(name="", style="copyset", scatter_width=10), 3_000, generator())
    layout = synthetic(copysets, 3_000, tolerance=2, nodes_per_rack=40, name="x")
    assert layout.scatter_width().max() == 10
    assert layout.scatter_width().mean() == pytest.approx(10, abs=0.1)


def test_the_table_of_schemes_has_a_row_for_each() -> None:
    table = scheme_table(nodes=200, failed_ratio=0.05, trials=500)
    assert len(table["scheme"]) == len(PUBLISHED)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    nodes, per_node, size = draw(st.integers(3, 6)), draw(st.integers(1, 2)), draw(st.integers(2, 4))
    disks = nodes * per_node
    rows = draw(st.lists(st.lists(st.integers(-1, disks - 1), min_size=size, max_size=size), min_size=1, max_size=8))
    shards = [[disk if disk not in row[:place] else -1 for place, disk in enumerate(row)] for row in rows]
    racks = [draw(st.integers(-1, 2)) for _ in range(nodes)]
    return Layout(
        name="drawn",
        shards=np.array(shards, dtype=np.int32),
        tolerance=draw(st.integers(0, size - 1)),
        min_size=1,
        node_of=(np.arange(disks) // per_node).astype(np.int32),
        pdu_of=np.full(nodes, -1, dtype=np.int32),
        rack_of=np.array(racks, dtype=np.int32),
    )


def loses(layout: Layout, of: np.ndarray, gone: tuple[int, ...]) -> bool:
    """The dumb model: count, for each group, what is gone."""
    for row in layout.shards.tolist():
        spare = layout.tolerance - row.count(-1)
        lost = sum(1 for disk in row if disk >= 0 and int(of[disk]) in gone)
        if spare >= 0 and lost > spare:
            return True
    return False


@settings(max_examples=100)
@given(layout=layouts(), unit=st.sampled_from(["disk", "node", "rack"]))
def test_small_layouts_are_counted_exactly(layout: Layout, unit: simultaneous.Unit) -> None:
    of = layout.unit_of(unit)
    units = sorted(set(of[of >= 0].tolist()))
    found = loss_of_k(layout, unit, list(range(1, len(units) + 1)))
    for k, estimate in found.items():
        subsets = list(combinations(units, k))
        share = sum(loses(layout, of, gone) for gone in subsets) / len(subsets)
        assert estimate.samples == 0
        assert estimate.value == pytest.approx(share), (unit, k)


def test_middling_layouts_agree_with_the_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = placed_alike("any nodes", 1, 16, 1, 60, generator())
    exact = loss_of_k(layout, "node", [3, 4, 5, 7])
    monkeypatch.setattr(simultaneous, "ENUMERATED_MAX", 2)
    for k, found in loss_of_k(layout, "node", [3, 4, 5, 7], 6_000).items():
        want = exact[k].value
        assert want is not None
        assert found.value is not None
        assert found.low <= want * 1.01
        assert found.high >= want * 0.99
        assert (found.samples == 0) == (k <= 4)


def test_erasure_coded_groups_too_many_to_list_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.argsort(generator().random((40, 14)), axis=1)[:, :6]
    layout = synthetic(rows, 14, tolerance=2, nodes_per_rack=14, name="4+2")
    want = loss_of_k(layout, "node", [4])[4].value
    monkeypatch.setattr("twin.durability.fatal.SETS_MAX", 1)
    assert fatal_sets(layout, "node") is None
    found = loss_of_k(layout, "node", [4], 4_000)[4]
    assert want is not None
    assert found.low <= want <= found.high


def test_a_rule_over_racks_survives_any_two_racks() -> None:
    spread = placed_alike("different racks", 5, 4, 2, 300, generator())
    table = {(row["unit"], row["lost"]): row["probability"] for row in loss_table(spread, 500).rows}
    assert table["rack", 2] == 0.0
    assert table["rack", 3] > 0.5
    anywhere = placed_alike("any nodes", 5, 4, 2, 300, generator())
    assert {row["lost"]: row["probability"] for row in loss_table(anywhere, 500).rows if row["unit"] == "rack"}[
        2
    ] == 1.0


@pytest.mark.parametrize("how", PLACEMENTS)
def test_made_up_placements_use_three_nodes_for_each_group(how: str) -> None:
    layout = placed_alike(how, 4, 5, 3, 200, generator())
    nodes = np.sort(layout.node_of[layout.shards], axis=1)
    assert (np.diff(nodes, axis=1) > 0).all()


def test_osd_ids_with_gaps_are_placed_on_their_nodes() -> None:
    up = np.array([[7, 2, 0x7FFFFFFF], [2, 9, 7]], dtype=np.int32)
    homes = {2: "a", 7: "b", 9: "c"}
    layout = make_layout(up, ["a", "b", "c"], ["r", "r", None], [None] * 3, homes, tolerance=2, min_size=2)
    assert layout.shards.tolist() == [[1, 0, -1], [0, 2, 1]]
    assert layout.names["disk"] == ("osd.2", "osd.7", "osd.9")
    assert layout.unit_of("rack").tolist() == [0, 0, -1]
    assert layout.units("pdu") == 0
