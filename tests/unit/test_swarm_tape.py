"""Fault tapes: any scenario can be written as one and read back, the same to the last bit of its run."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from formats.synthetic import SyntheticRack
from trial.scenario import FILE_NAME, find_scenarios
from twin.run import Options, run
from twin.scenario import load_scenario
from twin.swarm.tape import WIDTH, Tape, read_tape, to_scenario, to_toml

SCENARIOS = tuple(path for path in find_scenarios(Path("scenarios")) if path.parent.name != "lanl")
SHORT = ("two-drains", "partition-holder-with-leader", "sixth-node")
"""These draw targets when they strike, resolve roles, and start with a server that is not plugged in."""

TAPE = Tape(
    why="two faults, to look at.",
    seed=7,
    rack=SyntheticRack(nodes=5, single_homed=True),
    catalog="catalog/minimal.toml",
    duration_ms=600_000,
    services=("ntp", "mariadb"),
    timing={"suspect_ms": 700, "session_timeout_ms": 3_000},
    expect={"failover_ms": {"mariadb": {"p99": 5_000}}, "never": ["brake_engaged"]},
    fault=(
        {"kind": "power_loss", "target": "holder-of:mariadb", "at_ms": 60_000, "bmc_too": True, "for_ms": 900},
        {"kind": "link_loss", "at_ms": 61_000, "networks": ["data"], "target": "n3"},
    ),
)
TEXT = """\
# Why: two faults, to look at.
seed = 7
rack = { nodes = 5, single_homed = true }
catalog = "catalog/minimal.toml"
services = ["ntp", "mariadb"]
duration_ms = 600_000
fidelity = "campaign"

[timing]
session_timeout_ms = 3_000
suspect_ms = 700

[expect]
failover_ms.mariadb.p99 = 5_000
never = ["brake_engaged"]

[[fault]]
kind = "power_loss"
target = "holder-of:mariadb"
at_ms = 60_000
for_ms = 900
bmc_too = true

[[fault]]
kind = "link_loss"
target = "n3"
at_ms = 61_000
networks = ["data"]
"""


def written(tape: Tape, folder: Path) -> Path:
    """Write a tape as a file."""
    file = folder / f"{tape.seed}.toml"
    file.write_text(to_toml(tape), encoding="utf-8")
    return file


def test_a_tape_is_written_as_a_person_would_write_a_scenario(tmp_path: Path) -> None:
    assert to_toml(TAPE) == TEXT
    assert read_tape(written(TAPE, tmp_path)) == TAPE


def test_faults_are_written_in_order_of_their_times() -> None:
    assert to_toml(msgspec.structs.replace(TAPE, fault=TAPE.fault[::-1])) == TEXT


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.parent.name)
def test_every_scenario_survives_being_a_tape(path: Path, tmp_path: Path) -> None:
    tape = read_tape(path)
    file = written(tape, tmp_path)
    assert read_tape(file) == tape
    scenario, again = load_scenario(path), load_scenario(file)
    same = {"name": scenario.name, "path": scenario.path, "faults": again.faults}
    assert msgspec.structs.replace(again, **same) == msgspec.structs.replace(scenario, faults=again.faults)
    assert sorted(map(repr, again.faults)) == sorted(map(repr, scenario.faults))


@pytest.mark.parametrize("name", SHORT)
def test_a_scenario_runs_the_same_as_a_tape(name: str, tmp_path: Path) -> None:
    path = Path("scenarios", name)
    digests = [
        run(scenario, Options(fidelity="capacity")).outcome.digest
        for scenario in (load_scenario(path), to_scenario(read_tape(path)))
    ]
    file = written(read_tape(path), tmp_path)
    digests.append(run(load_scenario(file), Options(fidelity="capacity")).outcome.digest)
    assert digests[0]
    assert len(set(digests)) == 1


def test_a_folder_is_read_as_the_scenario_in_it() -> None:
    assert read_tape(Path("scenarios/drain")) == read_tape(Path("scenarios/drain") / FILE_NAME)


def test_a_recorded_trace_is_no_tape() -> None:
    with pytest.raises(InputError, match=r"lanl/scenario.toml: trace: allowed in a tape: \[\[fault\]\]s only"):
        read_tape(Path("scenarios/lanl"))


def test_every_problem_of_a_tape_is_told(tmp_path: Path) -> None:
    file = tmp_path / "1.toml"
    file.write_text(TEXT.replace("power_loss", "power_los").replace('"n3"', '"n9"'), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_tape(file)
    assert len(caught.value.problems) == 2
    assert 'fault[0].kind = "power_los": no such fault' in str(caught.value)
    assert "n9" in str(caught.value)


def test_a_missing_tape_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needed: a tape or another scenario file"):
        read_tape(tmp_path / "none.toml")


def test_a_rack_beside_the_tape_is_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    rack = tmp_path / "mine" / "rack.toml"
    rack.write_bytes(Path("racks/five.toml").read_bytes())
    file = tmp_path / "mine" / "1.toml"
    text = to_toml(msgspec.structs.replace(TAPE, rack="rack.toml", catalog=str(Path(TAPE.catalog).absolute())))
    file.write_text(text, encoding="utf-8")
    tape = read_tape(file)
    assert tape.rack == str(rack)
    assert len(to_scenario(tape).rack.nodes) == 5


NAMES = st.sampled_from(["n1", "n2", "leader", "minority(n1,holder-of:mariadb)", "others(n3)"])
FAULT = st.fixed_dictionaries(
    {"kind": st.just("link_delay"), "target": NAMES, "at_ms": st.integers(0, 599_999)},
    optional={"for_ms": st.integers(0, 10**9), "times": st.integers(1, 9), "delay_ms": st.integers(1, 10**6)},
)
WHY = st.text(st.characters(exclude_categories=["Cs"])).map(
    lambda text: " ".join("".join(letter for letter in text if letter.isprintable() or letter.isspace()).split())
)


@settings(max_examples=60, deadline=None)
@given(
    why=WHY,
    seed=st.integers(0, (1 << 63) - 1),
    faults=st.lists(FAULT, max_size=6),
    settle_ms=st.none() | st.integers(0, 10**6),
    every_ms=st.integers(0, 10**5),
)
def test_reading_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    why: str,
    seed: int,
    faults: list[dict[str, object]],
    settle_ms: int | None,
    every_ms: int,
) -> None:
    tape = Tape(
        why=why,
        seed=seed,
        rack="racks/five.toml",
        catalog="catalog/minimal.toml",
        duration_ms=600_000,
        settle_ms=settle_ms,
        clients={"every_ms": every_ms},
        fault=tuple(sorted(faults, key=lambda fault: fault["at_ms"])),  # type: ignore[arg-type,return-value]
    )
    file = written(tape, tmp_path_factory.mktemp("tape"))
    again = read_tape(file)
    assert again == tape
    assert to_toml(again) == file.read_text(encoding="utf-8")
    assert all(len(line) <= WIDTH or " " not in line.removeprefix("# Why: ") for line in to_toml(tape).splitlines())
