"""Forty real BMCs of machines that are off, in a network of their own: found, told apart, and never locked."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.identity import same_machine
from drivers.lab import bmcs
from tests.real.many_bmcs import SUBNET, ManyBmcs

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("discovery")]

COUNT = 40
RACK = (sys.executable, "-m", "drivers.cli")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManyBmcs]:
    with ManyBmcs(tmp_path_factory.mktemp("many"), COUNT) as made:
        yield made


def scan(many: ManyBmcs, *words: str) -> tuple[int, dict[str, dict[str, object]], int]:
    """Exit code, what was found by address, and how long the look took in ms."""
    done = many.run(*RACK, "scan", *words, "--json")
    assert done.returncode in (0, 1, 2), done.stderr
    (network,) = json.loads(done.stdout)["networks"]
    return done.returncode, {one["address"]: one for one in network["found"]}, network["took_ms"]


def test_all_are_found_in_about_a_second_with_their_identities_and_their_power(many: ManyBmcs) -> None:
    code, found, ms = scan(many, SUBNET, "--user", "admin", "--password-file", str(many.password))
    assert code == 0
    assert sorted(found) == sorted(many.addresses)
    for address, uuid in zip(many.addresses, many.uuids, strict=True):
        assert same_machine(str(found[address]["guid"]), uuid)
        assert uuid in found[address]["uuids"]  # type: ignore[operator]  # a list
        assert (found[address]["power"], found[address]["access"]) == ("off", "ipmi")
    assert ms < 60_000, "1.1 s of looking, the rest are logins (measured: 1.9 s in all)"


def test_those_behind_many_dead_addresses_are_found_too(tmp_path: Path) -> None:
    """Packets to addresses where nobody lives wait for seconds in the socket; they must not keep others out."""
    with ManyBmcs(tmp_path, 4, first=240) as last:
        code, found, _ = scan(last, SUBNET)
        assert (code, sorted(found)) == (0, sorted(last.addresses))


def test_without_credentials_nobody_is_logged_into(many: ManyBmcs) -> None:
    code, found, _ = scan(many, SUBNET)
    assert (code, len(found)) == (0, COUNT)
    assert {one["power"] for one in found.values()} == {""}


def test_a_wrong_password_is_said_for_each_and_a_silent_bmc_keeps_nobody_waiting(many: ManyBmcs) -> None:
    wrong = many.folder / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("nonsense\n", encoding="utf-8")
    bmcs.freeze(many.folders[5])
    try:
        code, found, ms = scan(many, SUBNET, "--user", "admin", "--password-file", str(wrong))
    finally:
        bmcs.thaw(many.folders[5])
    assert code == 2, "bad credentials are bad input"
    assert many.addresses[5] not in found
    assert len(found) == COUNT - 1
    assert all(str(one["problem"]).startswith("refuses every credential") for one in found.values())
    assert ms < 5_000


def test_a_network_without_a_way_there_is_bad_input(many: ManyBmcs) -> None:
    done = many.run(*RACK, "scan", "10.99.0.0/24")
    assert done.returncode == 2
    assert "cannot be reached (network is unreachable)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_look_is_restricted_to_the_inventorys_networks(many: ManyBmcs, tmp_path: Path) -> None:
    inventory = '[[node]]\nid = "n1"\nnumber = 1\naddress = "10.97.0.1"\n[[network]]\nname = "mgmt"\n'
    inventory += f'subnet = "10.97.0.0/28"\n[[network.access]]\nname = "lab"\npassword_file = "{many.password}"\n'
    (tmp_path / "inventory.toml").write_text(inventory, encoding="utf-8")
    (tmp_path / "catalog.toml").write_text('name = "none"\n[[service]]\nname = "ntp"\nrun = "everywhere"\n')
    operator = tmp_path / "operator.toml"
    operator.write_text('inventory = "inventory.toml"\ncatalog = "catalog.toml"\n', encoding="utf-8")
    code, found, _ = scan(many, "--config", str(operator))
    assert (code, sorted(found)) == (0, [f"10.97.0.{number}" for number in (11, 12, 13, 14)])
    assert {one["access"] for one in found.values()} == {"lab"}
    done = many.run(*RACK, "scan", SUBNET, "--config", str(operator))
    assert done.returncode == 2
    assert "is in no [[network]]" in done.stderr
