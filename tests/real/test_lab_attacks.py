"""Attacks on joining, in the lab: real DHCP, HTTP, TLS and BMCs; the stranger is a process on the boot network's wire.

Every scenario here is run as a person would, ``rack lab run``: what must come of it stands in the scenario, and no run
passes in which a stranger got anything, or was refused without ``rack status`` showing it.
"""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from core.gate import Refusal
from drivers.lab.demolition import namespaces_of
from drivers.lab.stranger import Outcome as Met
from tests.real.require import require
from trial.verdict import Outcome

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("lab")]

ROOT = Path(__file__).parents[2]
NAME = "mxatt"
FOLDER = Path("/var/lib/moxie-lab-attacks")
PROGRAMS = ("ip", "nft", "nsenter", "unshare", "java", "ipmi_sim", "dnsmasq")
STORAGE = ("ceph-mon", "ceph-osd", "qemu-storage-daemon")
SMALL_S_MAX, WHOLE_S_MAX = 600, 2_400
TWO = """seed = 5
rack = "{root}/racks/virtual-3.toml"
nodes = ["n1", "n2"]
catalog = "{root}/catalog/machines.toml"
start = "first"
duration_ms = 300_000
heal_ms = 300_000
[clients]
every_ms = 0
[boots]
discover = true
"""
SMALL = """# Why: a stranger asks, copies a card, and shows a used token again, while the one other machine joins.
{head}
[[fault]]
kind = "rogue_machine"
at_ms = 5_000
[[fault]]
kind = "mac_clone"
target = "n2"
at_ms = 5_000
[[fault]]
kind = "token_replayed"
target = "n2"
at_ms = 200_000
[expect]
verdict = "pass"
sometimes = ["found", "join_refused", "join_admitted"]
never = ["boot_timeout"]
joined = 2
"""
RETURN = """# Why: a machine joins, is retired, and is switched on again while somebody asks in its name.
{head}
[[fault]]
kind = "rogue_machine"
at_ms = 5_000
[[fault]]
kind = "operator_retire"
target = "n2"
at_ms = 100_000
[[fault]]
kind = "retired_returns"
target = "n2"
at_ms = 200_000
[expect]
verdict = "pass"
sometimes = ["join_refused"]
joined = 1
"""


def lab(*words: str, seconds: float) -> "subprocess.CompletedProcess[str]":
    """One command of the lab, in a process of its own: it moves into the lab's namespaces."""
    command, *rest = words
    argv = (sys.executable, "-m", "drivers.cli", "lab", command, "--name", NAME, "--dir", str(FOLDER), *rest)
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)


class Tried(msgspec.Struct, kw_only=True):
    """A scenario that was run. ``met``: what the stranger got; ``status``: what the operator saw at the end.

    ``shown``: every refusal that an operator was shown at any time of the run.
    """

    outcome: Outcome
    met: list[Met]
    shown: list[str]
    status: str

    def refused(self, attack: str) -> set[str]:
        """The reasons that an attack of the stranger's met."""
        return {met.refused for met in self.met if met.attack == attack and met.refused}

    def says(self, reason: Refusal, node: str) -> bool:
        """Whether an operator was shown that somebody was refused in a node's name, for this reason."""
        return any(said.startswith(f"{reason} as {node}: ") for said in self.shown)


def tried(scenario: Path, report: Path, seconds: float) -> Tried:
    """Run a scenario, look at what is left, and take it away."""
    require(*PROGRAMS)
    lab("down", seconds=120)
    try:
        done = lab("run", str(scenario), "--json", "--keep", "--report", str(report), seconds=seconds)
        assert done.stdout, done.stderr
        (folder,) = report.glob("*/001")
        return Tried(
            outcome=msgspec.json.decode(done.stdout, type=Outcome),
            met=msgspec.json.decode((folder / "stranger.json").read_bytes(), type=list[Met]),
            shown=msgspec.json.decode((folder / "refusals.json").read_bytes(), type=list[str]),
            status=lab("status", seconds=120).stdout,
        )
    finally:
        lab("down", seconds=120)
        assert namespaces_of(NAME) == []


def written(folder: Path, text: str) -> Path:
    """A scenario of two nodes, of which the second is found."""
    (folder / "scenario.toml").write_text(text.format(head=TWO.format(root=ROOT)), encoding="utf-8")
    return folder


def as_expected(one: Tried) -> None:
    """It went as the scenario expects, and nobody got what is not his."""
    wrong = [check for check in one.outcome.checks if not check.ok]
    assert not wrong
    assert one.outcome.as_expected, [line for line in one.outcome.expectations if not line.ok]
    assert {"strangers_get_nothing", "refusals_are_shown"} <= {check.name for check in one.outcome.checks}
    assert not [met for met in one.met if met.got]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tried:
    """Four kinds, one machine that joins at its first boot."""
    folder = tmp_path_factory.mktemp("small")
    return tried(written(folder, SMALL), folder / "report", SMALL_S_MAX)


def test_a_stranger_gets_nothing_while_a_machine_joins(small: Tried) -> None:
    as_expected(small)
    assert small.refused("rogue") == {"unknown_machine", "unknown_token"}
    assert small.refused("clone") <= {"unknown_machine", "wrong_machine"}
    assert small.refused("replay") == {"token_spent"}
    assert [met.what for met in small.met if met.attack == "rogue"] == ["address", "script", "certificate"]


def test_the_operator_sees_who_it_was_and_why(small: Tried) -> None:
    rows = [line for line in small.status.splitlines() if "10.98.0.245" in line]
    assert any("nobody expects this machine (unknown_machine)" in row for row in rows)
    assert any("its token was used before (token_spent)" in row and " n2 " in row for row in rows)
    assert all(" ago " in row for row in rows)


@pytest.mark.machines
def test_a_machine_that_was_retired_does_not_come_back(tmp_path: Path) -> None:
    one = tried(written(tmp_path, RETURN), tmp_path / "report", SMALL_S_MAX)
    as_expected(one)
    assert one.refused("return") == {"retired"}
    assert one.says("retired", "n2")
    assert "it was taken out of the rack for good (retired)" in one.status


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Tried:
    """The twin's own scenario on five nodes, with storage."""
    require(*STORAGE)
    report = tmp_path_factory.mktemp("whole")
    return tried(ROOT / "scenarios" / "join-attacks", report, WHOLE_S_MAX)


@pytest.mark.machines
def test_the_twins_attacks_all_fail_in_the_lab_and_all_five_join(whole: Tried) -> None:
    as_expected(whole)
    assert whole.refused("rogue") == {"unknown_machine", "unknown_token"}
    assert whole.refused("thief") == {"wrong_machine"}
    assert whole.refused("clone") <= {"unknown_machine", "wrong_machine"}
    assert whole.refused("twin") == {"asked_twice"}
    assert whole.refused("replay") <= {"token_spent", "token_void"}
    assert whole.refused("replay")


@pytest.mark.machines
@pytest.mark.parametrize(
    ("reason", "node"),
    [
        ("token_void", "n2"),  # its token was stolen: the machine's own join
        ("token_void", "n4"),  # its card and its UUID were cloned
        ("window_closed", "n5"),
        ("wrong_image", "n3"),
        ("wrong_machine", "n2"),  # another board
        ("wrong_mac", "n4"),  # another card
    ],
)
def test_a_machine_that_is_not_who_it_should_be_is_refused_and_shown(whole: Tried, reason: Refusal, node: str) -> None:
    assert whole.says(reason, node)
