"""``rack init``: a rack's folder is made once, grows with its inventory, and nothing is made that a node cannot use."""

import stat
from pathlib import Path

import pytest

from core.errors import InputError
from core.ids import NodeId
from core.records import CLUSTER, AnyRecord, Change, ClusterRecord, service_path
from drivers.access import load_access
from drivers.ca import Authority, read
from drivers.config import load_config
from drivers.init import CephAccess, Plan, node_folder, operator_file, prepare, told
from drivers.seed import ensemble_size, seed
from drivers.toml_text import toml_text
from drivers.zookeeper_server import FIRST_SERVER, configured
from formats.load import parse_toml
from tests.unit.made_rack import plan


def every_file(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_each_nodes_folder_is_all_that_its_supervisor_needs(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    made = prepare(wanted)
    assert (made.first, made.nodes, made.new) == ("n1", ("n1", "n2", "n3"), ("n1", "n2", "n3"))
    moved = tmp_path / "elsewhere"
    node_folder(wanted.out, NodeId("n2")).rename(moved)
    config = load_config(moved / "node.toml")
    assert (config.node, config.me.address, len(config.machines)) == ("n2", "10.9.0.2", 3)
    assert config.tables.tls is not None
    assert read(config.tables.tls.cert).names[-1] in ("127.0.0.1", "10.9.0.2")
    passwords = [machine.bmc.password_file for machine in config.machines.values()]
    assert [path.read_text() for path in passwords if path is not None] == [f"hunter-{n}-secret\n" for n in (1, 2, 3)]
    assert all(path is not None and moved in path.parents for path in passwords)
    assert str(config.tables.state_dir).endswith("state/n2")


def test_only_the_first_node_has_a_server_to_begin_with(tmp_path: Path) -> None:
    wanted = plan(tmp_path, first=NodeId("n2"))
    prepare(wanted)
    files = {node: node_folder(wanted.out, NodeId(node)) / "node.toml" for node in ("n1", "n2", "n3")}
    assert {node: configured(load_config(file)) for node, file in files.items()} == {
        "n1": False,
        "n2": True,
        "n3": False,
    }


def test_every_secret_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    prepare(wanted)
    secret = [path for path in wanted.out.rglob("*") if path.suffix == ".key" or path.parent.name == "bmc"]
    secret += list(wanted.out.rglob("*.both.pem"))
    assert len(secret) > 15
    assert {path.name for path in secret if stat.S_IMODE(path.stat().st_mode) != 0o600} == set()


def test_no_configuration_holds_a_secret(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    prepare(wanted)
    key = (wanted.out / "ca" / "heartbeat.key").read_bytes().strip()
    for path in wanted.out.rglob("*.toml"):
        assert b"hunter" not in path.read_bytes()
        assert key not in path.read_bytes()


def test_running_it_again_changes_nothing(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    prepare(wanted)
    before = every_file(wanted.out)
    assert prepare(wanted).new == ()
    assert every_file(wanted.out) == before


def test_a_sixth_node_is_added_and_the_others_learn_of_it(tmp_path: Path) -> None:
    wanted = plan(tmp_path, nodes=2)
    prepare(wanted)
    before = every_file(wanted.out)
    own = node_folder(wanted.out, NodeId("n1")) / "node.toml"
    own.write_text(own.read_text() + "# changed by hand\n", encoding="utf-8")
    made = prepare(plan(tmp_path, nodes=3))
    after = every_file(wanted.out)
    assert made.new == ("n3",)
    assert "n3" in load_config(own).machines
    assert "changed by hand" in own.read_text()
    same = [name for name in before if name.endswith((".key", ".pem"))]
    assert {name: before[name] for name in same} == {name: after[name] for name in same}
    assert not (node_folder(wanted.out, NodeId("n3")) / FIRST_SERVER).exists()


def test_a_rack_does_not_begin_twice(tmp_path: Path) -> None:
    prepare(plan(tmp_path))
    with pytest.raises(InputError, match='--node = "n2": this rack begins on n1; two ensembles would be two racks'):
        prepare(plan(tmp_path, first=NodeId("n2")))


def test_the_operators_file_leads_to_the_rack(tmp_path: Path) -> None:
    settings = {"zookeeper": {"client_port": 2999}, "timing": {"session_timeout_ms": 4_000}, "metrics": "{address}:99"}
    wanted = plan(tmp_path, settings=settings)
    prepare(wanted)
    access = load_access(operator_file(wanted.out))
    assert access.servers()[NodeId("n3")] == "10.9.0.3:2999"
    assert access.agents()[NodeId("n1")] == "10.9.0.1:99"
    assert access.config.timing.session_timeout_ms == 4_000
    assert not access.local
    assert access.config.tables.tls is not None
    assert read(access.config.tables.tls.cert).subject == "CN=operator,O=rack"


def test_what_comes_next_is_said(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    text = told(wanted, prepare(wanted))
    assert "a rack of 3 nodes; 3 of them new" in text
    assert "on n1 first: rack supervisor --config" in text
    assert "new" not in told(wanted, prepare(wanted)).replace("0 of them new", "")


def test_certificates_that_end_soon_are_renewed_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = plan(tmp_path, renew=True)
    prepare(wanted)
    assert prepare(wanted).renewed == ()
    later = read(operator_file(wanted.out).parent / "tls" / "operator.pem").ends_ms - 40 * 86_400_000
    monkeypatch.setattr("drivers.ca.wall_ms", lambda: later)
    assert prepare(plan(tmp_path)).renewed == ()
    assert prepare(wanted).renewed == ("n1", "n2", "n3", "operator")
    assert prepare(wanted).renewed == ()


PROBLEMS = (
    ({"first": NodeId("n9")}, '--node = "n9": no such node; allowed: n1, n2, n3'),
    ({"inventory": Path("nowhere.toml")}, "nowhere.toml: cannot be read"),
    ({"catalog": Path("nowhere.toml")}, "nowhere.toml: cannot be read"),
)


@pytest.mark.parametrize(("changes", "said"), PROBLEMS, ids=lambda value: str(value)[:30])
def test_bad_input_is_named_and_nothing_is_made(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("(", "\\(")):
        prepare(plan(tmp_path, **changes))
    assert not (tmp_path / "rack").exists()


def test_all_problems_of_all_files_come_together(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    (tmp_path / "bmc1.password").unlink()
    (tmp_path / "bmc2.password").write_text("two\nlines\n", encoding="utf-8")
    wanted.catalog.write_text(
        'name = "x"\n[[service]]\nname = "db"\nrun = "singleton"\nvolume = "db"\nfence = "storage"\n'
        'address = "10.9.0.2"\ncores = 99\n',
        encoding="utf-8",
    )
    with pytest.raises(InputError) as raised:
        prepare(wanted)
    said = "\n".join(raised.value.problems)
    for part in (
        "bmc1.password: cannot be read",
        "bmc2.password: is not one line",
        "is the address of node n2",
        "--ceph-conf FILE, or a catalog without volumes",
        "fits on 0 of 3 nodes",
    ):
        assert part in said


def test_a_rack_that_finds_its_machines_may_begin_with_too_few_for_all_copies(tmp_path: Path) -> None:
    wanted = plan(tmp_path, nodes=1)
    copies = '[[service]]\nname = "web"\nrun = { count = 3 }\nhealth = { kind = "tcp", port = 80 }\n'
    wanted.catalog.write_text(wanted.catalog.read_text(encoding="utf-8") + copies, encoding="utf-8")
    with pytest.raises(InputError, match="fits on 1 of 1 nodes, needed: 3"):
        prepare(wanted)
    found = '[[network]]\nname = "mgmt"\nsubnet = "10.8.0.0/24"\n'
    access = '[[network.access]]\nname = "lab"\npassword_file = "bmc1.password"\n'
    wanted.inventory.write_text(wanted.inventory.read_text(encoding="utf-8") + found + access, encoding="utf-8")
    assert prepare(wanted).nodes == ("n1",)


def test_a_node_may_not_be_called_what_the_rack_itself_is_called(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    wanted.inventory.write_text('[[node]]\nid = "operator"\nnumber = 1\naddress = "10.9.0.1"\n', encoding="utf-8")
    with pytest.raises(InputError, match='node "operator": this name is taken by the rack itself'):
        prepare(wanted)


def test_the_way_to_ceph_reaches_nodes_and_operator(tmp_path: Path) -> None:
    ceph = CephAccess(conf=Path("/etc/ceph/x.conf"), user="moxie", keyring=Path("/etc/ceph/k"), pool="volumes")
    wanted: Plan = plan(tmp_path, ceph=ceph)
    prepare(wanted)
    tables = (
        load_config(node_folder(wanted.out, NodeId("n1")) / "node.toml").tables.ceph,
        load_access(operator_file(wanted.out)).config.tables.ceph,
    )
    for table in tables:
        assert table is not None
        assert (table.conf, table.user, table.keyring, table.pool) == (ceph.conf, "moxie", ceph.keyring, "volumes")


class Paper:
    """A tree of records in memory: seeding needs nothing of ZooKeeper but create and compare-and-set."""

    def __init__(self) -> None:
        self.found: dict[str, Change] = {}

    def prepare(self) -> tuple[str, ...]:
        return ()

    def read(self, path: str) -> Change:
        return self.found.get(path, Change(path=path, zxid=0))

    def create(self, path: str, record: AnyRecord) -> bool:
        if path in self.found:
            return False
        self.found[path] = Change(path=path, zxid=1, data=record)
        return True

    def put(self, path: str, record: AnyRecord, version: int) -> bool:
        if self.found[path].version != version:
            return False
        self.found[path] = Change(path=path, zxid=2, version=version + 1, data=record)
        return True


def test_seeding_again_keeps_what_the_rack_wrote(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    prepare(wanted)
    config = load_access(operator_file(wanted.out)).config
    paper = Paper()
    assert seed(paper, config) == (f"wrote {CLUSTER}", "wrote /moxie/services/ntp", "wrote /moxie/services/cron")
    paper.put(CLUSTER, ClusterRecord(ensemble_size=1, maintenance=(NodeId("n2"),)), 0)
    assert seed(paper, config) == (f"changed {CLUSTER}",)
    assert paper.read(CLUSTER).data == ClusterRecord(ensemble_size=3, maintenance=(NodeId("n2"),))
    assert paper.read(service_path(config.catalog.names[0])).version == 0
    assert seed(paper, config) == ()


@pytest.mark.parametrize(("nodes", "size"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (250, 5)])
def test_the_ensemble_grows_to_an_odd_size_that_the_rack_can_fill(nodes: int, size: int) -> None:
    assert ensemble_size(nodes) == size


def test_what_is_written_as_toml_reads_back_the_same() -> None:
    table = {
        "text": 'quo"te \\ and \x7f, é\n',
        "path": Path("/a b"),
        "left out": None,
        "yes": True,
        "many": (1, 2.5, "x"),
        "inner table": {"a": 1, "deeper": {"b": [1]}},
        "row": [{"x": 1}, {"x": 2, "in": {"y": 3}}],
    }
    read_back = parse_toml(toml_text(table).encode(), "x")
    assert read_back == {
        **{key: value for key, value in table.items() if key not in ("left out", "path", "many")},
        "path": "/a b",
        "many": [1, 2.5, "x"],
    }


def test_what_redfish_certificates_are_checked_with_goes_to_every_node(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    authority = Authority(tmp_path / "vendor")
    authority.make()
    vendor = authority.cert.read_bytes()
    inventory = tmp_path / "inventory.toml"
    text = inventory.read_text(encoding="utf-8").replace(
        'driver = "ipmi"', 'driver = "redfish"\nca = "vendor/ca.pem"', 1
    )
    text += '[[network]]\nname = "mgmt"\nsubnet = "10.8.0.0/24"\n'
    text += '[[network.access]]\nname = "web"\ndriver = "redfish"\n'
    text += 'password_file = "bmc1.password"\nca = "vendor/ca.pem"\n'
    inventory.write_text(text, encoding="utf-8")
    prepare(wanted)
    moved = tmp_path / "elsewhere"
    node_folder(wanted.out, NodeId("n2")).rename(moved)
    authority.cert.unlink()
    config = load_config(moved / "node.toml")
    (access_of,) = config.inventory.networks[0].access
    for ca in (config.machines[NodeId("n1")].bmc.ca, access_of.ca):
        assert ca is not None
        assert moved in ca.parents
        assert ca.read_bytes() == vendor
    with pytest.raises(InputError, match=r"ca\.pem: holds no certificate"):
        prepare(wanted)
