"""Redfish against a real service, the emulator of sushy-tools: HTTP and HTTPS, credentials, certificates, survey."""

import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from drivers import bmc
from drivers.bmc import BmcFailure, Limit
from drivers.cli import main
from drivers.clock import now_ms
from drivers.config import BmcTable, Machine
from drivers.inventory import Inventory
from drivers.networks import AccessTable, NetworkTable
from drivers.power import open_table
from drivers.redfish import Redfish, survey
from drivers.scan import Scans
from tests.real.lab_bmc import free_port, password_file
from tests.real.redfish_emulator import OTHER, UUID, Emulator

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("power")]


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    made = Emulator(tmp_path / "bmc", free_port(socket.SOCK_STREAM), "s3cret")
    yield made
    made.close()


def table(emulator: Emulator, password: str = "s3cret", **keys: object) -> BmcTable:
    file = password_file(emulator.folder, password)
    return BmcTable(
        driver="redfish",
        address="127.0.0.1",
        port=emulator.port,
        password_file=file,
        tls=bool(keys.get("tls", False)),
        ca=Path(str(keys["ca"])) if "ca" in keys else None,
        system=str(keys.get("system", "")),
    )


def limit(ms: int = 8_000) -> Limit:
    return Limit(now_ms, now_ms() + ms)


def kind_of(table: BmcTable, ms: int = 3_000) -> str:
    with pytest.raises(BmcFailure) as failure:
        bmc.read(Redfish(table), limit(ms))
    assert "s3cret" not in failure.value.detail
    return failure.value.kind


def test_on_sets_one_boot_from_the_network_and_is_read_back(emulator: Emulator) -> None:
    driver = Redfish(table(emulator))
    assert bmc.order(driver, "on", limit(), lambda: None) is True
    assert emulator.is_on
    assert emulator.boot_target == "Pxe"
    assert bmc.order(driver, "off", limit(), lambda: None) is False
    assert not emulator.is_on


def test_a_wrong_password_is_refused(emulator: Emulator) -> None:
    assert kind_of(table(emulator, password="wr0ng")) == "credentials"


def test_a_service_that_hangs_is_silent_and_well_afterwards(emulator: Emulator) -> None:
    driver = table(emulator)
    emulator.signal(signal.SIGSTOP)
    asked_ms = now_ms()
    assert kind_of(driver, ms=300) == "silent"
    assert now_ms() - asked_ms < 2_000
    emulator.signal(signal.SIGCONT)
    assert bmc.read(Redfish(driver), limit()) is False


def test_a_port_where_nothing_listens_is_unreachable(emulator: Emulator) -> None:
    driver = table(emulator)
    emulator.kill()
    assert kind_of(driver) == "unreachable"


def test_the_survey_tells_what_it_found_and_what_is_unsafe(emulator: Emulator) -> None:
    machine = Machine(id="n2", number=2, address="127.0.0.2", bmc=table(emulator))
    found = survey(machine, 8_000, uuid_wanted=UUID.upper())
    assert (found.problem, found.on, found.matches, found.uuids) == ("", False, True, (UUID,))
    assert any("tls is false" in text for text in found.warnings)
    assert survey(machine, 8_000, uuid_wanted=OTHER).matches is False
    emulator.kill()
    assert survey(machine, 1_000).kind == "unreachable"


def test_of_several_systems_the_one_named_is_taken(tmp_path: Path) -> None:
    emulator = Emulator(tmp_path / "bmc", free_port(socket.SOCK_STREAM), "s3cret", systems=2)
    try:
        with pytest.raises(BmcFailure, match=r"serves 2 systems; name one in bmc\.system"):
            bmc.read(Redfish(table(emulator)), limit())
        with pytest.raises(BmcFailure, match="none is 'n9'"):
            bmc.read(Redfish(table(emulator, system="n9")), limit())
        assert bmc.order(Redfish(table(emulator, system="n2")), "on", limit(), lambda: None) is True
        assert bmc.read(Redfish(table(emulator, system=OTHER.upper())), limit()) is False
    finally:
        emulator.close()


def test_over_https_a_certificate_must_be_what_ca_allows(tmp_path: Path) -> None:
    mine, another = certificate(tmp_path / "mine.pem"), certificate(tmp_path / "another.pem")
    emulator = Emulator(tmp_path / "bmc", free_port(socket.SOCK_STREAM), "s3cret", cert=mine)
    try:
        for driver in (table(emulator, tls=True), table(emulator, tls=True, ca=mine)):
            assert bmc.read(Redfish(driver), limit()) is False
        assert kind_of(table(emulator, tls=True, ca=another)) == "untrusted"
        assert kind_of(table(emulator, tls=True, ca=tmp_path / "none.pem")) == "untrusted"
    finally:
        emulator.close()


def test_a_scan_finds_a_service_root_over_https_and_says_why_it_is_not_trusted(tmp_path: Path) -> None:
    mine, another = certificate(tmp_path / "mine.pem"), certificate(tmp_path / "another.pem")
    emulator = Emulator(tmp_path / "bmc", free_port(socket.SOCK_STREAM), "s3cret", cert=mine)

    def network(ca: Path | None, password: str = "s3cret", *, tls: bool = True) -> NetworkTable:
        file = password_file(tmp_path, password)
        access = AccessTable(name="web", driver="redfish", password_file=file, port=emulator.port, ca=ca, tls=tls)
        return NetworkTable(name="mgmt", subnet="127.0.0.0/30", access=(access,))

    scans = Scans(Inventory(machines={}), tuple, open_table, now_ms)
    try:
        for ca, said in (
            (another, "its certificate is not what ca allows: self-signed certificate"),
            (tmp_path / "none.pem", f"ca {tmp_path / 'none.pem'}: no such file or directory; needed: a PEM file"),
            (emulator.folder / "htpasswd", "holds no certificate"),
        ):
            (one,) = scans.look(network(ca), now_ms() + 8_000)
            assert one.redfish is not None, "found all the same"
            assert one.problem.startswith("is not trusted, so it was sent no password: ")
            assert said in one.problem
            assert not one.access
        for ca_or_none in (mine, None):
            (one,) = scans.look(network(ca_or_none), now_ms() + 8_000)
            assert (one.access, one.problem, one.on) == ("web", "", False), "what was not trusted was not refused"
            assert one.seen is not None
            assert one.seen.guid == UUID.replace("-", "")
        (one,) = scans.look(network(mine, "wr0ng"), now_ms() + 8_000)
        assert one.problem.startswith("refuses every credential given for it (web)")
        assert scans.look(network(None, tls=False), now_ms() + 8_000) == (), "it speaks TLS only"
    finally:
        emulator.close()


def test_the_command_takes_a_ca_and_says_what_is_wrong_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["scan", "127.0.0.0/30", "--user", "admin", "--password-file", str(password_file(tmp_path, "s3cret"))]
    assert main([*words, "--ca", str(tmp_path / "none.pem")]) == 2
    assert "none.pem: no such file or directory; needed: a PEM file with certificates" in capsys.readouterr().err
    assert main(["scan", "127.0.0.0/30", "--ca", str(tmp_path / "none.pem")]) == 2
    assert "--ca belongs to --user and --password-file" in capsys.readouterr().err


def test_who_speaks_no_tls_is_sent_no_password(tmp_path: Path) -> None:
    emulator = Emulator(tmp_path / "bmc", free_port(socket.SOCK_STREAM), "s3cret")
    try:
        with pytest.raises(BmcFailure, match="speaks no TLS that can be relied on") as failure:
            bmc.read(Redfish(table(emulator, tls=True)), limit())
        assert failure.value.kind == "untrusted"
    finally:
        emulator.close()


def certificate(path: Path) -> Path:
    """Write a self-signed certificate and its key, as a BMC has them from the factory."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, path.stem)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    since = datetime.now(UTC) - timedelta(days=1)
    builder = builder.not_valid_before(since).not_valid_after(since + timedelta(days=30))
    signed = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
        key, hashes.SHA256()
    )
    pem = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, pem, serialization.NoEncryption())
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + secret)
    return path
