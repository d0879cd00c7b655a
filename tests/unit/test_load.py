"""Loading racks, catalogs and scenarios: every problem of a file in one message, and never anything but InputError."""

from pathlib import Path

import pytest

from core.errors import InputError
from core.specs import Timing
from formats.catalog import find_cycle, load_catalog
from formats.rack import load_rack
from formats.synthetic import SyntheticRack, synthesize
from trial.scenario import find_scenarios, why
from twin.faults import FAULTS
from twin.scenario import load_scenario

ROOT = Path(__file__).parents[2]
GOOD = """# Why: to have something that loads.
seed = 7
rack = "racks/five.toml"
catalog = "catalog/minimal.toml"
duration_ms = 120_000
[[fault]]
kind = "power_loss"
target = "holder-of:mariadb"
at_ms = 60_000
[expect]
verdict = "pass"
failover_ms.mariadb.p99 = 6_000
sometimes = ["power_fence_confirmed"]
"""
RACK = """name = "small"
[template.plain]
cores = 4
memory_gib = 8
[[pdu]]
id = "p1"
rack = "r1"
[[switch]]
id = "s1"
[[node]]
id = "n1"
rack = "r1"
pdu = "p1"
switches = ["s1"]
template = "plain"
"""
SERVICE = """name = "tiny"
[[service]]
name = "a"
run = "everywhere"
"""


def write(tmp_path: Path, text: str | bytes, name: str = "scenario.toml") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def scenario_problems(tmp_path: Path, text: str | bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError) as caught:
        load_scenario(write(tmp_path, text))
    return caught.value.problems


def catalog_problems(tmp_path: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        load_catalog(write(tmp_path, text))
    return str(caught.value)


def rack_problems(tmp_path: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        load_rack(write(tmp_path, text))
    return str(caught.value)


@pytest.mark.parametrize("path", find_scenarios(ROOT / "scenarios"), ids=lambda path: path.parent.name)
def test_every_shipped_scenario_loads_and_says_why(path: Path) -> None:
    scenario = load_scenario(path)
    assert len(scenario.why) > 40
    assert scenario.name == path.parent.name


def test_every_fault_is_used_by_a_scenario() -> None:
    used = {planned.kind for path in find_scenarios(ROOT / "scenarios") for planned in load_scenario(path).faults}
    assert used == set(FAULTS)


def test_there_are_enough_scenarios() -> None:
    assert len(find_scenarios(ROOT / "scenarios")) >= 38


@pytest.mark.parametrize(("name", "nodes"), [("five", 5), ("six", 6), ("forty", 40), ("cell-250", 250)])
def test_the_shipped_racks_have_their_size(name: str, nodes: int) -> None:
    rack = load_rack(ROOT / "racks" / f"{name}.toml")
    assert len(rack.nodes) == nodes
    assert list(rack.node_ids) == sorted(rack.node_ids)
    assert all(server.disks and server.nics and server.spec.memory_bytes > 1 << 30 for server in rack.nodes)


def test_forty_has_two_power_domains_and_two_switches_of_twenty_servers() -> None:
    rack = load_rack(ROOT / "racks" / "forty.toml")
    assert [len(rack.nodes_of_pdu(pdu.id)) for pdu in rack.pdus] == [20, 20]
    assert [len(rack.nodes_of_switch(switch.id)) for switch in rack.switches] == [20, 20]


@pytest.mark.parametrize("name", ["minimal", "hyperconverged", "full"])
def test_the_shipped_catalogs_load(name: str) -> None:
    assert load_catalog(ROOT / "catalog" / f"{name}.toml").singletons


def test_a_synthetic_rack_is_ordered_and_cabled() -> None:
    rack = synthesize(SyntheticRack(nodes=1_000))
    assert len(set(rack.node_ids)) == 1_000
    assert list(rack.node_ids) == sorted(rack.node_ids)
    switches = {switch.id for switch in rack.switches}
    assert all(name in switches for server in rack.nodes for name in server.switches)
    assert {server.spec.power_domain for server in rack.nodes} == {pdu.id for pdu in rack.pdus}


def test_a_scenario_carries_what_its_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    scenario = load_scenario(write(tmp_path, GOOD + "[timing]\nstall_ms = 5_000\n"))
    assert (scenario.seed, scenario.start, scenario.duration_ms) == (7, "warm", 120_000)
    assert scenario.why == "to have something that loads."
    assert scenario.timing == Timing(stall_ms=5_000)
    assert scenario.faults[0].terms[0].name == "mariadb"
    assert [(gate.name, gate.most_ms) for gate in scenario.expect.gates] == [("failover_ms.mariadb.p99", 6_000)]


def test_gates_are_for_all_services_for_one_and_for_one_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    every = """failover_ms.p99 = 5_000
failover_ms."*".released.max = 1_000
failover_ms.scheduler.power_loss = { p50 = 3_000, p90 = 4_000 }
failover_ms.mariadb.p99 = 6_000"""
    scenario = load_scenario(write(tmp_path, GOOD.replace("failover_ms.mariadb.p99 = 6_000", every)))
    assert [(gate.name, gate.percent, gate.most_ms) for gate in scenario.expect.gates] == [
        ("failover_ms.p99", 99, 5_000),
        ('failover_ms."*".released.max', 100, 1_000),
        ("failover_ms.scheduler.power_loss.p50", 50, 3_000),
        ("failover_ms.scheduler.power_loss.p90", 90, 4_000),
        ("failover_ms.mariadb.p99", 99, 6_000),
    ]


def test_a_scenario_is_found_by_its_folder_and_its_rack_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_scenario(ROOT / "scenarios" / "lose-the-holder").rack.name == "five"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("duration_ms", "duratoin_ms", ["duratoin_ms = 120000", "no such key", 'did you mean "duration_ms"?']),
        ("120_000", '"soon"', ['duration_ms = "soon"', "allowed: a whole number from 1"]),
        ("120_000", "true", ["duration_ms = true", "allowed: a whole number"]),
        ("120_000", "1.5", ["duration_ms = 1.5", "allowed: a whole number"]),
        ("120_000", "9" * 30, ["duration_ms = a number of 100 bits", "allowed: a whole number"]),
        ("120_000", "9" * 5_000, ["is not TOML"]),
        ("at_ms = 60_000", "at_ms = -5", ["fault[0].at_ms = -5", "allowed: a whole number from 0"]),
        ("at_ms = 60_000", "at_ms = 120_000", ["fault[0].at_ms = 120000", "less than duration_ms = 120000"]),
        ("at_ms = 60_000", "", ["fault[0].at_ms is missing"]),
        ('kind = "power_loss"', "", ["fault[0].kind is missing", "power_loss"]),
        ('"power_loss"', '"powerloss"', ['fault[0].kind = "powerloss"', "no such fault", 'did you mean "power_loss"?']),
        ('"power_loss"', "3", ["fault[0].kind = 3", "no such fault"]),
        ("holder-of:mariadb", "holder-of:mariadbb", ["fault[0].target", "is no singleton", 'did you mean "mariadb"?']),
        ("holder-of:mariadb", "n9", ["fault[0].target", '"n9" is no node', "n1, n2, n3, n4, n5"]),
        ("holder-of:mariadb", "pdu:p9", ["fault[0].target", "is no PDU", "p1, p2, p3"]),
        ("holder-of:mariadb", "holder:mariadb", ["fault[0].target", "no such kind of target", "holder-of"]),
        ("holder-of:mariadb", "others(n1", ["fault[0].target", "brackets do not match"]),
        ("at_ms = 60_000", "at_ms = 60_000\nfor_sm = 3", ["fault[0].for_sm = 3", 'did you mean "for_ms"?']),
        ('"pass"', '"passed"', ['expect.verdict = "passed"', "crash", 'did you mean "pass"?']),
        ("failover_ms.mariadb", "failover_ms.marjadb", ["expect.failover_ms.marjadb", 'did you mean "mariadb"?']),
        ("mariadb.p99", "mariadb.p95", ["expect.failover_ms.mariadb.p95 = 6000", "no such key", "max, p50, p90, p99"]),
        ("mariadb.p99", "p95", ["expect.failover_ms.p95 = 6000", "no such quantile", "or a table for a service"]),
        ("mariadb.p99", "mariadb.power_los.p99", ["mariadb.power_los", "no such cause", 'did you mean "power_loss"?']),
        ("mariadb.p99", "mariadb.power_loss.p95", ["mariadb.power_loss.p95 = 6000", "no such key", "max, p50"]),
        ("mariadb.p99", '"*".power_lost.p99', ['expect.failover_ms."*".power_lost', "no such cause"]),
        ("mariadb.p99", "mariadb.power_loss", ["mariadb.power_loss = 6000", "or a table for a cause"]),
        ("p99 = 6_000", "p99 = -1", ["expect.failover_ms.mariadb.p99 = -1", "allowed:", "from 0"]),
        ("p99 = 6_000", 'p99 = "fast"', ['expect.failover_ms.mariadb.p99 = "fast"', "allowed: a whole number from 0"]),
        ("failover_ms.mariadb.p99 = 6_000", "failover_ms = 3", ["expect.failover_ms = 3", "allowed: a table"]),
        ("power_fence_confirmed", "fence_confirmed", ["expect.sometimes[0]", "no such note"]),
        ("racks/five.toml", "racks/fife.toml", ['rack = "racks/fife.toml"', "no such file", "racks/five.toml"]),
        ("catalog/minimal.toml", "catalog/none.toml", ["catalog =", "no such file", "catalog/minimal.toml"]),
        ('"racks/five.toml"', "{ nodes = 0 }", ["rack.nodes = 0", "allowed: a whole number from 1"]),
        ('"racks/five.toml"', "[]", ["rack = an array of 0", "allowed:"]),
        ("seed = 7", "seed = -1", ["seed = -1", "from 0"]),
        ("seed = 7", "seed =", ["is not TOML", "line 2"]),
        ("seed = 7", "seed = " + "[" * 5_000, ["TOML"]),
        ("[expect]", "[timing]\nbeat = 3\nprobe_ms = 0\n[expect]", ["timing.beat = 3", "timing.probe_ms = 0"]),
    ],
)
def test_a_wrong_scenario_is_refused_with_key_value_and_what_is_allowed(
    old: str, new: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert old in GOOD
    problems = scenario_problems(tmp_path, GOOD.replace(old, new, 1), monkeypatch)
    text = "\n".join(problems) if "deeply" not in problems[0] else problems[0] + " TOML"
    assert str(tmp_path / "scenario.toml") in problems[0] or "racks" in problems[0]
    for word in words:
        assert word in text


def test_all_problems_of_a_file_are_reported_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = GOOD.replace("seed = 7", "sede = 7").replace("60_000", "-1").replace("holder-of:mariadb", "n7")
    wrong = wrong.replace("five", "fife").replace("p99 = 6_000", 'p99 = "fast"')
    problems = scenario_problems(tmp_path, wrong, monkeypatch)
    for key in ("sede = 7", "fault[0].at_ms = -1", "rack =", "expect.failover_ms.mariadb.p99"):
        assert any(key in problem for problem in problems), key


def test_an_unknown_kind_of_fault_does_not_hide_its_other_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = GOOD.replace("power_loss", "powerloss").replace("60_000", "-1").replace("holder-of:mariadb", "n33")
    problems = scenario_problems(tmp_path, text, monkeypatch)
    assert [problem.split(": ")[1].split(" = ")[0] for problem in problems[:3]] == [
        "fault[0].kind",
        "fault[0].at_ms",
        "fault[0].target",
    ]


def test_problems_of_the_second_fault_carry_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = GOOD + '[[fault]]\nkind = "lock_stuck"\nat_ms = 1\nvolume = "mariabd"\n'
    problems = scenario_problems(tmp_path, text, monkeypatch)
    assert len(problems) == 1
    assert 'fault[1].volume = "mariabd"' in problems[0]
    assert 'did you mean "mariadb"?' in problems[0]


@pytest.mark.parametrize("text", [b"\xff\xfe", GOOD.encode() + b"# \xc3("], ids=["first line", "last line"])
def test_a_file_that_is_not_utf8_is_refused_with_its_line(
    text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = scenario_problems(tmp_path, text, monkeypatch)
    assert f"line {text.count(b'%c' % 10) + 1}:" in problems[0]
    assert "UTF-8" in problems[0]


def test_a_scenario_without_a_reason_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the reason is missing" in scenario_problems(tmp_path, GOOD.split("\n", 1)[1], monkeypatch)[0]


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, tmp_path / "a\0b", Path("/dev/zero")):
        with pytest.raises(InputError, match="needed: a scenario file"):
            load_scenario(path)
    folder = tmp_path / "rack.toml"
    folder.mkdir()
    with pytest.raises(InputError, match="is a directory; needed: a rack file"):
        load_rack(folder)
    with pytest.raises(InputError):
        why(tmp_path / "none")


def test_a_node_named_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    text = RACK + RACK[RACK.index("[[node]]") :]
    assert 'node[1].id = "n1": this node is named twice; first as node[0].id' in rack_problems(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('pdu = "p1"', 'pdu = "p2"', ['node[0].pdu = "p2"', "no such PDU", 'did you mean "p1"?']),
        ('switches = ["s1"]', 'switches = ["s2"]', ["node[0].switches", "no such switch"]),
        ('switches = ["s1"]', "switches = []", ["node[0].switches", "at least one switch"]),
        ('template = "plain"', 'template = "plane"', ["node[0].template", 'did you mean "plain"?']),
        ('id = "s1"', 'id = "s1"\nuplinks = ["s9"]', ["switch[0].uplinks", "allowed"]),
        ('id = "n1"', 'id = "n 1"', ["node[0].id", "a name of letters"]),
        ("cores = 4", "cores = 0", ["template.plain.cores = 0"]),
        ('rack = "r1"\npdu', 'rack = "r2"\npdu', ["node[0].pdu", 'is in rack "r1"']),
    ],
)
def test_a_wrong_rack_is_refused(old: str, new: str, words: list[str], tmp_path: Path) -> None:
    assert old in RACK
    text = rack_problems(tmp_path, RACK.replace(old, new, 1))
    for word in words:
        assert word in text


def test_a_group_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    group = '[[group]]\ntemplate = "plain"\ncount = 100_000\nracks = 100_000\n'
    assert "group[0].count = 100000" in rack_problems(tmp_path, RACK + group)


def test_a_rack_in_which_nobody_can_vote_is_refused(tmp_path: Path) -> None:
    text = RACK.replace("memory_gib = 8", "memory_gib = 8\nvotes = false")
    assert "votes is false for every server" in rack_problems(tmp_path, text)


def test_groups_write_their_servers_out(tmp_path: Path) -> None:
    text = RACK + '[[group]]\ntemplate = "plain"\ncount = 3\nracks = 2\nrack = "x{rack}"\nnode = "x{rack}-{slot}"\n'
    rack = load_rack(write(tmp_path, text))
    assert rack.node_ids == ("n1", "x1-1", "x1-2", "x1-3", "x2-1", "x2-2", "x2-3")
    assert rack.nodes[2].spec.power_domain == "r1p2"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('name = "a"\nrun = "singleton"', ['service[1].name = "a"', "used twice"]),
        ('name = "b"\nrun = "always"', ['service[1].run = "always"', "everywhere"]),
        ('name = "b"\nrun = { count = 0 }', ["service[1].run.count = 0"]),
        ('name = "b"\nrun = "singleton"\nneeds = ["aa"]', ["service[1].needs[0]", 'did you mean "a"?']),
        ('name = "b"\nrun = "everywhere"\nvolume = "v"\nfence = "storage"', ["service[1].volume", "singleton"]),
        ('name = "b"\nrun = "singleton"\nvolume = "v"', ["service[1].fence", "storage+power"]),
        ('name = "b"\nrun = "singleton"\naddress = "10.0.0"', ["service[1].address", "an IP address"]),
        ('name = "b"\nrun = "singleton"\nneeds = ["b"]', ["service[1].needs", "b -> b"]),
        (
            'name = "b"\nrun = "singleton"\nneeds = ["c"]\n[[service]]\nname = "c"\nrun = "singleton"\nneeds = ["b"]',
            ["in a circle: b -> c -> b"],
        ),
        ('name = "b"\nrun = "singleton"\n[service.twin]\nstart_ms = {min = 3, p50 = 2, p90 = 5, max = 6}', ["min <="]),
    ],
)
def test_a_wrong_catalog_is_refused(table: str, words: list[str], tmp_path: Path) -> None:
    text = catalog_problems(tmp_path, SERVICE + "[[service]]\n" + table + "\n")
    for word in words:
        assert word in text


def test_a_singleton_that_fits_nowhere_is_refused(tmp_path: Path) -> None:
    write(tmp_path, RACK, "rack.toml")
    write(tmp_path, SERVICE + '[[service]]\nname = "big"\nrun = "singleton"\ncores = 5\n', "services.toml")
    text = '# Why: x\nrack = "rack.toml"\ncatalog = "services.toml"\nduration_ms = 1\n'
    with pytest.raises(InputError, match=r"services.toml: service\[1\] \(big\): cores = 5.* fits on 0 of 1 nodes"):
        load_scenario(write(tmp_path, text))


def test_a_circle_of_needs_is_found_wherever_it_hides() -> None:
    assert find_cycle({"a": ("b", "c"), "b": (), "c": ("d",), "d": ("b",)}) == ()
    assert find_cycle({"a": ("b",), "b": ("c", "d"), "c": (), "d": ("b",)}) == ("b", "d", "b")
    chain: dict[str, tuple[str, ...]] = {str(at): (str(at + 1),) for at in range(20_000)}
    assert find_cycle(chain) == ()
    assert len(find_cycle({**chain, "20000": ("0",)})) == 20_002
