"""BMCs in an IPv6 management network: found in a small subnet or by their addresses, and powered."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.identity import same_machine
from tests.real.many_bmcs import SUBNET_6, ManyBmcs
from tests.real.require import require

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("discovery")]

COUNT = 3
RACK = (sys.executable, "-m", "drivers.cli")
ORDER = """
import sys
from pathlib import Path
from drivers import bmc
from drivers.bmc import Limit
from drivers.clock import now_ms
from drivers.inventory import read_inventory
from drivers.power import open_table
machine = next(iter(read_inventory(Path(sys.argv[1])).machines.values()))
print(bmc.order(open_table(machine.bmc), sys.argv[2], Limit(now_ms, now_ms() + 60_000), lambda: None))
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManyBmcs]:
    with ManyBmcs(tmp_path_factory.mktemp("many6"), COUNT, ipv6=True) as made:
        yield made


def found_by(many: ManyBmcs, *words: str) -> dict[str, dict[str, object]]:
    """What ``rack scan`` finds, by address."""
    done = many.run(*RACK, "scan", *words, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    return {one["address"]: one for network in json.loads(done.stdout)["networks"] for one in network["found"]}


def inventory(many: ManyBmcs, folder: Path) -> Path:
    """A rack whose node n2 has the first BMC, and which looks at single addresses of the whole /64."""
    listed = ", ".join(f'"{address}"' for address in many.addresses)
    text = '[[node]]\nid = "n2"\nnumber = 2\naddress = "10.98.0.2"\n[node.bmc]\ndriver = "ipmi"\n'
    text += f'address = "{many.addresses[0]}"\npassword_file = "{many.password}"\n[[network]]\nname = "mgmt"\n'
    text += f'subnet = "fd97::/64"\naddresses = [{listed}]\n[[network.access]]\nname = "lab"\n'
    text += f'password_file = "{many.password}"\n'
    (folder / "inventory.toml").write_text(text, encoding="utf-8")
    (folder / "catalog.toml").write_text('name = "none"\n[[service]]\nname = "ntp"\nrun = "everywhere"\n')
    operator = folder / "operator.toml"
    operator.write_text('inventory = "inventory.toml"\ncatalog = "catalog.toml"\n', encoding="utf-8")
    return operator


def test_a_small_subnet_is_looked_through(many: ManyBmcs) -> None:
    found = found_by(many, SUBNET_6, "--user", "admin", "--password-file", str(many.password))
    assert sorted(found) == sorted(many.addresses)
    for address, uuid in zip(many.addresses, many.uuids, strict=True):
        assert same_machine(str(found[address]["guid"]), uuid)
        assert (found[address]["power"], found[address]["access"]) == ("off", "ipmi")
        assert found[address]["bmc"] == f"[{address}]:623"


def test_single_addresses_of_a_large_one_are_asked(many: ManyBmcs, tmp_path: Path) -> None:
    found = found_by(many, "--config", str(inventory(many, tmp_path)))
    assert sorted(found) == sorted(many.addresses)
    assert [found[address]["known_as"] for address in many.addresses] == ["n2", "", ""]
    one = found_by(many, many.addresses[1], "--config", str(tmp_path / "operator.toml"))
    assert list(one) == [many.addresses[1]]
    done = many.run(*RACK, "scan", "fd97::/64", "--user", "admin", "--password-file", str(many.password))
    assert done.returncode == 2
    assert "has 2^64 addresses; allowed: 4096 at most, /116 or smaller; or its BMCs one by one" in done.stderr


def test_power_is_ordered_over_ipv6(many: ManyBmcs, tmp_path: Path) -> None:
    inventory(many, tmp_path)
    for order, on in (("on", True), ("off", False)):
        done = many.run(sys.executable, "-c", ORDER, str(tmp_path / "inventory.toml"), order)
        assert done.stdout.strip() == str(on), done.stderr
        assert (many.folders[0] / "on").exists() is on


def test_what_a_bmc_says_of_itself_is_asked_over_ipv6(many: ManyBmcs) -> None:
    require("ipmitool")
    words = ("ipmitool", "-I", "lanplus", "-C", "3", "-H", many.addresses[1], "-U", "admin", "-f", str(many.password))
    done = many.run(*words, "chassis", "power", "status")
    assert done.stdout.strip() == "Chassis Power is off", done.stderr
