"""Placing, bounds, mixes and workloads of ``twin.packing``."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from bench.plain_packing import plain_replay
from core.errors import InputError
from twin.packing.answer import packing_of, replays
from twin.packing.bound import fewest, planned
from twin.packing.drbd import DrbdInstance, DrbdNode, drbd_capacity, evenly
from twin.packing.mix import MixFile, load_mix
from twin.packing.place import NOWHERE, POLICIES, Policy, Scheduler, arrivals, place, replay
from twin.packing.records import Flavour, Hosts, Mix, make_hosts
from twin.packing.sources import equal_hosts, read_hosts
from twin.packing.words import to_text
from twin.packing.workloads import read_workload

GIB = 1 << 30
ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("MOXIE_DATA", ROOT.parent / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.exists(), reason="recorded workloads are not shipped; set MOXIE_DATA")
SIZES = ((1, 2), (2, 4), (3, 16), (8, 12), (17, 60))


def mix_of(sizes: tuple[tuple[int, int], ...] = SIZES) -> Mix:
    """A mix of falling shares."""
    flavours = [
        Flavour(name=f"f{index}", cores=cores, memory_bytes=memory * GIB, share=1 / (1 + index))
        for index, (cores, memory) in enumerate(sizes)
    ]
    return Mix(name="made", flavours=tuple(flavours))


def hosts_of(count: int, cores: int = 64, memory_gib: int = 256, racks: int = 3) -> Hosts:
    """Equal hosts, racks in turn."""
    names = [f"h{index}" for index in range(count)]
    return make_hosts(names, cores, memory_gib * GIB, racks=[f"r{index % racks}" for index in range(count)])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_scheduler_makes_the_decisions_of_a_plain_loop_until_nothing_fits(policy: Policy) -> None:
    mix, hosts = mix_of(), make_hosts([str(i) for i in range(30)], [64, 32, 48] * 10, [256 * GIB, 200 * GIB] * 15)
    flavour_of, _ = arrivals(mix, 900)
    fast = place(hosts, mix, policy, flavour_of)
    assert fast.tolist() == plain_replay(hosts, mix, policy, flavour_of.tolist())
    assert 0 < (fast == NOWHERE).sum() < 900


@pytest.mark.parametrize("policy", POLICIES)
def test_departures_give_room_back_as_in_a_plain_loop(policy: Policy) -> None:
    mix, hosts = mix_of(), hosts_of(6)
    flavour_of, _ = arrivals(mix, 400)
    events = [event for index in range(400) for event in ((index, ~(index - 150)) if index >= 150 else (index,))]
    fast = replay(hosts, mix, policy, flavour_of, events)
    assert fast.tolist() == plain_replay(hosts, mix, policy, flavour_of.tolist(), events)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_scheduler_that_keeps_no_scores_decides_the_same(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    mix, hosts = mix_of(), hosts_of(12)
    flavour_of, _ = arrivals(mix, 500)
    kept = place(hosts, mix, policy, flavour_of)
    monkeypatch.setattr("twin.packing.place.CACHE_MAX", 0)
    assert place(hosts, mix, policy, flavour_of).tolist() == kept.tolist()


def test_what_is_left_is_room_less_what_was_put() -> None:
    mix, hosts = mix_of(), hosts_of(5)
    scheduler = Scheduler(hosts, mix.demands, "spread")
    flavour_of, _ = arrivals(mix, 40)
    for flavour in flavour_of.tolist():
        scheduler.put(flavour, scheduler.choose(flavour))
    assert (hosts.room - scheduler.left()).sum(axis=0).tolist() == mix.demands[flavour_of].sum(axis=0).tolist()


def test_arrivals_keep_the_shares_of_the_mix_in_every_prefix() -> None:
    mix = mix_of()
    shares = np.array([flavour.share for flavour in mix.flavours])
    flavour_of, _ = arrivals(mix, 1_000)
    for count in (10, 137, 1_000):
        wanted = count * shares / shares.sum()
        assert np.abs(np.bincount(flavour_of[:count], minlength=5) - wanted).max() < 1.5


def test_groups_arrive_whole_and_their_members_are_kept_apart() -> None:
    flavours = (
        Flavour(name="web", cores=2, memory_bytes=4 * GIB, share=4),
        Flavour(name="db", cores=4, memory_bytes=16 * GIB, share=1, members=3, apart="rack"),
    )
    mix, hosts = Mix(name="grouped", flavours=flavours), hosts_of(9)
    flavour_of, group_of = arrivals(mix, 120)
    host_of = place(hosts, mix, "pack", flavour_of, group_of)
    groups = [group for group in np.unique(group_of).tolist() if group >= 0]
    assert groups
    for group in groups:
        hosts_used = host_of[group_of == group]
        assert len(hosts_used) == 3
        assert len(np.unique(hosts.racks[hosts_used])) == 3


def test_the_plan_is_near_the_bound_and_never_worse_than_first_fit() -> None:
    mix = mix_of(((1, 7), (3, 5), (5, 21), (9, 40), (11, 33), (17, 60), (23, 100), (31, 130)))
    for count in (60, 1_500):
        flavour_of, _ = arrivals(mix, count)
        hosts = hosts_of(count)
        first_fit = len(np.unique(place(hosts, mix, "first_fit", flavour_of)))
        counts = np.bincount(flavour_of, minlength=8)
        found = fewest(hosts.room[0], mix.demands, counts, first_fit)
        assert found.volume <= found.bound <= found.hosts <= first_fit
        assert found.hosts <= 1.015 * found.bound + (0 if count >= 1_500 else 1)
        if found.times.size:
            assert ((found.patterns @ mix.demands) <= hosts.room[0]).all()
            assert (found.patterns.T @ found.times >= counts).all()


def test_a_small_bound_is_the_true_optimum() -> None:
    found = fewest(np.array([10, 10, 1]), np.array([[6, 1, 0], [5, 1, 0]]), np.array([3, 2]), 5)
    assert (found.bound, found.hosts) == (4, 4)  # a 6 shares its host with nothing, two 5s share one


def test_the_plan_on_patterns_overfills_no_host() -> None:
    mix, hosts = mix_of(), hosts_of(20)
    host_of = planned(hosts, mix)
    flavour_of, _ = arrivals(mix, len(host_of))
    used = np.zeros_like(hosts.room)
    np.add.at(used, host_of, mix.demands[flavour_of])
    assert (used <= hosts.room).all()
    assert len(host_of) >= len(np.flatnonzero(place(hosts, mix, "first_fit", flavour_of) >= 0)) * 0.97


@pytest.mark.parametrize(("nodes", "published"), [(3, 30), (5, 60), (6, 72), (12, 155), (24, 326), (40, 552)])
def test_mirrored_pairs_are_counted_as_ganeti_published(nodes: int, published: int) -> None:
    assert drbd_capacity(nodes).instances == published


@pytest.mark.parametrize(("nodes", "measured"), [(3, 32), (5, 63), (6, 78), (12, 166), (24, 349)])
def test_one_mebibyte_more_on_a_node_counts_as_hspace_counts_it(nodes: int, measured: int) -> None:
    assert drbd_capacity(nodes, DrbdNode(memory_mib=65_537)).instances == measured  # hspace of Ganeti 3.0.2, run by us


def test_ganetis_own_example_of_reserved_memory_comes_out() -> None:
    node = DrbdNode(memory_mib=10_241, disk_mib=204_801, cores=21)
    found = drbd_capacity(6, node, DrbdInstance(memory_mib=1_024, disk_mib=10_240, cores=2))
    assert found.instances == 48  # Ganeti, design-allocation-efficiency


def test_after_the_loss_of_any_node_its_instances_restart_on_their_secondaries() -> None:
    node, instance = DrbdNode(), DrbdInstance()
    for nodes in (3, 7):
        found = drbd_capacity(nodes, node, instance)
        for lost in range(nodes):
            used = found.primaries * instance.memory_mib
            for primary, secondary in found.pairs:
                used[secondary] += instance.memory_mib * (primary == lost)
            assert (np.delete(used, lost) < node.memory_mib).all()
        assert found.instances <= found.ideal
    assert evenly(24) == 336


def write(path: Path, text: str) -> Path:
    """Write a file and hand it back."""
    path.write_text(text, encoding="utf-8")
    return path


MIX = 'name = "m"\n[[flavour]]\nname = "a"\ncores = 2\nmemory_gib = 4\n'


def test_a_mix_file_says_what_hosts_hold_back_and_oversubscribe(tmp_path: Path) -> None:
    path = write(tmp_path / "m.toml", MIX.replace('"m"\n', '"m"\ncores_ratio = 4\n[held]\ncores = 2\nmemory_gib = 8\n'))
    file = load_mix(path)
    assert equal_hosts(3, 16, 64 * GIB, 2, file).room[:, :2].tolist() == [[56, 56 * GIB]] * 3
    five = read_hosts(ROOT / "racks/five.toml", file)
    assert five.room[0, :2].tolist() == [120, 248 * GIB]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "name"),
        ('name = "m"\n', "flavour is missing"),
        (MIX + MIX.split("\n", 1)[1], "flavour[1].name"),
        (MIX + "members = 3\n", "flavour[0].apart is missing"),
        (MIX + 'apart = "shelf"\n', "flavour[0].apart"),
        (MIX.replace("cores = 2", "cores = 0"), "flavour[0].cores"),
        (MIX.replace("memory_gib = 4", "memory_gib = nan"), "flavour[0].memory_gib"),
        ("name = ", "not TOML"),
    ],
)
def test_a_wrong_mix_file_is_refused_by_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=r"m\.toml") as refused:
        load_mix(write(tmp_path / "m.toml", text))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "object with clusters"),
        ("{}", "clusters"),
        ('{"clusters": [{"hosts": [{"cpu": {"coreCount": 4}}]}]}', "clusters[0].hosts[0].memory"),
        ('{"clusters": [{"hosts": [{"cpu": {}, "memory": {"memorySize": 1}}]}]}', "coreCount"),
        ('{"clusters": [{"hosts": [{"cpu": {"coreCount": 4}, "memory": {"memorySize": "1 parsec"}}]}]}', "memorySize"),
        ('{"clusters": []}', "hold no host"),
    ],
)
def test_a_wrong_topology_is_refused_by_field(tmp_path: Path, text: str, said: str) -> None:
    file = load_mix(write(tmp_path / "m.toml", MIX))
    with pytest.raises(InputError, match=r"site\.json") as refused:
        read_hosts(write(tmp_path / "site.json", text), file)
    assert said in str(refused.value)


def test_a_topology_becomes_hosts_by_cluster(tmp_path: Path) -> None:
    hosts = [
        {"name": "A", "cpu": {"coreCount": 8}, "memory": {"memorySize": "34359738368 bytes"}},
        {"name": "B", "count": 3, "cpu": {"coreCount": 16}, "memory": {"memorySize": 65_536}},
    ]
    text = json.dumps({"clusters": [{"name": "one", "hosts": hosts}, {"name": "two", "hosts": hosts[:1]}]})
    file = load_mix(write(tmp_path / "m.toml", MIX))
    found = read_hosts(write(tmp_path / "site.json", text), file)
    assert found.names == ("A", "one-B-1", "one-B-2", "one-B-3", "A")
    assert found.room[:, :2].tolist() == [[8, 32 * GIB], *[[16, 64 * GIB]] * 3, [8, 32 * GIB]]
    assert found.racks.tolist() == [0, 0, 0, 0, 1]


TASKS = "id,submission_time,duration,cpu_count,cpu_capacity,mem_capacity\n"
AZURE = "v,s,d,{},{},9.0,1.0,2.0,Unknown,{},{}\n"
BITBRAINS = "Timestamp [ms];\tCPU cores;" + ";".join("ghijklmno") + "\n"


def test_tasks_are_read_in_mebibytes_unless_they_cannot_be(tmp_path: Path) -> None:
    found = read_workload(write(tmp_path / "t.csv", TASKS + "1,2000,500,4,9,1024\n2,1000,600,2,9,2048\n"))
    assert found.arrival_ms.tolist() == [0, 1000]
    assert found.memory_bytes.tolist() == [2 * GIB, GIB]
    huge = read_workload(write(tmp_path / "u.csv", TASKS + "1,0,500,4,9,134217728\n"))
    assert huge.memory_bytes.tolist() == [128 * GIB]
    assert huge.notes == ("mem_capacity in KiB",)


def test_azures_table_is_read_also_compressed_and_with_its_open_buckets(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress((AZURE.format(60, 360, 2, 3.5) + AZURE.format(0, 120, ">24", ">64")).encode()))
    found = read_workload(path)
    assert found.cores.tolist() == [30, 2]
    assert found.memory_bytes.tolist() == [70 * GIB, 3.5 * GIB]
    assert (found.arrival_ms.tolist(), found.duration_ms.tolist()) == ([0, 60_000], [120_000, 300_000])


def test_a_machine_of_bitbrains_is_there_from_its_first_sample_to_its_last(tmp_path: Path) -> None:
    row = "{};\t2;\t1;\t1;\t1;\t{};\t1;\t1;\t1;\t1;\t1\n"
    text = BITBRAINS + row.format(1376314846, 1048576.0) + row.format(1376315146, 2097152.0)
    found = read_workload(write(tmp_path / "b.csv", text))
    assert (found.duration_ms.tolist(), found.cores.tolist()) == ([300_000], [2])
    assert found.memory_bytes.tolist() == [2 * GIB]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (TASKS, "holds no machine"),
        (TASKS + "1,2,3\n", "line 2: 3 columns"),
        (TASKS + "1,2,3,four,5,6\n", 'line 2: cpu_count = "four"'),
        (TASKS + "1,-2,3,4,5,6\n", "submission_time"),
        (AZURE.format(60, 30, 2, 3.5), "line 1: vm deleted"),
        (AZURE.format(60, 90, 2, "nan"), "line 1: vm memory"),
        ("hello\n", 'line 1: 1 columns starting with "hello"'),
    ],
)
def test_a_wrong_workload_is_refused_by_line_and_field(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=r"w\.csv") as refused:
        read_workload(write(tmp_path / "w.csv", text))
    assert said in str(refused.value)


@pytest.mark.parametrize("ending", ["gz", "xz"])
def test_a_cut_off_archive_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"w.csv.{ending}"
    path.write_bytes(gzip.compress(b"0" * 5_000)[:20])
    with pytest.raises(InputError, match="cannot be read"):
        read_workload(path)


@needs_data
@pytest.mark.parametrize(
    ("name", "machines", "cores", "gib"),
    [
        ("azure_vmtable_sample.csv.gz", 10, 38, 233.5),
        ("bitbrains_vm.csv.xz", 1, 1, 2.0),
        ("bitbrains_small_tasks.csv.xz", 50, 194, 583.701),
        ("surf_week_tasks.csv.xz", 6_295, 6_295 * 16, 6_295 * 100_000 / 1024),
    ],
)
def test_the_recorded_workloads_are_read_whole(name: str, machines: int, cores: int, gib: float) -> None:
    found = read_workload(DATA / "workloads" / name)
    mix, flavour_of = found.mix()
    assert len(found) == machines == len(flavour_of)
    assert int(found.cores.sum()) == cores
    assert found.memory_bytes.sum() / GIB == pytest.approx(gib, abs=0.001)
    assert (mix.demands[flavour_of][:, 1] == found.memory_bytes).all()
    assert (np.diff(found.arrival_ms) >= 0).all()
    assert sorted(found.events()) == list(range(-machines, machines))


@needs_data
@pytest.mark.parametrize(("name", "count", "racks"), [("surf", 277, 1), ("borg", 1_534, 1), ("marconi", 972, 1)])
def test_the_recorded_sites_become_hosts(name: str, count: int, racks: int) -> None:
    hosts = read_hosts(DATA / "topologies" / f"{name}.json", MixFile(mix=mix_of()))
    assert (len(hosts), len(hosts.rack_names)) == (count, racks)


def test_machines_that_leave_make_room_for_others(tmp_path: Path) -> None:
    rows = "".join(f"{index},{index * 100},100,64,1,1024\n" for index in range(50))
    workload = read_workload(write(tmp_path / "w.csv", TASKS + rows))
    table = replays(hosts_of(1), workload)
    assert table["placed"].tolist() == [50] * len(POLICIES)
    assert table["machines at most"].tolist() == [1] * len(POLICIES)


def test_the_answer_adds_up_and_reads_without_a_table_in_mind() -> None:
    file = MixFile(mix=mix_of(), cores_ratio=2.0)
    answer = packing_of("made", hosts_of(12), file, "rack")
    fit = answer.fit
    assert fit.volume_vms - fit.lost_to_headroom_vms - fit.lost_to_fragmentation_vms == fit.vms
    assert fit.bound_vms is not None
    assert fit.vms <= fit.bound_vms <= fit.volume_survivors_vms
    assert max(answer.policies.values()) <= fit.vms == sum(fit.by_flavour.values())
    from formats.paint import Paint

    text = to_text(answer, [], Paint(False))
    assert "so that the loss of any rack is survived" in text
    assert f"{fit.vms:,d}  VMs fit and survive" in text
