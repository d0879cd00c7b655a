"""No secret of a running rack is where it does not belong: logs, journals, snapshots, command lines, open files."""

import http.client
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.access import load_access
from drivers.init import prepare
from drivers.snapshot import secrets_of
from drivers.zookeeper_server import super_password
from tests.real.rack_on_loopback import PORT, UP_S_MAX, Rack, rack, wait_until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("rack")]


class Traces:
    """What a rack of one node left behind: its secrets, and everything that it wrote and showed."""

    def __init__(self, one: Rack, shown: dict[str, bytes]) -> None:
        self.rack = one
        config = load_access(one.node_file(one.nodes[0])).config
        session = json.loads((config.tables.run_dir / "session").read_bytes())["password"]
        keys = [path.read_bytes() for path in one.plan.out.rglob("*.key") if b"PRIVATE KEY" in path.read_bytes()]
        self.secrets: dict[str, bytes] = {
            "a BMC's password": b"hunter-1-secret",
            "the heartbeat key": (one.plan.out / "ca" / "heartbeat.key").read_bytes().strip(),
            "the password of the ensemble": super_password(config).encode(),
            "a session's password": session.encode(),
            "a session's password, raw": bytes.fromhex(session),
        }
        self.secrets |= {f"private key {number}": key.splitlines()[1] for number, key in enumerate(keys)}
        self.known = secrets_of(config)
        self.shown = shown

    def found_in(self, data: bytes) -> list[str]:
        """The secrets in some bytes, by name."""
        return [name for name, secret in self.secrets.items() if secret in data]


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traces]:
    """Run one node until it serves, look at everything that it shows, and keep it running."""
    one = Rack(tmp_path_factory.mktemp("secrets"), nodes=1, subnet=42)
    prepare(one.plan)
    try:
        one.start(one.nodes[0])
        seed = ("init", "--seed-records", "--config", one.operator)
        wait_until(lambda: rack(*seed).returncode == 0, UP_S_MAX, "the server takes records")
        wait_until(lambda: one.members() == ("n1",), UP_S_MAX, "it is a member")
        wait_until(lambda: one.status()["singletons"]["cron"]["serving"], UP_S_MAX, "cron serves")
        file = str(one.node_file(one.nodes[0]))
        shown = {path: fetched(path) for path in ("/metrics", "/view")}
        shown |= {word: said(word, "--config", file) for word in ("status", "check")}
        shown |= {f"{word} --json": said(word, "--json", "--config", file) for word in ("status", "check")}
        said("snapshot", "--out", str(one.folder / "snap"), "--config", file)
        yield Traces(one, shown)
    finally:
        one.stop()


def fetched(path: str) -> bytes:
    """What the agent answers over HTTP."""
    connection = http.client.HTTPConnection("127.42.0.1", PORT + 4, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse().read()
    finally:
        connection.close()
    assert answer
    return answer


def said(*words: str) -> bytes:
    """What a command printed."""
    done = rack(*words)
    assert done.returncode in (0, 1), done.stderr
    return (done.stdout + done.stderr).encode()


def test_nothing_that_is_shown_holds_a_secret(traces: Traces) -> None:
    assert {what: found for what, data in traces.shown.items() if (found := traces.found_in(data))} == {}


def test_no_log_journal_or_snapshot_holds_a_secret(traces: Traces) -> None:
    folder = traces.rack.folder
    files = [traces.rack.log(traces.rack.nodes[0]), *(folder / "snap").rglob("*")]
    files += [*(folder / "n1" / "state" / "journal").iterdir(), *(folder / "n1" / "state").glob("*.log")]
    files += [folder / "n1" / "run" / "view.json"]
    read = {path: path.read_bytes() for path in files if path.is_file()}
    assert len(read) >= 10
    assert sum(map(len, read.values())) > 10_000
    assert {str(path): found for path, data in read.items() if (found := traces.found_in(data))} == {}


def test_no_file_that_others_may_read_holds_a_secret(traces: Traces) -> None:
    found = {}
    for top in (traces.rack.folder / "n1", traces.rack.plan.out):
        for path in top.rglob("*"):
            if path.is_file() and not path.is_symlink() and open_to_others(path, top):
                held = traces.found_in(path.read_bytes())
                if held:
                    found[str(path)] = held
    assert found == {}


def open_to_others(path: Path, top: Path) -> bool:
    """Whether somebody else could read a file if the folder ``top`` were open to them."""
    if not path.stat().st_mode & (stat.S_IROTH | stat.S_IRGRP):
        return False
    between = [folder for folder in path.parents if top in folder.parents]
    return all(folder.stat().st_mode & (stat.S_IXOTH | stat.S_IXGRP) for folder in between)


def test_no_command_line_and_no_environment_holds_a_secret(traces: Traces) -> None:
    pids = [entry.split()[0] for entry in traces.rack.left_over()]
    assert len(pids) >= 3  # supervisor, agent, ZooKeeper
    found = {}
    for pid in pids:
        for name in ("cmdline", "environ"):
            held = traces.found_in((Path("/proc") / pid / name).read_bytes())
            if held:
                found[f"{pid} {name}"] = held
    assert found == {}


def test_a_snapshot_knows_every_secret_that_it_must_not_hold(traces: Traces) -> None:
    own = [name for name, secret in traces.secrets.items() if secret in traces.known]
    assert {"a BMC's password", "the heartbeat key", "a session's password"} <= set(own)
    assert any(name.startswith("private key") for name in own)
