"""`twin plan`: what is usable and why, the sixth host of a real cluster, money, dates, losses, and bad input."""

import json
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from core.errors import InputError
from formats.paint import Paint
from twin.capacity.assumptions import default_assumptions, load_assumptions
from twin.capacity.cluster import Cluster, PoolUse
from twin.capacity.fill import groups, place_all
from twin.capacity.newcomers import newcomers
from twin.capacity.plan import plan
from twin.capacity.plan_json import plan_to_json
from twin.capacity.plan_text import days, plan_to_text, size
from twin.capacity.rack_source import crush_weight, pg_num
from twin.capacity.source import read_source
from twin.capacity.usable import usable
from twin.cli import main
from twin.crush.map import Choose, Emit, Rule, Take
from twin.crush.osdmap import Pool

SAMPLE = Path("racks/five-hosts")
GROWN = Path("tests/data/ceph-grown")
STEP_KEYS = {
    "nodes",
    "osd_pgs",
    "shards_moved",
    "shards_ideal",
    "bytes_moved",
    "recovery_ms",
    "usable_bytes",
    "usable_vms",
    "marginal",
}


def test_the_forecast_of_the_sixth_host_is_what_the_real_cluster_became() -> None:
    (step,) = plan(GROWN / "before", grow=(6, 6)).growth
    after = plan(GROWN / "after").now
    forecast = step.moment
    assert step.joined == ("host5",)
    assert forecast.osd_pgs == {osd.id: osd.pgs for osd in after.cluster.osds}
    assert forecast.usable.raw_bytes == after.usable.raw_bytes
    assert forecast.usable.usable_bytes == pytest.approx(after.usable.usable_bytes, rel=0.005)
    real = after.cluster.uses[0].max_avail_bytes
    assert real is not None
    assert forecast.max_avail["rbd"] == pytest.approx(real, rel=0.001)
    for was, became in zip(forecast.cluster.osds, after.cluster.osds, strict=True):
        assert was.used_bytes == pytest.approx(became.used_bytes, rel=0.02)


def test_the_json_has_the_keys_that_its_readers_count_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(SAMPLE), "--grow", "6..7", "--lose", "node", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["now"]["osd_pgs"] == {"0": 38, "1": 36, "2": 43, "3": 37, "4": 38}
    assert {"usable_bytes", "usable_vms", "waterfall"} <= set(found["now"])
    assert [step["nodes"] for step in found["steps"]] == [6, 7]
    assert all(set(step) >= STEP_KEYS for step in found["steps"])
    assert found["steps"][0]["osd_pgs"] == {"0": 35, "1": 30, "2": 38, "3": 31, "4": 31, "5": 27}
    assert found["now"]["usable_vms"] is None
    assert "cores_per_node" in found["now"]["usable_vms_reason"]
    assert {"bytes", "vms", "price"} <= set(found["steps"][0]["marginal"])
    assert found["now"]["max_avail_bytes"] == found["now"]["pools"][0]["ceph_max_avail_bytes"] == 6217504256


def test_each_step_of_a_waterfall_starts_where_the_last_one_ended_and_says_why() -> None:
    found = plan_to_json(plan("racks/five.toml", settings=["fill_ratio=0.3"]))
    waterfall = found["now"]["waterfall"]
    assert {step["unit"] for step in waterfall} == {"bytes", "cores", "bytes of memory", "VMs"}
    for before, after in pairwise(waterfall):
        if before["unit"] == after["unit"]:
            assert before["after"] == after["before"]
    keys = set(default_assumptions().figures)
    for step in waterfall:
        assert step["before"] - step["taken"] == step["after"] >= 0
        assert step["why"]
        assert step["source"]
        assert set(step["change"]) <= keys


def test_losing_more_at_once_leaves_less() -> None:
    found = [plan("racks/five.toml", settings=[f"survive={kind}"]).now for kind in ("none", "node", "pdu", "rack")]
    usable = [moment.usable.usable_bytes for moment in found]
    assert usable == sorted(usable, reverse=True)
    assert usable[-1] == 0
    vms = [moment.machines.vms for moment in found]
    assert vms == sorted(vms, reverse=True)
    assert vms[-1] == 0


def test_a_loss_tells_what_stops_and_whether_it_heals() -> None:
    loss = plan("racks/five.toml", lose="pdu", settings=["fill_ratio=0.5"]).loss
    assert loss is not None
    assert (loss.name, loss.nodes) == ("p2", ("n3", "n4"))
    assert loss.pgs_under_min_size == 152
    assert loss.pgs_lost == 0
    assert loss.bytes_to_recover > 0
    assert loss.recovery_ms > 600_000 / 60
    assert not loss.fits
    assert loss.fullest_ratio > loss.limit_ratio


def test_too_few_failure_domains_are_told_and_not_glossed_over() -> None:
    found = plan("racks/five.toml", settings=["replicas=5"])
    assert not found.now.usable.heals
    assert any("too few failure domains" in warning for warning in found.warnings)
    too_many = plan("racks/five.toml", settings=["erasure=4+2", "survive=none"])
    assert any("fewer places than the pool's size 6" in warning for warning in too_many.warnings)


def test_a_rack_file_s_prices_make_the_marginal_terabyte() -> None:
    (step,) = plan("racks/priced.toml", grow=(6, 6)).growth
    assert step.marginal.price == 6_000 + 8 * 209
    assert step.marginal.price_per_tb == pytest.approx(7_672 / (step.marginal.bytes / 1e12))
    assert step.marginal.watts == 450
    (set_price,) = plan(SAMPLE, grow=(6, 6), settings=["node_price=500"]).growth
    assert set_price.marginal.price == 500


def test_the_day_on_which_it_is_full_comes_later_with_more_nodes() -> None:
    found = plan("racks/five.toml", grow=(6, 6), settings=["growth_bytes_per_day=1e11", "fill_ratio=0.1"])
    assert found.now.full_in_days == pytest.approx(found.now.usable.free_bytes / 1e11)
    assert found.growth[0].moment.full_in_days > found.now.full_in_days
    assert plan(SAMPLE).now.full_in_days is None


def test_cores_and_memory_that_no_source_knows_can_be_set() -> None:
    found = plan(SAMPLE, grow=(6, 6), settings=["cores_per_node=32", "memory_gib_per_node=256"])
    assert found.now.machines.vms
    assert found.growth[0].marginal.vms
    assert found.growth[0].marginal.vms > 0


def test_servers_that_wait_in_the_rack_file_join_first() -> None:
    made = newcomers(read_source(Path("racks/six.toml")), 2)
    assert [one.host.name for one in made] == ["n6", "n7"]
    assert [one.host.pdu for one in made] == ["p3", "p1"]
    assert [osd.id for one in made for osd in one.osds] == list(range(20, 28))


def test_new_hosts_go_on_with_names_ids_and_weights() -> None:
    made = newcomers(read_source(SAMPLE), 2)
    assert [one.host.name for one in made] == ["host5", "host6"]
    assert [one.weights for one in made] == [(255,), (255,)]
    assert [osd.id for one in made for osd in one.osds] == [5, 6]
    padded = newcomers(read_source(Path("racks/forty.toml")), 1)
    assert padded[0].host.name == "n41"
    many = newcomers(read_source(Path("racks/cell-250.toml")), 2)
    assert [(one.host.name, one.parent) for one in many] == [("c01n21", "c01"), ("c02n21", "c02")]


def test_weights_and_pg_num_are_those_that_ceph_gives() -> None:
    assert crush_weight(4 << 30) == 255
    assert crush_weight(1 << 40) == 0x10000
    assert [pg_num(osds, 3, 100) for osds in (1, 3, 5, 20, 100)] == [32, 128, 128, 512, 4096]


def test_every_kind_of_disk_of_a_rack_file_has_a_pool_that_finds_all_its_places() -> None:
    cluster = read_source(Path("racks/cell-250.toml"))
    assert [pool.name for pool in cluster.osdmap.pools] == ["rbd-hdd", "rbd-nvme"]
    found = plan("racks/cell-250.toml", settings=["survive=none", "pgs_per_osd=10"])
    assert found.warnings == ()
    kinds = {osd.id: osd.kind for osd in cluster.osds}
    for pool, kind in ((1, "hdd"), (2, "nvme")):
        assert {kinds[osd] for osd in found.now.placed[pool].up.ravel().tolist()} == {kind}


def test_the_tables_are_as_long_as_the_plan() -> None:
    found = plan(SAMPLE, grow=(6, 7))
    assert found.steps["nodes"].tolist() == [5, 6, 7]
    assert found.osds["pgs_6_nodes"].tolist() == [35, 30, 38, 31, 31, 27, 0]
    assert found.waterfall["after"].tolist()[-1] == found.now.usable.free_bytes


def test_the_text_names_what_limits_and_what_a_node_brings() -> None:
    found = plan_to_text(plan(SAMPLE, grow=(6, 6), lose="node"), Paint(colours=False))
    for words in ("usable  4.46 GB", "exactly as the cluster says", "host5: +20.0 % raw", "loss of node host2"):
        assert words in found
    assert max(map(len, found.splitlines())) <= 120


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "does not exist"),
        (["racks/five-hosts/pg_dump.json"], "is one JSON file"),
        (["catalog/full.toml"], "no such key"),
        (["racks"], "osd_dump.json: is missing"),
        (["racks/five.toml", "--grow", "2..4"], "there are 5 nodes"),
        (["racks/five.toml", "--set", "replicas=nine"], "replicas"),
        (["racks/five.toml", "--set", "colour=red"], "no such figure"),
        (["racks/five.toml", "--assume", "nofile.toml"], "nofile.toml"),
        (["racks/five-hosts", "--lose", "rack"], "says nothing of the rack"),
        (["racks/five.toml", "--mix", "nofile.toml"], "nofile.toml"),
        (["racks/five.toml", "--catalog", "nofile.toml"], "nofile.toml"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


def test_assumptions_come_from_a_file_and_then_from_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text('survive = "none"\nreplicas = 2\n')
    figures = load_assumptions(["replicas=3"], file)
    assert (figures.word("survive"), figures.whole("replicas")) == ("none", 3)
    assert figures.changed == {"survive": str(file), "replicas": "--set"}
    file.write_text("replicas = 99\n")
    with pytest.raises(InputError, match="replicas = 99: allowed: a whole number from 1 to 10"):
        load_assumptions([], file)


def _with_small_pool(cluster: Cluster) -> Cluster:
    """The cluster with a tiny pool over all kinds of disk, as Ceph's own `.mgr` is, and data in the others."""
    crush = cluster.osdmap.crush
    rule = Rule(
        id=9,
        name="all",
        type_id=1,
        steps=(Take(item=-1), Choose(how="chooseleaf_firstn", num=0, type_id=1), Emit()),
    )
    small = Pool(id=9, name=".mgr", kind="replicated", size=3, min_size=2, pg_num=1, pgp_num=1, rule=9)
    use = PoolUse(pool=9, pg_bytes=np.array([1000]), pg_objects=np.array([1]), stored_bytes=1000, allocated_bytes=3000)
    osdmap = msgspec.structs.replace(
        cluster.osdmap,
        crush=msgspec.structs.replace(crush, rules=(*crush.rules, rule)),
        pools=(*cluster.osdmap.pools, small),
    )
    return msgspec.structs.replace(cluster, osdmap=osdmap, uses=(*cluster.uses, use))


def test_a_tiny_pool_over_all_disks_does_not_tie_the_large_pools_together() -> None:
    figures = load_assumptions(["survive=none", "pgs_per_osd=5", "fill_ratio=0.2"])
    cluster = read_source(Path("racks/cell-250.toml"), figures)
    more = _with_small_pool(cluster)
    found = groups(more, place_all(more.osdmap))
    assert [sorted(group.shares) for group in found] == [[1], [2]]
    alone = usable(cluster, place_all(cluster.osdmap), figures)
    beside = usable(more, place_all(more.osdmap), figures)
    assert beside.usable_bytes == pytest.approx(alone.usable_bytes, rel=1e-3)


def test_every_assumption_says_what_it_is_and_where_it_is_from() -> None:
    for key, figure in default_assumptions().figures.items():
        assert figure.what, key
        assert figure.source, key
        assert default_assumptions().changed_with({key: figure.value}, "again").figures[key].value == figure.value


def test_sizes_and_days_are_short() -> None:
    sizes = {0: "0 B", 999: "999 B", 1_000: "1.00 kB", 21_474_836_480: "21.5 GB", 15 * 10**14: "1.50 PB"}
    assert {amount: size(amount) for amount in sizes} == sizes
    assert [days(count) for count in (3.2, 1_500)] == ["3 days", "4.1 years"]
