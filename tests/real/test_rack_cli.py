"""The command ``rack`` against a rack of two real nodes: looking, draining, snapshots, and what is left after."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.machine import Machine
from drivers.init import prepare
from drivers.journal_file import segments
from tests.real.rack_on_loopback import UP_S_MAX, Rack, rack, wait_until
from twin.journals import read_journal
from twin.replay import replay

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("rack")]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """A rack of two nodes, both members, seeded by the operator."""
    made = Rack(tmp_path_factory.mktemp("rack"))
    prepare(made.plan)
    try:
        made.start(made.nodes[0])
        seed = ("init", "--seed-records", "--config", made.operator)
        wait_until(lambda: rack(*seed).returncode == 0, UP_S_MAX, "the first server takes records")
        made.start(made.nodes[1])
        wait_until(lambda: made.members() == made.nodes, UP_S_MAX, "both are members")
        wait_until(lambda: made.status()["singletons"]["cron"]["serving"], UP_S_MAX, "cron serves")
        yield made
    finally:
        made.stop()


def test_status_shows_who_is_a_member_and_what_runs_where(two: Rack) -> None:
    wait_until(lambda: two.status()["copies"]["ntp"] == ["n1", "n2"], UP_S_MAX, "ntp runs on both")
    done = rack("status", "--config", two.operator)
    assert done.returncode == 0
    assert done.stdout.startswith("2 of 2 nodes are members; ensemble of 1, ")
    assert "led by n1" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines() if "joined" in line] == ["n1", "n2"]
    found = two.status()
    assert found["ensemble"]["voters"] == ["n1"]
    assert found["singletons"]["cron"]["epoch"] >= 1
    assert found["not_reached"] == []


def test_a_node_looks_at_itself_and_at_the_rack(two: Rack) -> None:
    done = rack("check", "--json", "--config", str(two.node_file(two.nodes[0])))
    findings = json.loads(done.stdout)["findings"]
    errors = [finding for finding in findings if finding["severity"] == "error"]
    assert {finding["check"] for finding in errors} == {"bmc"}, errors  # nobody answers at the BMCs' addresses
    assert done.returncode == 1
    shown = {finding["about"] for finding in findings if finding["check"] == "agents"}
    assert shown == {"n1", "n2"}
    assert [f for f in findings if f["check"] == "ports" and "a supervisor of this node runs" in f["measured"]]


def test_a_drained_node_gives_its_singleton_away_and_comes_back(two: Rack) -> None:
    done = rack("drain", "n2", "--wait", "60", "--config", two.operator, seconds=90)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "n2 is in state maintenance"
    assert two.status()["singletons"]["cron"]["holder"] == "n1"
    assert rack("drain", "n2", "--config", two.operator).stdout == "n2 is in state maintenance\n"
    assert rack("undrain", "n2", "--config", two.operator).stdout == "n2: maintenance → joined\n"
    wait_until(lambda: two.status()["nodes"]["n2"]["fit"], UP_S_MAX, "n2 is fit again")


def test_the_only_voter_cannot_go_into_maintenance_and_is_taken_back(two: Rack) -> None:
    done = rack("drain", "n1", "--wait", "3", "--config", two.operator)
    assert done.returncode == 1
    assert "n1 is draining" in done.stdout
    assert rack("undrain", "n1", "--config", two.operator).returncode == 0
    wait_until(lambda: two.status()["nodes"]["n1"]["state"] == "joined", UP_S_MAX, "n1 is back")


def test_a_nodes_certificate_may_not_change_services(two: Rack, tmp_path: Path) -> None:
    catalog = two.node_file(two.nodes[1]).parent / "catalog.toml"
    before = catalog.read_text(encoding="utf-8")
    try:
        catalog.write_text(before.replace('run = "singleton"', 'run = "singleton"\ncores = 1'), encoding="utf-8")
        done = rack("init", "--seed-records", "--config", str(two.node_file(two.nodes[1])))
    finally:
        catalog.write_text(before, encoding="utf-8")
    assert done.returncode == 2
    assert "this certificate may not write /moxie" in done.stderr


def test_a_snapshot_of_a_node_has_a_journal_that_replays(two: Rack, tmp_path: Path) -> None:
    out = tmp_path / "snap"
    done = rack("snapshot", "--out", str(out), "--config", str(two.node_file(two.nodes[0])))
    assert done.returncode == 0, done.stderr
    records = json.loads((out / "records.json").read_text(encoding="utf-8"))
    assert records["/moxie/nodes/n1"]["data"]["state"] == "joined"
    assert "/moxie/services/cron" in records
    assert not [path for path in records if path.startswith("/moxie/sessions")]
    journals = list((out / "journal" / "n1").iterdir())
    assert len(journals) >= 1
    found = replay(read_journal(journals[0]), Machine, Machine.restore)
    assert found.machines >= 1
    assert found.difference is None


def test_a_client_without_a_certificate_of_the_rack_gets_nothing(two: Rack, tmp_path: Path) -> None:
    other = Rack(tmp_path)
    prepare(other.plan)
    done = rack("status", "--config", other.operator)
    assert done.returncode == 2
    assert "certificate" in done.stderr
    assert "Traceback" not in done.stderr


def test_when_all_has_ended_nothing_is_left_and_the_commands_say_so(two: Rack) -> None:
    two.stop()
    assert two.left_over() == []
    done = rack("status", "--config", two.operator)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("the ensemble cannot be reached (n1 n2: connection refused); ")
    done = rack("drain", "n1", "--config", two.operator)
    assert done.returncode == 2
    assert done.stderr.startswith("the ensemble cannot be reached")
    assert all(segments(two.folder / node / "state" / "journal") for node in two.nodes)
