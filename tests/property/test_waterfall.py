"""Whatever the rack: a waterfall adds up and never goes below nothing; more safety never gives more room."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import InputError
from twin.capacity.assumptions import load_assumptions
from twin.capacity.cluster import Cluster
from twin.capacity.fill import data_bytes, groups, growth_rates, hash_shares, place_all
from twin.capacity.losses import domains, place_without, without
from twin.capacity.machines import machines
from twin.capacity.max_avail import max_avail_bytes
from twin.capacity.source import read_source
from twin.capacity.usable import Usable, usable

FEW = settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _rack(folder: Path, nodes: Sequence[Sequence[int]], racks: int) -> Path:
    """A rack file with these nodes, each with disks of these sizes in GB."""
    lines = ['name = "drawn"']
    for at, disks in enumerate(nodes):
        lines += [f"[template.t{at}]", "cores = 16", "memory_gib = 64"]
        for gb in disks:
            lines += [f"[[template.t{at}.disk]]", 'model = "d"', 'kind = "hdd"', f"size_gb = {gb}"]
    for rack in range(racks):
        lines += ["[[pdu]]", f'id = "p{rack}"', f'rack = "r{rack}"']
    lines += ["[[switch]]", 'id = "s"']
    for at in range(len(nodes)):
        rack = at % racks
        lines += ["[[node]]", f'id = "n{at}"', f'rack = "r{rack}"', f'pdu = "p{rack}"', 'switches = ["s"]']
        lines += [f'template = "t{at}"']
    path = folder / "rack.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


NODES = st.lists(st.lists(st.integers(100, 2_000), min_size=1, max_size=3), min_size=2, max_size=5)


def _usable(path: Path, *pairs: str) -> tuple[Cluster, Usable]:
    figures = load_assumptions(["pgs_per_osd=10", *pairs])
    cluster = read_source(path, figures)
    return cluster, usable(cluster, place_all(cluster.osdmap), figures)


@FEW
@given(nodes=NODES, racks=st.integers(1, 3), replicas=st.integers(1, 4), fill=st.sampled_from(["0", "0.3", "0.9"]))
def test_steps_add_up_and_never_rise(
    tmp_path: Path, nodes: list[list[int]], racks: int, replicas: int, fill: str
) -> None:
    path = _rack(tmp_path, nodes, min(racks, len(nodes)))
    cluster, found = _usable(path, f"replicas={replicas}", f"fill_ratio={fill}")
    assert found.steps[0].before == found.raw_bytes == sum(map(sum, nodes)) * 10**9
    before = float(found.raw_bytes)
    for step in found.steps:
        assert step.before == before
        assert step.before - step.taken == step.after
        assert 0 <= step.after <= step.before
        before = step.after
    assert 0 <= found.free_bytes <= found.usable_bytes <= found.raw_bytes // replicas + 1
    counted = machines(cluster, load_assumptions([]))
    assert counted.vms is not None
    assert counted.vms >= 0


@pytest.mark.slow
@FEW
@given(nodes=NODES, fill=st.sampled_from(["0", "0.2"]))
def test_more_safety_never_gives_more_room(tmp_path: Path, nodes: list[list[int]], fill: str) -> None:
    path = _rack(tmp_path, nodes, 1)
    rooms = [_usable(path, f"replicas={n}", f"fill_ratio={fill}", "survive=none")[1].usable_bytes for n in (1, 3)]
    assert rooms == sorted(rooms, reverse=True)
    kinds = [
        _usable(path, f"survive={kind}", f"fill_ratio={fill}")[1].usable_bytes for kind in ("none", "node", "rack")
    ]
    assert kinds == sorted(kinds, reverse=True)
    ratios = [_usable(path, f"limit_normal={name}", "survive=none")[1].usable_bytes for name in ("nearfull", "full")]
    assert ratios == sorted(ratios)


@FEW
@given(nodes=NODES, replicas=st.integers(1, 3), erasure=st.booleans())
def test_what_is_usable_really_fits_on_every_disk(
    tmp_path: Path, nodes: list[list[int]], replicas: int, erasure: bool
) -> None:
    pairs = ["erasure=2+1"] if erasure else [f"replicas={replicas}"]
    cluster, found = _usable(_rack(tmp_path, nodes, 1), "survive=none", *pairs)
    placed = place_all(cluster.osdmap)
    for group in groups(cluster, placed):
        laid = growth_rates(cluster, placed, group) * found.usable_bytes
        for osd, held in zip(cluster.osds, laid.tolist(), strict=True):
            assert osd.overhead_bytes + held <= osd.size_bytes * cluster.osdmap.nearfull_ratio * (1 + 1e-9)


@pytest.mark.slow
@FEW
@given(nodes=NODES, racks=st.integers(1, 3), replicas=st.integers(1, 3), erasure=st.booleans())
def test_a_loss_places_the_pgs_as_from_scratch(
    tmp_path: Path, nodes: list[list[int]], racks: int, replicas: int, erasure: bool
) -> None:
    pairs = ["erasure=2+1"] if erasure else [f"replicas={replicas}"]
    cluster = read_source(_rack(tmp_path, nodes, min(racks, len(nodes))), load_assumptions(["pgs_per_osd=20", *pairs]))
    placed = place_all(cluster.osdmap)
    for osds in [*list(domains(cluster, "node").values())[:2], *list(domains(cluster, "rack").values())[:1]]:
        lost = without(cluster.osdmap, frozenset(osds))
        quick, slow = place_without(lost, placed, frozenset(osds)), place_all(lost)
        for pool in slow:
            np.testing.assert_array_equal(quick[pool].up, slow[pool].up)
            np.testing.assert_array_equal(quick[pool].primary, slow[pool].primary)


@pytest.mark.parametrize("source", ["racks/five-hosts", "racks/six.toml"])
def test_each_loss_of_a_shipped_rack_places_the_pgs_as_from_scratch(source: str) -> None:
    cluster = read_source(Path(source), load_assumptions(["pgs_per_osd=25"]))
    placed = place_all(cluster.osdmap)
    for osds in domains(cluster, "node").values():
        lost = without(cluster.osdmap, frozenset(osds))
        quick, slow = place_without(lost, placed, frozenset(osds)), place_all(lost)
        np.testing.assert_array_equal(quick[1].up, slow[1].up)
        np.testing.assert_array_equal(quick[1].primary, slow[1].primary)


@given(groups_of=st.integers(1, 5_000))
def test_hash_shares_add_up_and_split_pgs_hold_half(groups_of: int) -> None:
    shares = hash_shares(groups_of)
    assert shares.shape == (groups_of,)
    assert shares.sum() == pytest.approx(1)
    assert shares.max() / shares.min() in (1, pytest.approx(2))
    names = np.arange(1 << 14)
    top = (1 << (groups_of - 1).bit_length()) - 1
    folded = np.where(names & top < groups_of, names & top, names & (top >> 1))
    counted = np.bincount(folded, minlength=groups_of) / len(names)
    assert np.abs(counted - shares).max() <= 1 / len(names)


def test_growth_by_the_shares_is_what_laid_data_takes(tmp_path: Path) -> None:
    path = _rack(tmp_path, [[500, 900], [700], [800], [600, 600]], 1)
    cluster = read_source(path, load_assumptions(["fill_ratio=0.5"]))
    placed = place_all(cluster.osdmap)
    (group,) = groups(cluster, placed)
    laid = growth_rates(cluster, placed, group) * cluster.uses[0].stored_bytes
    np.testing.assert_allclose(laid, data_bytes(cluster, placed), rtol=1e-6)
    assert all(max_avail_bytes(cluster, pool) > 0 for pool in cluster.osdmap.pools)


def test_a_rack_without_osd_disks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='role = "osd"'):
        read_source(_rack(tmp_path, [[], []], 1))
