"""Files and command line of a node's ZooKeeper server."""

import socket
import subprocess
from pathlib import Path

import msgspec
import pytest

from core.ids import NodeId
from core.specs import Timing
from drivers import zookeeper_server as server
from drivers.config import Config, Machine, NodeTables, Tls, ZooKeeperTable
from drivers.inventory import Machines
from formats.catalog import load_catalog

N1, N2 = NodeId("n1"), NodeId("n2")
CATALOG = Path(__file__).parents[2] / "catalog" / "minimal.toml"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "key").write_text("a secret\n")
    for name in ("ca.pem", "node.pem", "node.key"):
        (tmp_path / name).write_text(f"-- {name} --\n")
    tables = NodeTables(
        node="n1",
        inventory=tmp_path / "inventory.toml",
        catalog=CATALOG,
        state_dir=tmp_path / "state",
        run_dir=tmp_path / "run",
        heartbeat_key=tmp_path / "key",
        tls=Tls(ca=tmp_path / "ca.pem", cert=tmp_path / "node.pem", key=tmp_path / "node.key"),
    )
    machines = {NodeId(f"n{n}"): Machine(id=f"n{n}", number=n, address=f"127.29.0.{n}") for n in range(1, 4)}
    return Config(
        file=tmp_path / "node.toml",
        tables=tables,
        timing=Timing(),
        catalog=load_catalog(CATALOG),
        machines=Machines(machines),
    )


def settings(config: Config) -> dict[str, str]:
    lines = (server.folder(config) / "zoo.cfg").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_with_tls_no_plain_port_serves_anybody_and_every_file_is_the_owners(config: Config) -> None:
    server.prepare(config, (N2,))
    found = settings(config)
    assert found["secureClientPort"] == "2281"
    assert found["sslQuorum"] == "true"
    assert found["ssl.clientAuth"] == found["ssl.quorum.clientAuth"] == "need"
    assert "clientPort" not in found
    members = Path(found["dynamicConfigFile"]).read_text().splitlines()
    assert members == [f"server.{n}=127.29.0.{n}:2888:3888:participant;127.0.0.{n}:2282" for n in (1, 2)]
    assert (found["enforce.auth.enabled"], found["enforce.auth.schemes"]) == ("true", "x509")
    assert (server.folder(config) / "data" / "myid").read_text() == "1\n"
    assert (server.folder(config) / "server.pem").read_text() == "-- node.key --\n-- node.pem --\n"
    files = [path for path in server.folder(config).rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


def test_preparing_again_keeps_the_members_that_zookeeper_knows_better(config: Config) -> None:
    server.prepare(config, ())
    place = server.folder(config)
    grown = place / "zoo.cfg.dynamic.100000005"
    grown.write_text("server.1=x\nserver.2=y\nserver.3=z\n")
    (place / "zoo.cfg").write_text(f"tickTime=1\ndynamicConfigFile={grown}\n")
    server.prepare(config, (N2,))
    assert settings(config)["dynamicConfigFile"] == str(grown)
    assert settings(config)["tickTime"] == "500", "what the node's file says holds from the next start on"
    before = (place / "zoo.cfg").stat().st_mtime_ns
    server.prepare(config, (N2,))
    assert (place / "zoo.cfg").stat().st_mtime_ns == before


def test_a_server_that_was_retired_begins_anew_but_never_a_second_ensemble(config: Config) -> None:
    assert not server.configured(config)
    (config.file.parent / server.FIRST_SERVER).touch()
    assert server.configured(config)
    assert server.is_first(config)
    server.prepare(config, ())
    server.retire(config)
    server.retire(config)
    assert not (server.folder(config) / "zoo.cfg").exists()
    assert not server.is_first(config), "its rack began long ago"
    assert not server.configured(config)


def test_a_node_that_knew_voters_begins_no_ensemble(config: Config) -> None:
    (config.file.parent / server.FIRST_SERVER).touch()
    config.tables.state_dir.mkdir()
    (config.tables.state_dir / "voters").write_text('["n2"]')
    assert not server.is_first(config)


def test_only_the_ensembles_first_server_may_begin_with_no_data(config: Config) -> None:
    mark = server.folder(config) / "data" / "initialize"
    server.prepare(config, (N2,))
    assert settings(config)["db.autocreate"] == "false"
    assert not mark.exists()
    server.prepare(config, (), begin=True)
    assert mark.exists()
    mark.unlink()
    (mark.parent / "version-2").mkdir()
    (mark.parent / "version-2" / "snapshot.0").touch()
    server.prepare(config, (), begin=True)
    assert not mark.exists(), "it began already"


def test_a_server_whose_data_is_gone_finds_its_number_again(config: Config) -> None:
    server.prepare(config, (N2,))
    data = server.folder(config) / "data"
    (data / "myid").unlink()
    data.rmdir()
    shell, flag, script, *words = server.command(config)
    done = subprocess.run(
        (shell, flag, script, *words[:3], "echo", "began"), capture_output=True, text=True, check=True
    )
    assert (done.stdout, (data / "myid").read_text()) == ("began\n", "1\n")


def test_no_secret_is_on_the_command_line(config: Config) -> None:
    words = " ".join(server.command(config))
    assert server.super_password(config) not in words
    assert "a secret" not in words
    assert str(server.folder(config) / "zoo.cfg") in words


def test_without_tls_clients_use_the_plain_port_of_the_members_list(config: Config) -> None:
    plain = msgspec.structs.replace(config, tables=msgspec.structs.replace(config.tables, tls=None))
    server.prepare(plain, ())
    found = settings(plain)
    assert not [key for key in found if key.startswith(("ssl", "secure"))]
    members = Path(found["dynamicConfigFile"]).read_text().splitlines()
    assert members == ["server.1=127.29.0.1:2888:3888:participant;127.29.0.1:2281"]


def test_session_timeouts_outside_the_servers_usual_range_are_allowed(config: Config) -> None:
    table = ZooKeeperTable(tick_ms=2_000)
    tables = msgspec.structs.replace(config.tables, zookeeper=table)
    server.prepare(msgspec.structs.replace(config, tables=tables), ())
    assert settings(config)["minSessionTimeout"] == "2000"
    assert settings(config)["maxSessionTimeout"] == "40000"


def test_another_server_is_noticed_before_an_ensemble_begins(config: Config) -> None:
    assert not server.another_answers(config)
    with socket.create_server(("127.29.0.3", 0)) as other:
        table = ZooKeeperTable(client_port=other.getsockname()[1])
        tables = msgspec.structs.replace(config.tables, zookeeper=table)
        assert server.another_answers(msgspec.structs.replace(config, tables=tables))


def test_a_server_that_does_not_answer_serves_nobody(config: Config) -> None:
    with socket.create_server(("127.29.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
    status = server.status("127.29.0.1", port, None)
    assert not status.serves
    assert status.mode == ""
    assert status.detail


def test_who_listens_is_found_among_many_that_do_not(config: Config) -> None:
    with socket.create_server(("127.29.0.7", 0)) as one:
        port = one.getsockname()[1]
        asked = [f"127.29.0.{number}:{port}" for number in range(1, 20)]
        assert server.listening(asked, 2_000) == (f"127.29.0.7:{port}",)
    assert server.listening(asked, 200) == ()


def test_a_rack_that_has_grown_begins_nowhere_again(config: Config) -> None:
    mark = config.file.parent / server.FIRST_SERVER
    mark.touch()
    server.has_grown(config)
    server.has_grown(config)
    assert not mark.exists()
