"""What iPXE and dnsmasq are told, word for word."""

import ipaddress
from pathlib import Path

import msgspec
import pytest

from core.ids import Guid, ImageId, NodeId
from drivers.netboot.dnsmasq import Ears, Expected, dhcp_config, tftp_config, uuid_bytes
from drivers.netboot.place import Place
from drivers.netboot.script import Given, boot_script, first_script, kernel_words, leave_script, wait_script

PLACE = Place(
    interface="eth1",
    server="10.98.0.1",
    subnet=ipaddress.IPv4Network("10.98.0.0/24"),
    pool=("10.98.0.200", "10.98.0.250"),
    gateway="10.98.0.254",
    ca="ab" * 32,
)
N6 = NodeId("n6")
GUID = Guid("11223344556677889900aabbccddee06")
GIVEN = Given(
    node=N6,
    address="10.98.0.6",
    mac="52:54:00:98:00:06",
    image=ImageId("0123456789abcdef"),
    token="f" * 64,
    words="quiet  net.ifnames=0",
)


def test_the_command_line_is_the_contract_with_the_initramfs_and_the_join_client() -> None:
    assert kernel_words(PLACE, GIVEN) == (
        "console=ttyS0 quiet net.ifnames=0 moxie.node=n6 moxie.ip=10.98.0.6/24 moxie.gw=10.98.0.254 "
        "moxie.mac=52:54:00:98:00:06 moxie.server=10.98.0.1 moxie.http=8080 moxie.join=8443 "
        f"moxie.ca={'ab' * 32} moxie.image=0123456789abcdef moxie.token={'f' * 64}"
    )


def test_a_rack_without_gateway_or_disk_says_nothing_of_them() -> None:
    bare = msgspec.structs.replace(PLACE, gateway="", disk="")
    words = kernel_words(bare, GIVEN)
    assert "moxie.gw" not in words
    assert "moxie.disk" not in words
    assert "moxie.disk=/dev/vda " in kernel_words(msgspec.structs.replace(PLACE, disk="/dev/vda"), GIVEN)


def test_a_boot_script_loads_kernel_and_initrd_and_tries_again_a_bounded_number_of_times() -> None:
    script = boot_script(PLACE, GIVEN, efi=False)
    assert script.startswith("#!ipxe\n")
    assert "kernel http://10.98.0.1:8080/images/0123456789abcdef/vmlinuz console=ttyS0" in script
    assert "initrd --name initrd.img http://10.98.0.1:8080/images/0123456789abcdef/initrd.img || goto again" in script
    assert "iseq ${tries} 60 && exit 1" in script


def test_only_a_uefi_kernel_is_told_the_name_of_its_initrd() -> None:
    assert "vmlinuz initrd=initrd.img console" in boot_script(PLACE, GIVEN, efi=True)
    assert "initrd=" not in boot_script(PLACE, GIVEN, efi=False)


def test_whoever_must_wait_asks_again_in_place_of_the_old_script() -> None:
    assert "sleep 7\nchain --replace http://10.98.0.1:8080/node.ipxe?uuid=${uuid}" in wait_script(PLACE, 7)
    assert "chain --replace http://10.98.0.1:8080/node.ipxe?uuid=${uuid}&mac=${mac:hexhyp}" in first_script(PLACE)


def test_a_stranger_goes_on_to_its_own_disk() -> None:
    assert leave_script("unknown machine").endswith("(unknown machine)\nexit 1\n")


def test_an_identity_is_expected_in_every_order_of_bytes_that_firmware_sends() -> None:
    sent = [raw.hex() for raw in uuid_bytes(GUID)]
    assert sent == [
        "11223344556677889900aabbccddee06",
        "44332211665588779900aabbccddee06",
        "06eeddccbbaa00998877665544332211",
        "ccddee06aabb99008877665544332211",
    ]
    assert uuid_bytes("00" * 16) == ()


def _config(*expected: Expected, place: Place = PLACE) -> list[str]:
    return dhcp_config(place, Path("/run/leases"), expected).splitlines()


def test_without_an_open_window_dhcp_answers_nobody() -> None:
    lines = _config()
    assert "dhcp-ignore=tag:!ours" in lines
    assert not [line for line in lines if "set:ours" in line]


def test_a_machine_gets_the_address_that_it_will_keep_and_clones_get_far_enough_to_be_seen() -> None:
    machine = Expected(node=N6, address="10.98.0.6", guid=GUID, macs=("52:54:00:98:00:06",))
    lines = _config(machine)
    assert "dhcp-match=set:is-n6,97,00:44:33:22:11:66:55:88:77:99:00:aa:bb:cc:dd:ee:06" in lines
    assert "dhcp-range=tag:is-n6,10.98.0.6,10.98.0.6,255.255.255.0,2m" in lines
    assert "tag-if=set:ours,tag:is-n6" in lines
    assert "dhcp-mac=set:is-n6,52:54:00:98:00:06" in lines


def test_a_machine_of_unknown_identity_is_known_by_its_network_card() -> None:
    lines = _config(Expected(node=N6, address="10.98.0.6", guid=Guid(""), macs=("52:54:00:98:00:06",)))
    assert "dhcp-mac=set:is-n6,52:54:00:98:00:06" in lines
    assert "tag-if=set:ours,tag:is-n6" in lines


def test_a_machine_of_which_nothing_is_known_gets_no_line_at_all() -> None:
    assert _config(Expected(node=N6, address="10.98.0.6", guid=Guid(""))) == _config()


def test_beside_another_dhcp_server_no_address_is_lent() -> None:
    machine = Expected(node=N6, address="10.98.0.6", guid=GUID)
    lines = _config(machine, place=msgspec.structs.replace(PLACE, proxy=True))
    assert "dhcp-range=10.98.0.0,proxy,255.255.255.0" in lines
    assert not [line for line in lines if line.startswith("dhcp-range=tag")]
    assert "dhcp-authoritative" not in lines
    assert "pxe-service=tag:ipxe,x86PC,Moxie,http://10.98.0.1:8080/boot.ipxe" in lines


def test_tftp_lends_no_addresses() -> None:
    lines = tftp_config(PLACE).splitlines()
    assert "enable-tftp" in lines
    assert not [line for line in lines if line.startswith("dhcp")]


HEARD = (
    ("dnsmasq-dhcp[9]: 77 tags: ours, is-n6, ipxe, eth1", ("", "", "")),
    ("dnsmasq-dhcp[9]: 77 DHCPOFFER(eth1) 10.98.0.6 52:54:00:98:00:06 ", ("offered", "n6", "52:54:00:98:00:06")),
    ("dnsmasq-dhcp[9]: 78 PXE(eth1) 52:54:00:98:00:06 proxy", ("", "", "")),
    ("dnsmasq-dhcp[9]: 78 tags: ours, is-n6, eth1", ("offered", "n6", "52:54:00:98:00:06")),
    ("dnsmasq-dhcp[9]: 79 DHCPDISCOVER(eth1) 52:54:00:98:00:99 ignored", ("ignored", "", "52:54:00:98:00:99")),
    ("dnsmasq-dhcp[9]: 80 DHCPOFFER(eth1) 10.98.0.200 52:54:00:98:00:07", ("", "", "")),
    ("dnsmasq[9]: started, version 2.90 DNS disabled", ("", "", "")),
    ("\x00\xff nonsense", ("", "", "")),
)


def test_the_log_of_dhcp_says_who_was_offered_an_address_in_either_order_of_lines() -> None:
    ears = Ears()
    assert [ears.hear(line) for line, _ in HEARD] == [said for _, said in HEARD]


@pytest.mark.parametrize("count", [1, 1_000])
def test_however_many_ask_dhcp_what_is_remembered_of_them_is_bounded(count: int) -> None:
    ears = Ears()
    for number in range(count):
        ears.hear(f"dnsmasq-dhcp[9]: {number} tags: ours, is-n6, eth1")
    assert len(ears._asked) <= 64
