"""The rack's certificate authority: what it makes is what ZooKeeper and access lists need, and secrets stay secret."""

import ssl
import stat
from pathlib import Path

import pytest

from core.errors import InputError
from drivers.ca import CERT_DAYS, Authority, Pair, is_signed_by, read, subject_of, write_secret


def authority(folder: Path) -> Authority:
    """A new authority."""
    made = Authority(folder / "ca")
    assert made.make()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_nodes_certificate_names_the_node_as_access_lists_do(tmp_path: Path) -> None:
    pair = Pair.of(tmp_path, "node")
    assert authority(tmp_path).issue(pair, "n7", ("10.9.0.7", "n7", "localhost", "127.0.0.1"))
    seen = read(pair.cert)
    assert seen.subject == subject_of("n7") == "CN=n7,O=rack"
    assert set(seen.names) == {"10.9.0.7", "n7", "localhost", "127.0.0.1"}
    assert CERT_DAYS - 2 <= seen.days_left <= CERT_DAYS
    assert seen.fingerprint.count(":") == 31


def test_keys_are_in_the_one_form_that_a_jvm_reads_and_nobody_else_may_read_them(tmp_path: Path) -> None:
    pair = Pair.of(tmp_path, "node")
    authority(tmp_path).issue(pair, "n1", ("10.9.0.1",))
    assert pair.both is not None
    assert pair.key.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert pair.both.read_bytes() == pair.key.read_bytes() + pair.cert.read_bytes()
    assert [mode(path) for path in (pair.key, pair.both, tmp_path / "ca" / "ca.key")] == [0o600] * 3
    assert [mode(path) for path in (pair.cert, tmp_path / "ca" / "ca.pem")] == [0o644] * 2


def test_the_strictest_verifier_accepts_both_ends(tmp_path: Path) -> None:
    made = authority(tmp_path)
    node, operator = Pair.of(tmp_path, "node"), Pair.of(tmp_path, "operator")
    made.issue(node, "n1", ("127.0.0.1",))
    made.issue(operator, "operator")
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=str(made.cert))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    server.load_cert_chain(node.cert, node.key)
    server.load_verify_locations(made.cert)
    server.verify_mode = ssl.CERT_REQUIRED
    client.load_cert_chain(operator.cert, operator.key)
    assert handshake(client, server, "127.0.0.1") == "operator"
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, server, "10.9.9.9")


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> str:
    """Shake hands in memory; the common name that the server saw."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname=name)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(6):
        for side in (here, there):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    subject = (there.getpeercert() or {})["subject"]
    assert isinstance(subject, tuple)
    return {key: value for entry in subject for key, value in entry}["commonName"]


def test_the_operator_can_only_be_a_client(tmp_path: Path) -> None:
    operator = Pair.of(tmp_path, "operator")
    authority(tmp_path).issue(operator, "operator")
    assert read(operator.cert).names == ()


def test_a_certificate_of_another_authority_is_told_apart(tmp_path: Path) -> None:
    ours, theirs = authority(tmp_path / "a"), authority(tmp_path / "b")
    pair = Pair.of(tmp_path, "node")
    ours.issue(pair, "n1")
    assert is_signed_by(pair.cert, ours.cert)
    assert not is_signed_by(pair.cert, theirs.cert)


def test_nothing_is_made_twice(tmp_path: Path) -> None:
    made, pair = authority(tmp_path), Pair.of(tmp_path, "node")
    made.issue(pair, "n1")
    before = (pair.key.read_bytes(), made.cert.read_bytes())
    assert not made.make()
    assert not made.issue(pair, "n1")
    assert (pair.key.read_bytes(), made.cert.read_bytes()) == before


def test_only_what_ends_soon_is_renewed(tmp_path: Path) -> None:
    made, pair = authority(tmp_path), Pair.of(tmp_path, "node")
    made.issue(pair, "n1", ("10.9.0.1",))
    before = read(pair.cert).fingerprint
    assert not made.renew(pair, "n1", ("10.9.0.1",))
    assert read(pair.cert).fingerprint == before
    assert made.renew(pair, "n1", ("10.9.0.1",), days=CERT_DAYS + 1)
    assert read(pair.cert).fingerprint != before


def test_half_an_authority_is_refused_with_the_remedy(tmp_path: Path) -> None:
    made = authority(tmp_path)
    made.cert.unlink()
    with pytest.raises(InputError, match=r"ca.pem: is missing beside ca.key; needed: both files from a backup"):
        made.make()


def test_a_key_of_another_authority_is_refused(tmp_path: Path) -> None:
    made, other = authority(tmp_path / "a"), authority(tmp_path / "b")
    (made.folder / "ca.key").write_bytes((other.folder / "ca.key").read_bytes())
    with pytest.raises(InputError, match="is not the key of"):
        made.issue(Pair.of(tmp_path, "node"), "n1")


def test_what_is_no_certificate_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.pem"
    path.write_text("nonsense", encoding="utf-8")
    with pytest.raises(InputError, match=r"x.pem: holds no certificate"):
        read(path)
    with pytest.raises(InputError, match="holds no certificate"):
        read(tmp_path / "missing.pem")


def test_a_secret_that_replaces_a_public_file_is_secret(tmp_path: Path) -> None:
    path = tmp_path / "word"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o644)
    write_secret(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)
    assert [p.name for p in tmp_path.iterdir()] == ["word"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        write_secret(tmp_path / "file" / "word", b"x")
