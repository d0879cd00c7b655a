"""``rack check``: what each finding is made of, and that every one that matters comes with a remedy."""

import json
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from core.ids import NodeId
from core.specs import Timing
from drivers.access import load_access
from drivers.bmc import Sensor, Survey
from drivers.check import exit_code, to_json
from drivers.check_bmc import check_bmcs
from drivers.check_ceph import check_ceph, judge_health, judge_room
from drivers.check_machine import check_machine, secrets_of
from drivers.check_rack import (
    check_agents,
    check_certificates,
    check_ensemble,
    check_members,
    check_names,
    check_timing,
)
from drivers.config import BmcTable, CephTable, Config, Machine, load_config
from drivers.finding import Finding, count, error, findings_text, ok, warning
from drivers.init import CephAccess, node_folder, operator_file, prepare
from formats.paint import Paint
from tests.unit.made_rack import member_record, plan, rack_state

WITH_VOLUME = 'name = "x"\n[[service]]\nname = "db"\nrun = "singleton"\nvolume = "db"\nfence = "storage"\n'


def bad(findings: Iterable[Finding]) -> list[str]:
    """Errors and warnings as text; each must have a remedy."""
    found = [finding for finding in findings if finding.severity in ("error", "warning")]
    assert [finding for finding in found if not finding.remedy] == []
    return [f"{finding.severity} {finding.check} {finding.about}: {finding.measured}" for finding in found]


def node(folder: Path, name: str = "n1", **changes: object) -> Config:
    """The configuration of a node of a rack in the folder."""
    wanted = plan(folder, **changes)
    prepare(wanted)
    return load_config(node_folder(wanted.out, NodeId(name)) / "node.toml")


def test_a_secret_that_others_may_read_is_an_error_with_the_command_that_mends_it(tmp_path: Path) -> None:
    config = node(tmp_path)
    assert bad(secrets_of(config)) == []
    assert config.tables.heartbeat_key is not None
    config.tables.heartbeat_key.chmod(0o644)
    found = [finding for finding in secrets_of(config) if finding.severity == "error"]
    assert [(f.measured, f.remedy) for f in found] == [
        ("others may read it (mode 0644)", f"chmod 600 {config.tables.heartbeat_key}")
    ]
    config.tables.heartbeat_key.unlink()
    assert "cannot be read (no such file or directory)" in bad(secrets_of(config))[0]


def test_a_node_without_certificates_is_open_to_everybody_and_told_so(tmp_path: Path) -> None:
    config = node(tmp_path)
    file = config.file
    file.write_text(file.read_text().split("[tls]")[0], encoding="utf-8")
    assert any("no [tls]: everybody on the network" in line for line in bad(secrets_of(load_config(file))))


def test_a_taken_port_a_missing_interface_and_a_missing_watchdog_are_found(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        catalog = tmp_path / "catalog.toml"
        catalog.write_text(
            'name = "x"\n[[service]]\nname = "vip"\nrun = "singleton"\naddress = "10.9.0.99"\n', encoding="utf-8"
        )
        wanted = plan(
            tmp_path,
            settings={
                "zookeeper": {"client_port": port},
                "watchdog": "/dev/null-dog",
                "address": {"interface": "mx-none"},
            },
        )
        inventory = wanted.inventory
        inventory.write_text(inventory.read_text().replace('"10.9.0.1"', '"127.0.0.1"'), encoding="utf-8")
        prepare(wanted)
        found = "\n".join(bad(check_machine(load_config(node_folder(wanted.out, NodeId("n1")) / "node.toml"))))
    assert f"error ports zookeeper.client_port 127.0.0.1 {port}: cannot be taken (address already in use)" in found
    assert "error interface mx-none: does not exist" in found
    assert "error watchdog /dev/null-dog: is no such device" in found


def test_an_address_that_this_machine_does_not_have_is_said_as_that(tmp_path: Path) -> None:
    found = "\n".join(bad(check_machine(node(tmp_path))))
    assert "this machine does not have that address" in found


def test_an_old_kernel_and_a_user_without_rights_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = node(tmp_path)
    monkeypatch.setattr("platform.release", lambda: "4.19.0-27-amd64")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    found = {finding.check: finding for finding in check_machine(config) if finding.severity == "error"}
    assert (found["kernel"].measured, found["kernel"].remedy) == (
        "older than any that this was tried on",
        "Linux 5.10 or newer",
    )
    assert found["rights"].measured == "runs as user 1000"


def test_too_little_room_for_the_journal_is_an_error(tmp_path: Path) -> None:
    config = node(tmp_path, settings={"journal_mib": 1_000_000})
    assert any("error disk state_dir" in line and "MiB needed" in line for line in bad(check_machine(config)))


def test_certificates_are_judged_by_days_left_owner_and_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    config, other = node(tmp_path / "a"), node(tmp_path / "b", "n2")
    assert config.tables.tls is not None
    assert other.tables.tls is not None
    assert bad(check_certificates(config)) == []
    assert bad(check_names(config)) == []
    ends_ms = load_days(config, -40)
    with monkeypatch.context() as later:
        later.setattr("drivers.ca.wall_ms", lambda: ends_ms)
        assert ["warning certificates" in line for line in bad(check_certificates(config))] == [True]
        later.setattr("drivers.ca.wall_ms", lambda: load_days(config, +1))
        assert "ends in -1 days" in bad(check_certificates(config))[0]
    config.tables.tls.cert.write_bytes(other.tables.tls.cert.read_bytes())
    assert "is not signed by the rack's authority" in bad(check_certificates(config))[0]
    assert "is CN=n2,O=rack's" in bad(check_names(config))[0]


def load_days(config: Config, days: int) -> int:
    """The moment so many days after the certificate ends."""
    from drivers.ca import read

    assert config.tables.tls is not None
    return read(config.tables.tls.cert).ends_ms + days * 86_400_000


@pytest.mark.parametrize(
    ("tick", "severity"), [(500, "ok"), (1_000, "warning"), (1_001, "error")], ids=["4 ticks", "2 ticks", "fewer"]
)
def test_a_session_must_last_two_ticks(tmp_path: Path, tick: int, severity: str) -> None:
    config = node(tmp_path, settings={"zookeeper": {"tick_ms": tick}})
    assert [finding.severity for finding in check_timing(config)] == [severity]


def test_the_ensemble_is_judged_by_its_voters_leaders_and_versions() -> None:
    seen = dict(rack_state().servers)
    found = "\n".join(bad(check_ensemble(seen, (NodeId("n1"), NodeId("n2"), NodeId("n3")))))
    assert "error ensemble n3: a voter whose server does not serve: no answer in time" in found
    from drivers.rack_state import Server

    seen[NodeId("n3")] = Server(mode="leader", version="3.9.1")
    found = "\n".join(bad(check_ensemble(seen, (NodeId("n1"), NodeId("n2"), NodeId("n3")))))
    assert "2 servers say that they lead: n2 n3" in found
    assert "servers of 3.8.0 and 3.9.1" in found
    gone = {node: Server(error="connection refused") for node in seen}
    assert bad(check_ensemble(gone, ())) == ["error ensemble ZooKeeper: no server answers (connection refused)"]


def test_agents_are_judged_by_what_they_show_and_by_their_clocks() -> None:
    rack = rack_state()
    found = "\n".join(bad(check_agents(rack.agents, rack.members)))
    assert "n5: a member whose agent shows nothing: connection refused" in found
    assert "warning clocks n2: 3000 ms behind this machine" in found
    assert "n3" not in found  # a lost node's agent is expected to be silent


def test_what_members_say_of_themselves_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text(WITH_VOLUME, encoding="utf-8")
    config = node(tmp_path, ceph=CephAccess(conf=Path("/etc/ceph/ceph.conf")))
    members = {NodeId("n1"): member_record("n1", storage_ok=False), NodeId("n2"): member_record("n2", unfit=("db",))}
    found = "\n".join(bad(check_members(config, members)))
    assert "error members n1: cannot write to the storage" in found
    assert "warning members n2: unfit for db" in found


def machine(name: str) -> Machine:
    """A machine with a BMC."""
    bmc = BmcTable(driver="ipmi", address=f"10.8.0.{name[1:]}", password_file=Path("x"))
    return Machine(id=name, number=int(name[1:]), address=f"10.9.0.{name[1:]}", bmc=bmc)


def test_bmcs_are_judged_by_credentials_passwords_sensors_and_who_they_really_are() -> None:
    twin = "11111111-1111-1111-1111-111111111111"
    surveys = {
        "n1": Survey(on=True, uuids=(twin,), default_password="Dell iDRAC"),
        "n2": Survey(on=False, uuids=(twin,), sensors=(Sensor(name="Fan 1", value="0 RPM", ok=False),)),
        "n3": Survey(problem="the BMC does not accept the password", kind="credentials"),
        "n4": Survey(problem="no answer within the limit", kind="silent"),
    }
    machines = {NodeId(name): machine(name) for name in surveys}
    without = Machine(id="n5", number=5, address="10.9.0.5")
    findings = list(check_bmcs({**machines, NodeId("n5"): without}, lambda one: surveys[one.id]))
    found = "\n".join(bad(findings))
    assert "error bmc n1 (ipmi 10.8.0.1): its password is the factory default of Dell iDRAC" in found
    assert "warning bmc n2 (ipmi 10.8.0.2): sensor Fan 1 is 0 RPM" in found
    assert "error bmc n3 (ipmi 10.8.0.3): the BMC does not accept the password" in found
    assert "error bmc n4 (ipmi 10.8.0.4): no answer within the limit" in found
    assert f"error bmc n1, n2: both have the UUID {twin}" in found
    assert "warning bmc n5: no BMC in the inventory" in found
    remedies = {finding.about.split()[0]: finding.remedy for finding in findings if finding.severity == "error"}
    assert "password_file" in remedies["n3"]
    assert "power and cable" in remedies["n4"]


def test_the_storages_health_is_passed_on_check_by_check() -> None:
    status: dict[str, Any] = {
        "health": {
            "status": "HEALTH_ERR",
            "checks": {
                "OSD_FULL": {"severity": "HEALTH_ERR", "summary": {"message": "1 full osd(s)"}},
                "MON_CLOCK_SKEW": {"severity": "HEALTH_WARN", "summary": {"message": "clock skew on mon.b"}},
            },
        },
        "quorum_names": ["a", "b"],
        "monmap": {"num_mons": 3},
    }
    assert bad(judge_health(status)) == [
        "warning ceph health MON_CLOCK_SKEW: clock skew on mon.b",
        "error ceph health OSD_FULL: 1 full osd(s)",
        "warning ceph monitors storage: 2 of 3 agree",
    ]
    assert bad(judge_health({"health": {"status": "HEALTH_OK"}, "quorum_names": ["a"], "monmap": {"num_mons": 1}})) == [
        "warning ceph monitors storage: 1 monitor"
    ]


@pytest.mark.parametrize(("used", "severity"), [(0.3, "ok"), (0.86, "warning"), (0.95, "error")], ids=str)
def test_a_storage_is_judged_by_how_far_it_is_from_full(used: float, severity: str) -> None:
    dump = {"nearfull_ratio": 0.85, "backfillfull_ratio": 0.9, "full_ratio": 0.95}
    found = list(judge_room(dump, {"stats": {"total_used_raw_ratio": used}}))
    assert [finding.severity for finding in found] == [severity]


def test_ratios_in_the_wrong_order_are_found() -> None:
    dump = {"nearfull_ratio": 0.97, "backfillfull_ratio": 0.9, "full_ratio": 0.95}
    assert any("full ratios" in line for line in bad(judge_room(dump, {"stats": {"total_used_raw_ratio": 0.1}})))


def test_a_missing_keyring_is_the_one_finding_about_ceph(tmp_path: Path) -> None:
    table = CephTable(conf=tmp_path / "ceph.conf", keyring=tmp_path / "keyring")
    assert bad(check_ceph(table, Timing())) == [f"error ceph {tmp_path / 'keyring'}: the keyring is missing"]


def test_a_missing_configuration_of_ceph_is_a_finding_and_no_traceback(tmp_path: Path) -> None:
    assert "ceph.conf does not exist" in bad(check_ceph(CephTable(conf=tmp_path / "ceph.conf"), Timing()))[0]


FINDINGS = (ok("a", "x", "fine"), error("b", "y", "broken", "mend it"), warning("c", "z", "so so", "look"))


def test_the_list_shows_the_worst_first_with_its_remedy_and_counts() -> None:
    lines = findings_text(FINDINGS, Paint(False)).splitlines()
    assert lines[:2] == ["error   b: y: broken", "          → mend it"]
    assert lines[-1] == "1 error, 1 warning, 1 ok"
    assert findings_text((), Paint(False)).strip() == "nothing to check"


def test_the_exit_code_says_whether_anything_is_unsafe() -> None:
    assert exit_code(FINDINGS) == 1
    assert exit_code(FINDINGS[:1] + FINDINGS[2:]) == 0
    found = json.loads(to_json(FINDINGS))
    assert found["counts"] == {"error": 1, "warning": 1, "note": 0, "ok": 1}
    assert found["findings"][1]["remedy"] == "mend it"
    assert count(()) == {"error": 0, "warning": 0, "note": 0, "ok": 0}


def test_an_operators_file_is_no_node(tmp_path: Path) -> None:
    from drivers.check_rack import local_only

    wanted = plan(tmp_path)
    prepare(wanted)
    access = load_access(operator_file(wanted.out))
    assert [finding.severity for finding in local_only(access)] == ["note"]
