"""``rack scan`` as a person meets it: what is asked of them, what they read, and the exit code."""

import json
import os
from pathlib import Path

import pytest

from core.events import Seen
from core.ids import DomainId, Guid, NodeId, RackId
from drivers.cli import main
from drivers.discovery import Answered
from drivers.networks import AccessTable, NetworkTable
from drivers.redfish_root import Root
from drivers.scan import Sighting
from drivers.scan_command import Looked, to_json, to_text
from formats.paint import Paint

GUID = "00112233445566778899aabbccddeeff"
NET = NetworkTable(name="mgmt", subnet="10.97.0.0/24", access=(AccessTable(name="lab", password_file=Path("x")),))


def sighting(last: int, problem: str = "", **changes: object) -> Sighting:
    seen = Seen(
        bmc=f"10.97.0.{last}:623", guid=Guid(GUID), rack=RackId("r1"), power_domain=DomainId("p1"), problem=problem
    )
    fields: dict[str, object] = {
        "address": f"10.97.0.{last}",
        "answered": Answered(ipmi=True, v2=True, guid=GUID),
        "seen": seen,
        "problem": problem,
        "access": "" if problem else "lab",
        "on": None if problem else False,
    }
    return Sighting(**{**fields, **changes})  # type: ignore[arg-type]  # as tests need them


def text(*sightings: Sighting, network: NetworkTable = NET) -> str:
    return to_text([Looked(network=network, sightings=sightings, ms=1_100)], Paint(False))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("drivers.scan_command.PLACES", ())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "nowhere to look; needed: a SUBNET"),
        ("10.0.0.0/8", "has 16777216 addresses; allowed: 4096 at most, /20 or smaller"),
        ("10.97.0.9/24", 'did you mean "10.97.0.0/24"?'),
        ("rack", "allowed: a subnet such as"),
        ("10.97.0.0/24 10.0.0.0/9", "has 8388608 addresses"),
        ("10.97.0.0/24 --user admin", "--user and --password-file belong together"),
        (
            "10.97.0.0/24 --user admin --password-file nowhere",
            "password file nowhere cannot be read (no such file or directory); needed: a file of its owner",
        ),
        ("10.97.0.0/24 --user admin --password-file open", "has mode 0644; needed: chmod 600"),
        ("10.97.0.0/24 --user admin --password-file empty", "is empty; needed: the password as its first line"),
        ("--config nowhere.toml", "nowhere.toml: cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_2(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "open").write_text("word\n", encoding="utf-8")
    (tmp_path / "open").chmod(0o644)
    os.close(os.open(tmp_path / "empty", os.O_CREAT, 0o600))
    assert main(["scan", *words.split()]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""


def test_each_bmc_is_a_row_and_each_form_of_its_identity_a_line() -> None:
    lines = text(sighting(7, known_as=NodeId("n6"), on=True), sighting(8, redfish=Root(version="1.6.0"))).splitlines()
    assert lines[0] == "10.97.0.0/24: 2 BMCs of 256 addresses, 2 can be used  1.1 s"
    assert lines[2].split() == ["10.97.0.7", "IPMI", "2.0", "00112233-4455-6677-8899-aabbccddeeff", "n6", "lab", "on"]
    assert lines[3].strip() == "33221100-5544-7766-8899-aabbccddeeff (first fields swapped)"
    assert lines[4].strip() == "ffeeddcc-bbaa-9988-7766-554433221100 (all reversed)"
    assert "IPMI 2.0, Redfish 1.6.0" in lines[5]
    assert lines[5].split()[-3:] == ["new", "lab", "off"]


def test_a_problem_is_said_once_with_everybody_it_is_about() -> None:
    shown = text(*(sighting(last, "refuses") for last in range(1, 12)), sighting(20, "sends two identities"))
    assert "12 BMCs of 256 addresses, 0 can be used" in shown
    assert "10.97.0.8 and 3 more: refuses\n" in shown
    assert "  10.97.0.20: sends two identities\n" in shown
    assert shown.count("none accepted") == 12


def test_without_credentials_nothing_is_wrong_and_nobody_was_tried() -> None:
    bare = NetworkTable(name="given", subnet="10.97.0.0/24")
    shown = text(sighting(7, "no [[network.access]] is given", on=None), network=bare)
    assert "no credentials are given: none was tried" in shown
    assert "not tried" in shown
    assert "[[network.access]]" not in shown


def test_nobody_and_nonsense_are_shown_as_well() -> None:
    assert text() == "10.97.0.0/24: no BMC at 256 addresses answered  1.1 s\n"
    odd = sighting(9, answered=Answered(ipmi=True, guid="0" * 32), seen=None, access="")
    assert "00000000-0000-0000-0000-000000000000 (no identity)" in text(odd)
    assert "\x1b" not in text(sighting(9, "x\x1b[2J"))


def test_the_json_has_every_form_by_name() -> None:
    shown = json.loads(to_json([Looked(network=NET, sightings=(sighting(7), sighting(8, "refuses")), ms=5)]))
    first, second = shown["networks"][0]["found"]
    assert (first["bmc"], first["power"], first["access"], first["ipmi_2"]) == ("10.97.0.7:623", "off", "lab", True)
    assert first["uuids"][2] == "ffeeddcc-bbaa-9988-7766-554433221100"
    assert (second["problem"], second["power"]) == ("refuses", "")
