"""Certificates that count no more: of any node, published for every node, and taken only from the rack's authority."""

from pathlib import Path

import msgspec
import pytest
from cryptography import x509

import drivers.ca
from core.errors import InputError
from core.gate import Gate
from core.ids import NodeId
from core.records import MACHINES, NODES, Change, Lifecycle, node_path
from drivers import zookeeper_server as server
from drivers.access import Access, load_access
from drivers.ca import Authority, Pair, is_revocable, serial_of, write_public
from drivers.config import Config, load_config
from drivers.init import Plan, node_folder, operator_file, prepare
from drivers.join.published import Follower, Published, decode, encode, kept_in, make, number_of, read_list
from drivers.join.revocation import RetiredMachines, Revoker, revoked
from drivers.loop import Loop
from drivers.revocable import make_revocable
from drivers.void import issued, void_list
from tests.unit.made_rack import node_record, plan

N2, N3 = NodeId("n2"), NodeId("n3")


class Board:
    """Shared records and the published list. ``lost``: so often somebody else publishes first."""

    def __init__(self, *retired: str, lost: int = 0) -> None:
        self.retired = retired
        self.data, self.version = b"", -1
        self.lost = lost

    def below(self, root: str) -> dict[str, Change]:
        assert root in (NODES, MACHINES)
        changes = [
            Change(path=node_path(NodeId(n)), zxid=1, version=1, data=node_record(n, Lifecycle.RETIRED))
            for n in self.retired
        ]
        return {change.path: change for change in changes} if root == NODES else {}

    def published(self) -> tuple[bytes, int]:
        return self.data, self.version

    def publish(self, data: bytes, version: int) -> bool:
        if self.lost:
            self.lost -= 1
            return False
        assert version == self.version
        self.data, self.version = data, version + 1
        return True

    @property
    def void(self) -> set[int]:
        """The serial numbers that are published."""
        found = decode(self.data)
        assert found is not None
        return {entry.serial_number for entry in x509.load_pem_x509_crl(found.crl.encode())}


@pytest.fixture
def made(tmp_path: Path) -> Plan:
    """A rack that ``rack init`` made."""
    wanted = plan(tmp_path)
    prepare(wanted)
    return wanted


def access(made: Plan) -> Access:
    """The operator's way to it."""
    return load_access(operator_file(made.out))


def of_node(made: Plan, node: str) -> Config:
    """A node's own configuration."""
    return load_config(node_folder(made.out, NodeId(node)) / "node.toml")


def serial(made: Plan, node: str) -> str:
    """The serial number of a node's certificate."""
    return serial_of(node_folder(made.out, NodeId(node)) / "tls" / "node.pem")


def follower(config: Config) -> Follower:
    """A node's follower, whose work is done by hand."""
    loop = Loop()
    made = Follower(config, loop, lambda *_: None, "/moxie/revoked")
    loop.close()
    return made


def test_a_node_of_the_inventory_that_never_joined_over_the_network_has_its_certificate_void(made: Plan) -> None:
    board, said = Board("n3"), list[str]()
    assert void_list(board, access(made), N3, said.append)
    assert board.void == {int(serial(made, "n3"), 16)}
    assert said == ["1 certificates of n3 are void within a minute"]
    config = of_node(made, "n2")
    assert follower(config).take(board.data)
    assert revoked(server.revoked_file(config)) == {int(serial(made, "n3"), 16)}


def test_a_certificate_is_known_by_its_folder_where_the_authority_kept_no_notes(made: Plan) -> None:
    (made.out / "ca" / "issued").unlink()
    assert issued(access(made), N3) == (serial(made, "n3"),)
    board = Board("n2", "n3")
    assert void_list(board, access(made), N3, print)
    assert board.void == {int(serial(made, "n2"), 16), int(serial(made, "n3"), 16)}


def test_one_that_is_released_counts_again(made: Plan) -> None:
    board, said, config = Board("n2", "n3"), list[str](), of_node(made, "n1")
    assert void_list(board, access(made), N3, said.append)
    one = follower(config)
    assert one.take(board.data)
    board.retired = ("n2",)
    assert void_list(board, access(made), N3, said.append)
    assert said[1] == "the certificates of n3 count again within a minute"
    assert one.take(board.data)
    assert revoked(server.revoked_file(config)) == {int(serial(made, "n2"), 16)}


def test_what_cannot_be_made_void_is_said(made: Plan) -> None:
    said: list[str] = []
    assert not void_list(Board("n9"), access(made), NodeId("n9"), said.append)
    (made.out / "ca" / "ca.key").rename(made.out / "ca.key")
    assert not void_list(Board("n3"), access(made), N3, said.append)
    assert void_list(Board(), access(made), N3, said.append), "released, and nothing was ever published"
    (made.out / "ca.key").rename(made.out / "ca" / "ca.key")
    (made.out / "ca" / "rack.crl").unlink()
    assert not void_list(Board("n3"), access(made), N3, said.append)
    assert said[0].startswith("no certificate of n9 is known here")
    assert said[1].startswith("the authority's key is not within reach, so only nodes that boot others refuse it")
    assert "rack init … --revocation-list" in said[2]


def test_who_publishes_at_the_same_time_is_waited_for_and_not_for_ever(made: Plan) -> None:
    board, said = Board("n3", lost=2), list[str]()
    assert void_list(board, access(made), N3, said.append)
    assert not void_list(Board("n3", lost=99), access(made), N3, said.append)
    assert said[1].startswith("the list of void certificates changed 5 times meanwhile")


def test_only_what_the_authority_signed_and_is_newer_is_taken(made: Plan, tmp_path: Path) -> None:
    config, authority = of_node(made, "n1"), Authority(made.out / "ca")
    other = Authority(tmp_path / "other")
    other.make()
    one, file = follower(config), server.revoked_file(config)
    old, new = make(authority, ["aa"], [N2], 10), make(authority, ["aa", "bb"], [N2, N3], 1 << 40)
    assert one.take(encode(new))
    assert revoked(file) == {0xAA, 0xBB}
    for bad in (encode(old), encode(make(other, ["cc"], [], 1 << 50)), encode(Published(crl="garbage")), b"{", b""):
        one.take(bad)
        assert revoked(file) == {0xAA, 0xBB}
        assert kept_in(config.tables.state_dir) == new
    file.unlink()
    server.prepare(config, [NodeId("n1")])
    assert not one.take(encode(new)), "its server never went by a list"
    assert number_of(new, authority.cert) == (1 << 40) + 1
    assert read_list(new, other.cert) is None


def test_a_list_that_was_lost_is_there_again(made: Plan) -> None:
    config, new = of_node(made, "n1"), make(Authority(made.out / "ca"), ["aa"], [], 1)
    server.prepare(config, [NodeId("n1")])
    one, file = follower(config), server.revoked_file(config)
    assert one.take(encode(new))
    file.unlink()
    assert one.take(encode(new))
    assert revoked(file) == {0xAA}


def test_the_list_of_a_node_that_boots_others_has_what_was_published_too(made: Plan, tmp_path: Path) -> None:
    config, authority = of_node(made, "n1"), Authority(made.out / "ca")
    state, file = config.tables.state_dir, server.revoked_file(config)
    retired = RetiredMachines(state)
    revoker = Revoker(retired, authority, file)
    revoker.look(Gate())
    follower(config).take(encode(make(authority, ["aa"], [N3], 1 << 40)))
    revoker.look(Gate())
    assert revoked(file) == {0xAA}
    assert retired.certificate("AA")
    assert not retired.certificate("ab")


def test_a_boot_service_makes_no_list_where_certificates_name_none(made: Plan) -> None:
    config = of_node(made, "n1")
    file = server.revoked_file(config)
    file.unlink()
    revoker = Revoker(
        RetiredMachines(config.tables.state_dir),
        Authority(made.out / "ca"),
        file,
        listed=lambda: server.looks_into_list(config),
    )
    revoker.look(Gate())
    assert not file.exists()


def test_a_rack_of_an_older_version_gets_new_certificates_first_and_no_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = plan(tmp_path)
    with monkeypatch.context() as older:
        older.setattr(drivers.ca, "_REVOKED_BY", x509.OCSPNoCheck())
        prepare(wanted)
    for list_file in wanted.out.rglob("rack.crl"):
        list_file.unlink()
    pairs = [Pair.of(node_folder(wanted.out, NodeId(n)) / "tls", "node") for n in ("n1", "n2", "n3")]
    write_public(pairs[2].cert, pairs[2].cert.read_bytes())
    assert not any(is_revocable(pair.cert) for pair in pairs)
    assert not server.shows_revocable(of_node(wanted, "n1"))
    ca, said = (wanted.out / "ca" / "ca.pem").read_bytes(), list[str]()
    assert not make_revocable(wanted, said.append)
    assert said[0] == "made anew, by the same authority, so that they can be revoked: n1, n2, n3, operator"
    assert all(is_revocable(pair.cert) for pair in pairs)
    assert server.shows_revocable(of_node(wanted, "n1"))
    assert (wanted.out / "ca" / "ca.pem").read_bytes() == ca
    assert not list(wanted.out.rglob("rack.crl")), "a list now would shut out who still shows the old one"
    with pytest.raises(InputError, match=r"cannot be reached"):
        make_revocable(wanted, said.append)
    assert not list(wanted.out.rglob("rack.crl"))


def test_published_lists_survive_what_a_newer_version_adds() -> None:
    assert decode(msgspec.json.encode({"crl": "x", "nodes": ["n1"], "more": 1})) == Published(
        crl="x", nodes=(NodeId("n1"),)
    )
