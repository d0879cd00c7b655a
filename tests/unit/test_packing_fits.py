"""How many fit and survive: ``twin.packing.fit`` against counting and against a plain search."""

from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np
import pytest

from twin.cli import main
from twin.packing.answer import fewest_table, packing_of
from twin.packing.fit import fits
from twin.packing.mix import MixFile
from twin.packing.place import POLICIES, Policy, arrivals, place
from twin.packing.reach import TRIED, without_spares
from twin.packing.records import Flavour, Hosts, Mix, make_hosts
from twin.packing.restart import Restarts, filled
from twin.report.packing import page, write_page

GIB = 1 << 30
ROOT = Path(__file__).parents[2]
ONE = Mix(name="one", flavours=(Flavour(name="a", cores=4, memory_bytes=16 * GIB),))
THREE = Mix(
    name="three",
    flavours=(
        Flavour(name="s", cores=1, memory_bytes=3 * GIB, share=3),
        Flavour(name="m", cores=3, memory_bytes=5 * GIB, share=2),
        Flavour(name="l", cores=6, memory_bytes=14 * GIB, share=1),
    ),
)


def rack_of(count: int, racks: int, cores: int = 64, memory_gib: int = 256) -> Hosts:
    """Equal hosts, in turn on racks; two PDUs a rack."""
    names = [f"h{index}" for index in range(count)]
    return make_hosts(
        names,
        cores,
        memory_gib * GIB,
        racks=[f"r{index % racks}" for index in range(count)],
        pdus=[f"r{index % racks}p{index // racks % 2}" for index in range(count)],
    )


@pytest.mark.parametrize(
    ("survive", "spare", "expected"),
    [("none", 1, 192), ("node", 1, 176), ("node", 3, 144), ("rack", 1, 144), ("rack", 2, 96), ("pdu", 1, 160)],
)
def test_one_flavour_is_counted_exactly(survive: str, spare: int, expected: int) -> None:
    found = fits(rack_of(12, 4), ONE, survive, spare)
    assert (found.vms, found.by_flavour, found.lost_to_fragmentation_vms) == (expected, {"a": expected}, 0)


def test_places_lost_at_the_edges_of_hosts_are_fragmentation_not_headroom() -> None:
    found = fits(rack_of(10, 2, cores=63), ONE, "node")
    assert (found.volume_vms, found.volume_survivors_vms, found.vms) == (157, 141, 135)
    assert (found.lost_to_headroom_vms, found.lost_to_fragmentation_vms) == (16, 6)


def test_hosts_that_differ_keep_free_what_the_largest_loss_takes() -> None:
    hosts = make_hosts(["a", "b", "c"], [64, 32, 16], [256 * GIB, 128 * GIB, 64 * GIB])
    found = fits(hosts, ONE, "node")
    assert (found.vms, found.worst) == (12, ("a",))


def fits_plainly(free: list[list[int]], machines: list[tuple[int, int]]) -> bool:
    """Search every way to place machines on hosts."""
    if not machines:
        return True
    seen = set()
    for host in free:
        if tuple(host) in seen or host[0] < machines[0][0] or host[1] < machines[0][1]:
            continue
        seen.add(tuple(host))
        host[0] -= machines[0][0]
        host[1] -= machines[0][1]
        if fits_plainly(free, machines[1:]):
            return True
        host[0] += machines[0][0]
        host[1] += machines[0][1]
    return False


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("survive", "spare"), [("node", 1), ("rack", 1), ("node", 2)])
def test_what_is_said_to_survive_does_by_a_plain_search(policy: Policy, survive: str, spare: int) -> None:
    hosts = rack_of(6, 3, cores=12, memory_gib=30)
    found = fits(hosts, THREE, survive, spare, policy)
    assert found.complete
    flavour_of, _ = arrivals(THREE, found.vms)
    host_of = place(hosts, THREE, policy, flavour_of)
    domain = hosts.domains("node" if survive == "node" else "rack")
    for lost in combinations(range(int(domain.max()) + 1), spare):
        down = np.isin(domain, lost)
        free = [[12, 30] for alive in ~down if alive]
        alive = np.flatnonzero(~down).tolist()
        gone = []
        for flavour, host in zip(flavour_of.tolist(), host_of.tolist(), strict=True):
            one = THREE.flavours[flavour]
            if down[host]:
                gone.append((one.cores, one.memory_bytes // GIB))
            else:
                free[alive.index(host)][0] -= one.cores
                free[alive.index(host)][1] -= one.memory_bytes // GIB
        assert fits_plainly(free, sorted(gone, reverse=True))


def test_spreading_leaves_pieces_too_small_for_large_machines() -> None:
    sizes = (
        Flavour(name="small", cores=1, memory_bytes=GIB, share=9),
        Flavour(name="half", cores=32, memory_bytes=GIB),
    )
    mix, hosts = Mix(name="two", flavours=sizes), rack_of(20, 4)
    spread, best = fits(hosts, mix, "node", policy="spread"), fits(hosts, mix, "node")
    assert spread.vms < 0.9 * best.vms
    assert best.vms <= fits(hosts, mix, "node", bound=True).bound_vms
    assert best.lost_to_fragmentation_vms >= 0


@pytest.mark.parametrize("policy", TRIED)
def test_no_policy_exceeds_the_bounds(policy: str) -> None:
    hosts = make_hosts(
        [f"h{index}" for index in range(20)],
        [31, 47] * 10,
        [100 * GIB, 140 * GIB] * 10,
        racks=[f"r{index % 5}" for index in range(20)],
    )
    found = fits(hosts, THREE, "rack", policy=policy, bound=True)
    assert found.bound_vms is not None
    assert 0 < found.vms <= found.bound_vms <= found.volume_survivors_vms <= found.volume_vms


def test_spare_hosts_take_whole_hosts_of_their_own_type() -> None:
    hosts = make_hosts(
        [f"h{index}" for index in range(12)], [64, 32] * 6, 256 * GIB, racks=[f"r{index // 4}" for index in range(12)]
    )
    used = without_spares(hosts, "rack", 1)
    emptied = np.flatnonzero((used.room == 0).all(axis=1))
    assert sorted(hosts.room[emptied, 0].tolist()) == [32, 32, 64, 64]
    flavour_of, group_of = arrivals(THREE, 5_000)
    host_of = place(used, THREE, "first_fit", flavour_of, group_of, stop=True)
    count = int((host_of >= 0).sum())
    state = filled(hosts, THREE, flavour_of[:count], group_of[:count], host_of[:count])
    assert Restarts(hosts, THREE, "rack", 1).survives(state)


def test_full_hosts_do_not_survive() -> None:
    hosts = rack_of(4, 2)
    flavour_of, group_of = arrivals(ONE, 64)
    host_of = place(hosts, ONE, "pack", flavour_of)
    judge = Restarts(hosts, ONE, "node", 1)
    assert not judge.survives(filled(hosts, ONE, flavour_of, group_of, host_of))
    assert len(judge.tightest) == 1


def test_machines_that_start_again_take_room_from_one_another() -> None:
    hosts = make_hosts(["a", "b"], [20, 8], 64 * GIB)
    for flavours, survives in (([2, 0, 0], True), ([2, 1], False), ([1, 1], True), ([1, 1, 1], False)):
        flavour_of = np.array(flavours)
        alone = np.full(len(flavours), -1)
        state = filled(hosts, THREE, flavour_of, alone, np.zeros(len(flavours), dtype=np.int64))
        assert Restarts(hosts, THREE, "node", 1).survives(state) is survives


def grouped(apart: str, members: int = 3) -> Mix:
    """A mix with clusters of databases."""
    table = {"name": "db", "cores": 4, "memory_bytes": 16 * GIB, "share": 0.3, "members": members, "apart": apart}
    return Mix(name="grouped", flavours=(*ONE.flavours, msgspec.convert(table, Flavour)))


@pytest.mark.parametrize(
    ("apart", "survive", "said"),
    [("rack", "rack", "cannot all start again on the 2 that are left"), ("node", "rack", ""), ("rack", "node", "")],
)
def test_groups_that_cannot_start_again_apart_are_said_to_rule_everything_out(
    apart: str, survive: str, said: str
) -> None:
    found = fits(rack_of(12, 3), grouped(apart), survive)
    assert (said in found.why) if said else not found.why
    assert (found.vms == 0) == bool(said)


def test_members_that_start_again_stay_apart_from_the_others() -> None:
    hosts = rack_of(8, 4)
    found = fits(hosts, grouped("rack"), "rack")
    assert 0 < found.vms <= found.volume_survivors_vms
    flavour_of = np.array([1, 1, 1])
    group_of = np.array([0, 0, 0])
    full = msgspec.structs.replace(hosts, room=np.where(hosts.racks[:, None] == 3, 0, hosts.room))
    for room, survives in ((hosts, True), (full, False)):
        state = filled(room, grouped("rack"), flavour_of, group_of, np.array([0, 1, 2]))
        assert Restarts(room, grouped("rack"), "rack", 1).survives(state) is survives


def test_nothing_is_left_if_the_only_rack_is_lost() -> None:
    assert "no rack left" in fits(rack_of(5, 1), THREE, "rack").why


def test_many_combinations_are_cut_to_the_heaviest_and_that_is_said() -> None:
    assert not fits(rack_of(70, 7, cores=12, memory_gib=30), THREE, "node", 3, policy="pack").complete


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run the command; its exit code and all it printed."""
    code = main(["pack", *words])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


GENERAL = str(ROOT / "racks/mixes/general.toml")


def test_the_command_prints_one_object_that_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = run(capsys, str(ROOT / "racks/five.toml"), "--mix", GENERAL, "--json")
    found = msgspec.json.decode(printed)
    assert code == 0
    assert found["volume_vms"] - found["lost_to_headroom_vms"] - found["lost_to_fragmentation_vms"] == found["vms"]
    assert sum(found["by_flavour"].values()) == found["vms"]
    assert set(POLICIES) <= set(found["policies"])


def test_the_command_counts_mirrored_pairs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mix = tmp_path / "m.toml"
    mix.write_text('name = "m"\n[[flavour]]\nname = "a"\ncores = 1\nmemory_gib = 4\n', encoding="utf-8")
    sizes = ("--hosts", "5", "--cores", "16", "--memory-gib", "64", "--mix", str(mix), "--mirrored")
    code, printed = run(capsys, *sizes)
    assert (code, "60  instances" in printed) == (0, True)
    assert msgspec.json.decode(run(capsys, *sizes, "--json")[1])["instances"] == 60


def test_the_page_shows_the_answer_and_is_the_same_bytes_again(tmp_path: Path) -> None:
    answer = packing_of("made", rack_of(6, 3), MixFile(mix=THREE), "node")
    tables = [table for table in (fewest_table(answer.hosts, answer.file, answer.fit.vms),) if table is not None]
    once, again = page(answer, tables), page(answer, tables)
    assert once == again
    assert write_page(tmp_path, answer, tables).read_text(encoding="utf-8") == once
    assert once.count("<svg") == 4
    assert f"{answer.fit.vms:,d}" in once
    assert "<script" not in once


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--mix", GENERAL), "SOURCE is missing"),
        (("nowhere.toml", "--mix", GENERAL), "nowhere.toml"),
        ((str(ROOT / "racks/five.toml"), "--mix", "nowhere.toml"), "nowhere.toml"),
        ((str(ROOT / "racks/five.toml"), "--mix", GENERAL, "--workload", GENERAL), "general.toml: line 1"),
        ((str(ROOT / "racks/five.toml"), "--hosts", "3", "--mix", GENERAL), "allowed: one or the other"),
        ((str(ROOT / "racks/five.toml"), "--mix", GENERAL, "--mirrored"), "6 flavours"),
    ],
)
def test_the_command_refuses_wrong_input_with_exit_code_2(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    code, printed = run(capsys, *words)
    assert (code, said in printed) == (2, True)
    assert "Traceback" not in printed


def test_the_command_says_with_exit_code_3_that_nothing_fits(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = run(capsys, str(ROOT / "racks/five.toml"), "--mix", GENERAL, "--survive", "rack")
    assert (code, "nothing fits" in printed) == (3, True)
