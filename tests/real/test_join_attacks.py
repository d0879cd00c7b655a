"""Nobody joins by asking: every way in but the one is refused, with the reason, and the server goes on.

Real TLS on loopback, the real gate, the real client; no machine is booted.
"""

import hashlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from core.gate import Refused as GateRefused
from core.records import DomainId, MachineRecord, RackId
from drivers.ca import Authority, Pair, read, request_for
from drivers.config import Tls, load_config
from drivers.image.manifest import make_keys
from drivers.join import client, tokens
from drivers.join.client import Refused, join
from drivers.join.image import WrongImage
from drivers.join.messages import PATH, Bundle
from drivers.join.pinned import Unreachable, Untrusted, authority_of, post
from drivers.join.revocation import RetiredMachines
from drivers.roster import FILE, encode
from tests.real.join_asks import asked, await_refusal, refusal, send, silent, trusting, words
from tests.real.join_rack import GUID, MAC, N6, N7, Rack, Served, served

pytestmark = [pytest.mark.real]


@pytest.fixture
def rack(tmp_path: Path) -> Rack:
    """A rack whose first node boots n6 and n7."""
    return Rack(tmp_path)


@pytest.fixture
def here(rack: Rack) -> Iterator[Served]:
    """Its servers, running."""
    with served(rack) as running:
        yield running


# -- the one way in ----------------------------------------------------------------------------------------------------


def test_the_machine_that_was_booted_becomes_a_node(here: Served) -> None:
    machine = here.machine()
    bundle = join(here.boot(), machine, silent)
    config = load_config(machine.folder / "node.toml")
    assert (config.node, config.me.address) == (N6, "10.98.0.6")
    assert config.tables.tls is not None
    seen = read(config.tables.tls.cert)
    assert (seen.subject, seen.names) == ("CN=n6,O=rack", ("n6", "localhost", "10.98.0.6", "127.0.0.1"))
    assert here.rack.admitted == [N6]
    assert (
        bundle.certificate == f"{x509.load_pem_x509_certificate(config.tables.tls.cert.read_bytes()).serial_number:x}"
    )
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    own.load_verify_locations(config.tables.tls.ca)
    own.load_cert_chain(config.tables.tls.cert, config.tables.tls.key)


def test_secrets_are_for_their_owner_only_and_the_token_is_gone(here: Served) -> None:
    machine = here.machine()
    machine.cmdline.write_text(" ".join(f"moxie.{key}={value}" for key, value in words(here.boot()).items()))
    assert client.main(machine) == 0
    modes = {path.name: path.stat().st_mode & 0o777 for path in machine.folder.rglob("*") if path.is_file()}
    assert {name for name, mode in modes.items() if mode == 0o600} == {
        "node.key",
        "heartbeat.key",
        "ca.key",
        "n6",
        "n7",
    }
    assert machine.folder.stat().st_mode & 0o777 == 0o700
    assert not machine.tokens[0].exists()


# -- who asks ----------------------------------------------------------------------------------------------------------


def test_a_rogue_machine_gets_nothing(here: Served) -> None:
    uuid, mac = "99999999-0000-0000-0000-000000000001", "52:54:00:66:66:66"
    answer = here.do(lambda: here.rack.gate.ask(uuid, mac, tokens.make().digest, here.rack.now_ms))
    assert isinstance(answer, GateRefused)
    assert answer.reason == "unknown_machine"
    boot = here.boot()
    assert refusal(here, asked(boot, token=tokens.make().text, uuid=uuid, mac=mac)) == "unknown_token"
    assert join(boot, here.machine(), silent).node == N6, "the right one is not disturbed"


@pytest.mark.parametrize("wrong", [{"uuid": "99999999-0000-0000-0000-000000000001"}, {"mac": "52:54:00:66:66:66"}])
def test_a_token_stolen_by_another_machine_is_worth_nothing_to_anybody(here: Served, wrong: dict[str, str]) -> None:
    boot = here.boot()
    assert refusal(here, asked(boot, **wrong)) == "wrong_machine"
    with pytest.raises(Refused, match="token_void"):
        join(boot, here.machine(), silent)
    assert here.rack.admitted == []


def test_a_token_is_worth_one_certificate(here: Served) -> None:
    boot = here.boot()
    body = asked(boot)
    assert send(here, body)[0] == 200
    assert refusal(here, body) == "token_spent", "the same bytes again"
    assert refusal(here, asked(boot)) == "token_spent", "another key"
    with pytest.raises(Refused, match="token_spent"):
        join(boot, here.machine(), silent)
    assert here.rack.admitted == [N6]


def test_of_many_who_show_one_token_at_once_one_gets_a_certificate(here: Served) -> None:
    from concurrent.futures import ThreadPoolExecutor

    boot = here.boot()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: send(here, asked(boot))[0], range(4)))
    assert sorted(answers) == [200, 403, 403, 403]
    assert here.rack.admitted == [N6]


def test_a_second_boot_with_the_same_identity_voids_the_first(here: Served) -> None:
    boot = here.boot()
    again = here.do(lambda: here.rack.gate.ask(GUID[N6], MAC[N6], tokens.make().digest, here.rack.now_ms))
    assert isinstance(again, GateRefused)
    assert again.reason == "asked_twice", "a clone with the same UUID and MAC"
    assert refusal(here, asked(boot)) == "token_void"


def test_the_identity_with_another_card_gets_no_script(here: Served) -> None:
    here.boot()
    answer = here.do(lambda: here.rack.gate.ask(GUID[N6], "52:54:00:66:66:66", tokens.make().digest, here.rack.now_ms))
    assert isinstance(answer, GateRefused)
    assert answer.reason == "wrong_mac"


def test_the_card_with_another_identity_gets_no_script(here: Served) -> None:
    here.boot()
    uuid = "99999999-0000-0000-0000-000000000001"
    answer = here.do(lambda: here.rack.gate.ask(uuid, MAC[N6], tokens.make().digest, here.rack.now_ms))
    assert isinstance(answer, GateRefused)
    assert answer.reason == "wrong_machine"


def test_the_window_closes_by_itself(here: Served) -> None:
    boot = here.boot(ms=60_000)
    here.rack.now_ms += 60_000
    assert refusal(here, asked(boot)) == "window_closed"
    assert here.rack.admitted == []


def test_a_token_of_an_earlier_power_on_is_void(here: Served) -> None:
    before, now = here.boot(), here.boot()
    assert refusal(here, asked(before)) == "token_void"
    assert join(now, here.machine(), silent).node == N6


def test_a_spent_token_of_an_earlier_power_on_is_told_from_nonsense(here: Served) -> None:
    before = here.boot()
    join(before, here.machine(), silent)
    here.boot()
    assert refusal(here, asked(before)) == "token_spent"


def test_a_retired_machine_is_refused_whatever_it_shows(rack: Rack) -> None:
    state = rack.config.tables.state_dir
    state.mkdir(parents=True)
    retired = RetiredMachines(state)
    with served(rack, retired) as here:
        machine = here.machine()
        certificate = join(here.boot(), machine, silent).certificate
        boot = here.boot()
        gone = MachineRecord(
            guid=GUID[N6],
            bmc="10.98.1.6:623",
            rack=RackId("r1"),
            power_domain=DomainId("p1"),
            node=N6,
            number=6,
            retired=True,
            certificates=(certificate,),
        )
        (state / FILE).write_bytes(encode([gone]))
        assert refusal(here, asked(boot)) == "retired"
        assert refusal(here, asked(boot, token=tokens.make().text)) == "retired"
        other = here.boot(N7)
        assert refusal(here, asked(other), showing(here, machine.folder)) == "retired", "its certificate"
        assert join(other, here.machine(N7), silent).node == N7


# -- certificates ------------------------------------------------------------------------------------------------------


def showing(here: Served, folder: Path) -> ssl.SSLContext:
    """A connection that shows the certificate of the node whose files these are."""
    context = trusting(here)
    context.load_cert_chain(folder / "tls" / "node.pem", folder / "tls" / "node.key")
    return context


def test_the_name_in_a_request_for_a_certificate_counts_for_nothing(here: Served) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    status, data = send(here, asked(here.boot(), csr=request_for(key, "operator").decode()))
    assert status == 200
    bundle = msgspec.json.decode(data, type=Bundle)
    pem = next(file.data for file in bundle.files if file.path == "tls/node.pem")
    cert = x509.load_pem_x509_certificate(pem)
    assert cert.subject.rfc4514_string() == "CN=n6,O=rack"
    assert cert.public_key() == key.public_key()
    usage = cert.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not usage.ca


def test_what_a_request_for_a_certificate_asks_for_beside_the_key_counts_for_nothing(here: Served) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("n1")]), critical=False)
    csr = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    status, data = send(here, asked(here.boot(), csr=csr))
    assert status == 200
    pem = next(file.data for file in msgspec.json.decode(data, type=Bundle).files if file.path == "tls/node.pem")
    cert = x509.load_pem_x509_certificate(pem)
    assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "n1" not in cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    )


def test_a_request_must_be_signed_with_its_own_key_on_the_right_curve(here: Served) -> None:
    boot = here.boot()
    mine, others = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    signed = bytearray(x509.load_pem_x509_csr(request_for(mine, "n6")).public_bytes(Encoding.DER))
    foreign = x509.load_pem_x509_csr(request_for(others, "n6")).public_bytes(Encoding.DER)
    point = mine.public_key().public_numbers().x.to_bytes(32, "big")
    at, there = signed.find(point), foreign.find(others.public_key().public_numbers().x.to_bytes(32, "big"))
    signed[at : at + 64] = foreign[there : there + 64]
    swapped = ssl.DER_cert_to_PEM_cert(bytes(signed)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    assert refusal(here, asked(boot, csr=swapped)) == "bad_request"
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for key in (rsa.generate_private_key(65_537, 2_048), ec.generate_private_key(ec.SECP384R1())):
        csr = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
        assert refusal(here, asked(boot, csr=csr)) == "bad_request"
    assert join(boot, here.machine(), silent).node == N6, "nonsense spends no token"


def test_the_certificate_of_another_node_opens_nothing(here: Served) -> None:
    machine = here.machine(N7)
    join(here.boot(N7), machine, silent)
    boot = here.boot()
    assert refusal(here, asked(boot), showing(here, machine.folder)) == "wrong_machine"
    assert refusal(here, asked(boot)) == "token_void", "whoever showed it has stolen it"
    again = here.boot()
    assert refusal(here, asked(again, token=tokens.make().text), showing(here, machine.folder)) == "unknown_token"
    assert here.rack.admitted == [N7]


def test_a_certificate_of_another_authority_ends_the_conversation(here: Served, tmp_path: Path) -> None:
    foreign = Authority(tmp_path / "foreign")
    foreign.make()
    pair = Pair.of(tmp_path / "pair" / "tls", "node")
    foreign.issue(pair, "n6", ("127.0.0.1",))
    boot = here.boot()
    with pytest.raises((Unreachable, Untrusted)):
        send(here, asked(boot), showing(here, tmp_path / "pair"))
    assert join(boot, here.machine(), silent).node == N6


# -- images ------------------------------------------------------------------------------------------------------------


def test_a_machine_that_says_it_runs_another_image_is_refused(here: Served) -> None:
    assert refusal(here, asked(here.boot(), image="0123456789abcdef")) == "wrong_image"
    assert here.rack.admitted == []


def test_a_machine_whose_root_is_not_the_images_joins_with_nothing(here: Served) -> None:
    machine = here.machine(root_hash=hashlib.sha256(b"another root").hexdigest())
    with pytest.raises(WrongImage, match="the root that runs here"):
        join(here.boot(), machine, silent)
    assert not machine.folder.exists()
    assert here.rack.said == [], "its token was not even sent"


def test_a_manifest_that_was_tampered_with_is_found(here: Served) -> None:
    boot = here.boot()
    manifest = here.rack.folder / "images" / here.rack.image / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace("minimal", "maximal"))
    with pytest.raises(WrongImage, match="tampered with"):
        join(boot, here.machine(), silent)
    manifest.write_text(text)
    assert join(boot, here.machine(), silent).node == N6


def test_an_image_that_somebody_else_signed_is_found(here: Served, tmp_path: Path) -> None:
    private, _ = make_keys(tmp_path / "foreign-keys")
    from drivers.image.manifest import sign

    sign(here.rack.folder / "images" / here.rack.image, private)
    with pytest.raises(WrongImage, match="signed with a key not known here"):
        join(here.boot(), here.machine(), silent)


def test_the_signed_manifest_of_another_image_is_not_that_of_this_one(here: Served) -> None:
    boot = msgspec.structs.replace(here.boot(), image="0123456789abcdef")
    images = here.rack.folder / "images"
    (images / "0123456789abcdef").symlink_to(images / here.rack.image)
    with pytest.raises(WrongImage, match="another image"):
        join(boot, here.machine(), silent)


# -- servers that are none ---------------------------------------------------------------------------------------------


def test_a_machine_tells_its_token_to_no_server_of_another_authority(here: Served, tmp_path: Path) -> None:
    fake = Rack(tmp_path / "fake")
    with served(fake) as theirs:
        boot = msgspec.structs.replace(here.boot(), join=theirs.join)
        with pytest.raises(Untrusted, match="another authority"):
            join(boot, here.machine(), silent)
        assert fake.said == []
        with pytest.raises(Untrusted):
            post(trusting(here), "127.0.0.1", theirs.join, PATH, asked(boot), 10)
        await_refusal(fake)  # not even if the first look was deceived: the handshake was the end
        assert fake.reasons == ["bad_request"]
    assert not here.machine().folder.exists()


def test_a_machine_tells_its_token_to_no_node_that_is_not_at_the_servers_address(here: Served) -> None:
    machine = here.machine(N7)
    join(here.boot(N7), machine, silent)
    tls = Tls(ca=here.rack.authority.cert, cert=machine.folder / "tls/node.pem", key=machine.folder / "tls/node.key")
    here.rack.authority.issue(Pair.of(machine.folder / "tls", "node"), "n7", ("10.98.0.7",), again=True)
    tables = msgspec.structs.replace(here.rack.config.tables, tls=tls)
    here.rack.config = msgspec.structs.replace(here.rack.config, tables=tables)
    with served(here.rack) as theirs:
        boot = msgspec.structs.replace(here.boot(), join=theirs.join)
        with pytest.raises(Untrusted, match=r"127\.0\.0\.1"):
            join(boot, here.machine(), silent)


def test_a_server_without_tls_or_with_an_older_one_is_no_server(here: Served) -> None:
    boot = msgspec.structs.replace(here.boot(), join=here.http)
    with pytest.raises(Unreachable):
        join(boot, msgspec.structs.replace(here.machine(), give_up_ms=400), silent)
    old = trusting(here)
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    with pytest.raises(Unreachable):
        send(here, asked(boot), old)
    await_refusal(here.rack)
    assert "unsupported protocol" in here.rack.said[-1].detail  # type: ignore[union-attr]


def test_the_authoritys_fingerprint_is_looked_for_in_what_a_server_shows(here: Served) -> None:
    pem = authority_of("127.0.0.1", here.join, here.rack.fingerprint, 10)
    assert pem.strip() == here.rack.authority.cert.read_text().strip()
    with pytest.raises(Untrusted):
        authority_of("127.0.0.1", here.join, "0" * 64, 10)


def test_a_machine_waits_for_a_server_that_is_not_there_yet_and_asks_no_other_time_after_a_no(rack: Rack) -> None:
    said: list[str] = []
    with served(rack) as here:
        boot, machine, port = here.boot(), here.machine(), here.join
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            nobody = free.getsockname()[1]
        away = msgspec.structs.replace(boot, join=nobody)
        with pytest.raises(Unreachable):
            join(away, msgspec.structs.replace(machine, give_up_ms=1_200), said.append)
        assert any("once more in" in text for text in said)
        said.clear()
        assert refusal(here, asked(boot, mac="52:54:00:66:66:66")) == "wrong_machine"
        machine.cmdline.write_text(" ".join(f"moxie.{key}={value}" for key, value in words(boot).items()))
        before = len(rack.reasons)
        assert client.main(machine) == 1
        assert rack.reasons[before:] == ["token_void"], "asked once"
        assert port == here.join
