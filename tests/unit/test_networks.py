"""The tables of an inventory about networks: every mistake is said, with what is allowed."""

import ipaddress
from pathlib import Path

import pytest

from core.errors import InputError
from core.ids import NodeId
from drivers.config import load_config
from drivers.inventory import read_inventory
from drivers.networks import BootTable

NODE = '[[node]]\nid = "n1"\nnumber = 1\naddress = "10.98.0.1"\n'
NODE2 = NODE.replace("n1", "n2").replace("= 1", "= 2").replace("0.1", "0.2")
BOOT = '[boot]\nsubnet = "10.98.0.0/24"\npool = "10.98.0.200-10.98.0.240"\ngateway = "10.98.0.254"\n'
NETWORK = """[[network]]
name = "mgmt"
subnet = "10.97.0.0/24"
[[network.access]]
name = "lab"
driver = "ipmi"
user = "root"
password_file = "bmc/lab"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "inventory.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_networks_and_the_boot_network_are_read_with_absolute_paths(tmp_path: Path) -> None:
    found = read_inventory(written(tmp_path, NODE + NETWORK + BOOT))
    (network,) = found.networks
    assert (network.name, network.rack, network.power_domain) == ("mgmt", "r1", "p1")
    assert network.access[0].password_file == tmp_path / "bmc" / "lab"
    assert network.access[0].at_port == 623
    assert network.has("10.97.0.7")
    assert not network.has("10.98.0.7")
    assert not network.has("nonsense")
    assert found.boot is not None
    assert found.boot.address_of(6) == "10.98.0.6"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            NETWORK.replace("/24", "/8").replace("10.97.0.0", "10.0.0.0"),
            "has 16777216 addresses; allowed: 4096 at most",
        ),
        (NETWORK.replace("10.97.0.0/24", "fd00::/64"), r"has 2\^64 addresses; allowed: 4096 at most, /116 or smaller"),
        (NETWORK.replace("10.97.0.0/24", "fd00::/64"), r"or its BMCs one by one: addresses in \[\[network\]\]"),
        (NETWORK.replace("10.97.0.0/24", "fe80::/120"), "is good on one link only"),
        (NETWORK.replace("10.97.0.0/24", "fd00::1%eth0/128"), "is good on one link only"),
        (NETWORK.replace("10.97.0.0/24", "::ffff:10.97.0.0/120"), 'IPv4 in disguise; did you mean "10.97.0.0/24"'),
        (
            NETWORK.replace("10.97.0.0/24", 'fd00::/64"\naddresses = ["fd00::1", "fd01::1"]\nrack = "r1'),
            r'addresses\[1\] = "fd01::1": allowed: an address of fd00::/64',
        ),
        (
            NETWORK.replace("10.97.0.0/24", 'fd00::/64"\naddresses = ["host"]\nrack = "r1'),
            "allowed: an address of fd00::/64",
        ),
        (NETWORK.replace("10.97.0.0/24", "10.97.0.7/24"), 'did you mean "10.97.0.0/24"'),
        (NETWORK.replace("10.97.0.0/24", "here"), 'network\\[0\\].subnet = "here": allowed: a subnet such as'),
        (NETWORK.replace("10.97.0.0/24", "224.0.0.0/24"), "no machine has such an address"),
        (NETWORK + NETWORK, 'network\\[1\\].name = "mgmt": this name is used twice'),
        (NETWORK + NETWORK.replace("mgmt", "other"), r"network\[1\].subnet .* overlaps network\[0\].subnet"),
        (NETWORK.replace("lab", "inventory", 1), r"access\[0\].name = .*means those of \[node.bmc\]"),
        (NETWORK.replace('password_file = "bmc/lab"\n', ""), "password_file is missing"),
        (NETWORK.replace('"ipmi"', '"telnet"'), 'allowed: "ipmi", "redfish"'),
        (BOOT.replace("10.98.0.0/24", "fd00::/64"), "boot.subnet .*allowed: an IPv4 subnet"),
        (BOOT.replace("10.98.0.200-10.98.0.240", "10.98.0.200"), "boot.pool .*allowed: two addresses of 10.98.0.0/24"),
        (BOOT.replace("10.98.0.200-10.98.0.240", "10.98.0.240-10.98.0.200"), "the lower first"),
        (BOOT.replace("10.98.0.240", "10.98.0.255"), "without 10.98.0.0/24's first and last address"),
        (BOOT.replace("10.98.0.200-", "10.98.0.1-"), r'node\[0\].address = "10.98.0.1": is in boot.pool'),
        (BOOT.replace("10.98.0.254", "10.98.0.220"), "boot.gateway .*is in boot.pool"),
        (BOOT.replace("10.98.0.254", "10.99.0.1"), "boot.gateway .*allowed: an address of 10.98.0.0/24"),
        (BOOT.replace("10.98.0.254", "router"), "boot.gateway .*allowed: an IPv4 address"),
        (BOOT + 'install = "vda"\n', "boot.install .*allowed: a disk such as"),
        (
            NODE.replace("n1", "n2").replace("= 1", "= 2").replace("0.1", "0.9") + BOOT,
            "allowed in boot.subnet: 10.98.0.2",
        ),
    ],
)
def test_every_mistake_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_inventory(written(tmp_path, NODE + text))


@pytest.mark.parametrize(
    ("line", "said"),
    [('uuid = "x"', "allowed: a UUID"), ('macs = ["52:54"]', "allowed: a hardware address")],
)
def test_an_identity_of_the_inventory_must_be_one(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_inventory(written(tmp_path, NODE + line + "\n"))


def test_numbers_without_an_address_are_never_given_to_a_machine() -> None:
    boot = BootTable(subnet="10.98.0.0/28", pool="10.98.0.8-10.98.0.12", gateway="10.98.0.14")
    free = [number for number in range(1, 256) if number not in boot.forbidden()]
    assert free == [1, 2, 3, 4, 5, 6, 7, 13]


def test_a_machines_opening_names_the_networks_and_what_is_taken(tmp_path: Path) -> None:
    written(tmp_path, NODE + NETWORK + BOOT)
    (tmp_path / "catalog.toml").write_text('name = "none"\n[[service]]\nname = "ntp"\nrun = "everywhere"\n')
    node = 'node = "n1"\ninventory = "inventory.toml"\ncatalog = "catalog.toml"\nstate_dir = "s"\nrun_dir = "r"\n'
    (tmp_path / "node.toml").write_text(node + "[zookeeper]\nserver = false\n", encoding="utf-8")
    opening = load_config(tmp_path / "node.toml").opening
    assert opening.networks == ("mgmt",)
    assert {254, 200, 240, 255} <= set(opening.taken)
    assert not {1, 2, 199, 241} & set(opening.taken)
    assert not opening.node.voter
    assert opening.node.number == 1
    assert [spec.id for spec in opening.inventory] == [NodeId("n1")]


def test_of_a_subnet_that_nobody_can_look_through_single_addresses_are_asked(tmp_path: Path) -> None:
    text = NETWORK.replace("10.97.0.0/24", 'fd00::/64"\naddresses = ["fd00::b", "fd00:0::0C", "fd00::b"]\nrack = "r1')
    (network,) = read_inventory(written(tmp_path, NODE + text)).networks
    assert network.hosts == ("fd00::b", "fd00::c")
    assert network.within(ipaddress.ip_network("fd00::c/128")).hosts == ("fd00::c",)
    assert network.has("fd00::1:0:0:9")
