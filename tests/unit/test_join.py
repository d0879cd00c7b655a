"""The parts of joining by themselves: words of a boot, crowds, what a bundle carries, and who was retired."""

from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from core.errors import InputError
from core.gate import Gate, Refused
from core.ids import NO_IMAGE, DomainId, Guid, ImageId, NodeId, RackId
from core.records import MachineRecord
from drivers.ca import Authority, request_for
from drivers.config import NetbootTable, load_config
from drivers.image.manifest import BOOT_FILES, Entry, Manifest, write_manifest
from drivers.init import prepare
from drivers.join.boot import booted, card
from drivers.join.bundle import Abilities, abilities, carried
from drivers.join.client import write
from drivers.join.crowd import Crowd, Limits, Voice
from drivers.join.messages import Bundle, File, misplaced
from drivers.join.revocation import RetiredMachines, Revoker, revoked
from drivers.roster import FILE, encode
from tests.unit.made_rack import plan

TOKEN, CA = "ab" * 32, "cd" * 32
LINE = (
    "console=ttyS0 quiet moxie.node=n6 moxie.ip=10.98.0.6/24 moxie.gw=10.98.0.254 moxie.mac=52:54:00:77:00:06 "
    f"moxie.server=10.98.0.1 moxie.http=8080 moxie.join=8443 moxie.ca={CA} moxie.image=0123456789abcdef "
    f"moxie.disk=/dev/vda moxie.token={TOKEN}"
)
N6 = NodeId("n6")
GUID = Guid("11111111-2222-3333-4444-555555555506")


def line(folder: Path, text: str) -> Path:
    """A kernel command line."""
    path = folder / "cmdline"
    path.write_text(text + "\n", encoding="ascii")
    return path


def test_a_boot_is_what_the_kernel_command_line_says(tmp_path: Path) -> None:
    boot = booted(line(tmp_path, LINE))
    assert boot is not None
    assert (boot.node, boot.server, boot.http, boot.join, boot.token) == ("n6", "10.98.0.1", 8080, 8443, TOKEN)


def test_without_a_token_there_is_nothing_to_join_with(tmp_path: Path) -> None:
    assert booted(line(tmp_path, "quiet moxie.slot=a moxie.image=0123456789abcdef")) is None
    assert booted(line(tmp_path, LINE.replace(TOKEN, ""))) is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("moxie.server=10.98.0.1", "", "server"),
        (f"moxie.ca={CA}", "moxie.ca=abcd", "moxie.ca"),
        ("moxie.join=8443", "moxie.join=99999", "moxie.join"),
        (TOKEN, "nonsense", "moxie.token"),
        ("moxie.mac=52:54:00:77:00:06", "moxie.mac=eth0", "moxie.mac"),
    ],
)
def test_a_word_that_is_missing_or_wrong_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        booted(line(tmp_path, LINE.replace(old, new)))


def test_the_card_is_found_by_its_address_or_all_are_named(tmp_path: Path) -> None:
    for name, address in (("lo", "00:00:00:00:00:00"), ("eth0", "52:54:00:77:00:06")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "address").write_text(address + "\n", encoding="ascii")
    assert card("52:54:00:77:00:06", tmp_path) == "eth0"
    with pytest.raises(InputError, match="there: eth0 52:54:00:77:00:06, lo 00:00"):
        card("52:54:00:77:00:07", tmp_path)


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", ".ssh/key", "a/b/c/d/e", "a b"]
)
def test_a_bundle_writes_nowhere_but_into_its_folder(path: str, tmp_path: Path) -> None:
    assert misplaced(path)
    files = (File(path="node.toml", data=b""), File(path=path, data=b"x"))
    with pytest.raises(InputError):
        write(Bundle(node="n6", files=files), b"key", "eth0", tmp_path / "etc")
    assert not (tmp_path / "etc").exists()


def test_a_bundle_without_a_node_file_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write(Bundle(node="n6", files=(File(path="catalog.toml", data=b""),)), b"key", "eth0", tmp_path)


def test_an_inventory_is_carried_with_every_file_that_it_names(tmp_path: Path) -> None:
    for name in ("one", "two", "ca.pem"):
        (tmp_path / name).write_text(name, encoding="ascii")
    (tmp_path / "inventory.toml").write_text(
        '[boot]\nsubnet = "10.98.0.0/24"\npool = "10.98.0.100-10.98.0.199"\n'
        '[[node]]\nid = "n1"\nnumber = 1\naddress = "10.98.0.1"\n'
        '[node.bmc]\ndriver = "redfish"\naddress = "10.98.1.1"\npassword_file = "one"\nca = "ca.pem"\n'
        '[[network]]\nname = "mgmt"\nsubnet = "10.98.1.0/24"\n'
        '[[network.access]]\nname = "lab"\npassword_file = "two"\n',
        encoding="ascii",
    )
    text, files = carried(tmp_path / "inventory.toml")
    assert {file.path: (file.data, file.secret) for file in files} == {
        "bmc/n1": (b"one", True),
        "bmc/n1.pem": (b"ca.pem", False),
        "bmc/mgmt-lab": (b"two", True),
    }
    assert b'password_file = "bmc/mgmt-lab"' in text
    assert b'pool = "10.98.0.100-10.98.0.199"' in text
    assert not any(misplaced(file.path) for file in files)


@pytest.mark.parametrize(
    ("profile", "able"),
    [
        ("minimal", Abilities(server=False, netboot=True)),
        ("hyperconverged", Abilities(server=True, netboot=True, storage=True)),
        ("somebody's own", Abilities()),
        ("", Abilities(server=True, netboot=True)),  # not kept here: as this node itself
    ],
)
def test_what_a_node_may_do_follows_from_its_image(profile: str, able: Abilities, tmp_path: Path) -> None:
    prepare(plan(tmp_path, 1))
    config = load_config(tmp_path / "rack" / "nodes" / "n1" / "node.toml")
    folder = tmp_path / "images" / "0123456789abcdef"
    folder.mkdir(parents=True)
    if profile:
        files = {name: Entry(sha256="0" * 64, bytes=1) for name in BOOT_FILES}
        write_manifest(folder, Manifest(format=1, profile=profile, version="1", cmdline="", files=files))
    netboot = NetbootTable(interface="eth0", images=tmp_path / "images", ca=tmp_path / "rack" / "ca")
    config = msgspec.structs.replace(config, tables=msgspec.structs.replace(config.tables, netboot=netboot))
    assert abilities(config, ImageId("0123456789abcdef")) == able


def test_a_crowd_has_bounds_for_all_for_each_and_for_how_often() -> None:
    crowd = Crowd(Limits(connections_max=3, each_max=2, knocks_max=4, knocks_ms=1_000, addresses_max=2))
    assert [crowd.enter("a", 0) for _ in range(3)] == [True, True, False]
    assert [crowd.enter("b", 0), crowd.enter("c", 0)] == [True, False]
    crowd.leave("a")
    crowd.leave("a")
    assert crowd.size == 1
    assert crowd.enter("c", 0)
    crowd.leave("c")
    for _ in range(3):
        assert crowd.enter("c", 1)
        crowd.leave("c")
    assert not crowd.enter("c", 2), "four times in a second"
    assert crowd.enter("c", 1_001)
    assert len(crowd._knocks) == 2


def test_a_voice_says_so_much_and_counts_the_rest() -> None:
    voice = Voice(2, 1_000)
    assert [voice.may(0), voice.may(0), voice.may(999), voice.may(1_000)] == [True, True, False, True]
    assert voice.kept == 1


# -- the authority and who is retired ----------------------------------------------------------------------------------


def machine(**changes: object) -> MachineRecord:
    """The record of the machine that is n6, retired."""
    fields: dict[str, object] = {
        "guid": GUID,
        "bmc": "10.98.1.6:623",
        "rack": RackId("r1"),
        "power_domain": DomainId("p1"),
        "node": N6,
        "number": 6,
        "retired": True,
        "certificates": ("aa", "0BB"),
    }
    return MachineRecord(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A new authority."""
    made = Authority(tmp_path / "ca")
    made.make()
    return made


def test_a_signed_certificate_is_remembered_by_serial_and_name(authority: Authority) -> None:
    signed = authority.sign(request_for(ec.generate_private_key(ec.SECP256R1()), "other"), "n6", ("10.98.0.6",))
    cert = x509.load_pem_x509_certificate(signed.pem)
    assert f"{cert.serial_number:x}" == signed.serial
    assert authority.issued() == ((signed.serial, "n6"),)
    assert (authority.folder / "issued").read_text().endswith(f"{signed.serial} n6\n")


def test_the_list_of_revoked_certificates_is_signed_and_outlives_every_certificate(authority: Authority) -> None:
    found = x509.load_pem_x509_crl(authority.revoke(("aa", "0bb", "aa"), number=7))
    ca = x509.load_pem_x509_certificate(authority.cert.read_bytes())
    key = ca.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert found.is_signature_valid(key)
    assert [entry.serial_number for entry in found] == [0xAA, 0xBB]
    assert found.next_update_utc == ca.not_valid_after_utc


def test_retired_machines_are_read_again_when_the_roster_changes_and_kept_when_it_is_gone(tmp_path: Path) -> None:
    retired = RetiredMachines(tmp_path)
    assert retired.machine(GUID) == ""
    (tmp_path / FILE).write_bytes(encode([machine()]))
    assert retired.machine("55555555-4444-3333-2222-111111111106") == ""
    assert retired.machine(GUID.upper()) == N6
    assert retired.certificate("BB")
    assert not retired.certificate("bc")
    assert not retired.certificate("")
    (tmp_path / FILE).write_text("half a fi", encoding="ascii")
    assert retired.machine(GUID) == N6
    (tmp_path / FILE).unlink()
    assert retired.machine(GUID) == N6
    (tmp_path / FILE).write_bytes(encode([machine(retired=False)]))
    assert retired.machine(GUID) == "", "released"


def test_a_revoker_makes_gate_and_list_follow_the_records(tmp_path: Path, authority: Authority) -> None:
    signed = authority.sign(request_for(ec.generate_private_key(ec.SECP256R1()), "other"), "n6", ("10.98.0.6",))
    (tmp_path / "state").mkdir()
    file, gate = tmp_path / "tls" / "rack.crl", Gate()
    revoker = Revoker(RetiredMachines(tmp_path / "state"), authority, file)
    gate.open(N6, GUID, (), NO_IMAGE, 1_000)
    revoker.look(gate)
    assert revoked(file) == frozenset(), "an empty list, without which a server that looks for one takes nobody"
    assert gate.window(N6) is not None
    (tmp_path / "state" / FILE).write_bytes(encode([machine()]))
    revoker.look(gate)
    assert revoked(file) == {0xAA, 0xBB, int(signed.serial, 16)}
    assert gate.window(N6) is None
    answer = gate.ask(GUID, "52:54:00:77:00:06", "token", 0)
    assert isinstance(answer, Refused)
    assert answer.reason == "retired"
    file.unlink()
    revoker.look(gate)
    assert revoked(file) == {0xAA, 0xBB, int(signed.serial, 16)}, "it is never missing for long"
    (tmp_path / "state" / FILE).write_bytes(encode([machine(retired=False)]))
    revoker.look(gate)
    assert revoked(file) == frozenset()


def test_what_a_retired_node_has_open_is_cut_until_the_server_itself_refuses_it(
    tmp_path: Path, authority: Authority
) -> None:
    (tmp_path / FILE).write_bytes(encode([machine()]))
    cut: list[tuple[NodeId, int]] = []
    clock = [0]
    retired, file = RetiredMachines(tmp_path), tmp_path / "rack.crl"
    revoker = Revoker(retired, authority, file, lambda node: cut.append((node, clock[0])), lambda: clock[0])
    for now_ms in range(0, 100_000, 250):
        clock[0] = now_ms
        revoker.look(Gate())
    assert cut == [(N6, at) for at in range(250, 40_251, 5_000)]


def test_a_revoker_without_the_authoritys_key_goes_on(tmp_path: Path) -> None:
    revoker = Revoker(RetiredMachines(tmp_path), Authority(tmp_path / "nowhere"), tmp_path / "rack.crl")
    revoker.look(Gate())
    assert revoked(tmp_path / "rack.crl") is None
