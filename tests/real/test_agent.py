"""The agent as a process, with a supervisor that only listens and no ensemble: how it begins, shows itself, ends."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest

from core.events import AnyEvent, StorageSeen
from core.ids import BootId
from core.machine import Machine
from drivers.agent import DONE, FAILED, HAND_OVER
from drivers.clock import now_ms
from drivers.wire import Alive, FromAgent, Hello, Leaving, Told, Welcome, decode_from_agent, encode
from twin.journals import read_journal
from twin.replay import replay

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("agent")]

ROOT = Path(__file__).parents[2]
NODE = """
node = "n1"
inventory = "inventory.toml"
catalog = "catalog.toml"
state_dir = "state"
run_dir = "run"
heartbeat_port = 25200
[zookeeper]
client_port = 25201
"""
INVENTORY = '[[node]]\nid = "n1"\nnumber = 1\naddress = "127.0.0.1"\n'
CATALOG = """
name = "one"
[[service]]
name = "dns"
run = "everywhere"
"""


class Listener:
    """Takes one agent's connection and keeps what it said."""

    def __init__(self, path: Path) -> None:
        self.said: list[FromAgent] = []
        self._more = threading.Condition()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._link: socket.socket | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._link, _ = self._server.accept()
        except OSError:
            return
        with self._link.makefile("rb") as lines:
            for line in lines:
                said = decode_from_agent(line)
                with self._more:
                    self.said.append(said)
                    self._more.notify_all()
                if isinstance(said, Hello):
                    self._link.sendall(encode(Welcome(boot_id=BootId("boot-1"), incarnation=7)))

    def wait_for(self, kind: type, count: int = 1) -> None:
        """Wait until the agent has said something of a kind so often."""
        with self._more:
            assert self._more.wait_for(lambda: sum(isinstance(said, kind) for said in self.said) >= count, 60)

    def tell(self, event: AnyEvent) -> None:
        """Send the agent an event."""
        assert self._link is not None
        self._link.sendall(encode(Told(event=event)))

    def hang_up(self) -> None:
        """Close the connection as a supervisor that dies does."""
        assert self._link is not None
        self._link.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        if self._link is not None:
            self._link.close()


class Place:
    """A node's files, a listening supervisor, and agents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "node.toml"
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        self.config.write_text(NODE)
        (folder / "inventory.toml").write_text(INVENTORY)
        (folder / "catalog.toml").write_text(CATALOG)
        self.listener = Listener(self.run_dir / "supervisor.sock")
        self.agents: list[subprocess.Popen[str]] = []

    def start(self, *words: str, before: str = "") -> subprocess.Popen[str]:
        """Start an agent; ``before`` is Python that it runs first."""
        code = before + "import sys; from drivers.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-W", "error", "-c", code, "agent", "--config", str(self.config), *words]
        agent = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        self.agents.append(agent)
        return agent

    def view(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode((self.run_dir / "view.json").read_bytes())
        return found

    def journal(self) -> Path:
        return self.folder / "state" / "journal" / "journal-00000001.jsonl"

    def close(self) -> None:
        self.end_agents()
        self.listener.close()

    def end_agents(self) -> None:
        for agent in self.agents:
            agent.kill()
            agent.wait()
            for pipe in (agent.stdin, agent.stderr):
                assert pipe is not None
                pipe.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def lines(of: IO[str] | None) -> list[dict[str, Any]]:
    assert of is not None
    return [msgspec.json.decode(line) for line in of]


def await_line(of: IO[str] | None, kind: str) -> dict[str, Any]:
    """The next log line of a kind."""
    assert of is not None
    for line in of:
        found: dict[str, Any] = msgspec.json.decode(line)
        if found["kind"] == kind:
            return found
    raise AssertionError(f"the log ended without {kind}")


def until(what: Callable[[], bool], ms_max: int = 60_000) -> None:
    begun, pause = now_ms(), threading.Event()
    while not what():
        assert now_ms() - begun < ms_max
        pause.wait(0.02)


def test_an_agent_shows_that_it_lives_and_what_it_waits_for(place: Place) -> None:
    agent = place.start()
    place.listener.wait_for(Alive, 2)
    view = place.view()
    assert view["node"] == "n1"
    assert view["pending"]
    assert view["agent"]["pid"] == agent.pid
    assert view["agent"]["incarnation"] == 7


def test_a_terminated_agent_ends_at_once_and_gives_nothing_up(place: Place) -> None:
    agent = place.start()
    place.listener.wait_for(Alive)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(60) == DONE
    assert not any(isinstance(said, Leaving) for said in place.listener.said)
    assert await_line(agent.stderr, "agent_ends")["why"] == "stopped"


def test_its_journal_replays_byte_for_byte(place: Place) -> None:
    agent = place.start()
    place.listener.wait_for(Alive)
    for number in range(10):
        place.listener.tell(StorageSeen(at_ms=0, ok=number % 2 == 0))
    until(lambda: place.journal().read_bytes().count(b"StorageSeen") == 10)
    agent.kill()
    agent.wait()
    done = replay(read_journal(place.journal()), Machine, Machine.restore)
    assert (done.difference, done.events) == (None, 11)


def test_a_bad_new_configuration_is_refused_and_the_old_one_goes_on(place: Place) -> None:
    agent = place.start()
    place.listener.wait_for(Alive)
    place.config.write_text(NODE.replace("heartbeat_port", "heartbeat_prot"))
    agent.send_signal(signal.SIGHUP)
    refused = await_line(agent.stderr, "configuration_refused")
    assert "heartbeat_port" in refused["problems"][0]
    place.listener.wait_for(Alive, 2)
    assert agent.poll() is None


def test_a_good_new_configuration_ends_the_agent_to_be_restarted(place: Place) -> None:
    agent = place.start()
    place.listener.wait_for(Alive)
    agent.send_signal(signal.SIGHUP)
    assert agent.wait(60) == DONE


def test_an_agent_whose_supervisor_is_gone_fails(place: Place) -> None:
    agent = place.start()
    place.listener.wait_for(Alive)
    place.listener.hang_up()
    assert agent.wait(60) == FAILED


def test_an_agent_without_a_supervisor_says_so_in_a_sentence(place: Place) -> None:
    (place.run_dir / "supervisor.sock").unlink()
    agent = place.start()
    assert agent.wait(60) == FAILED
    assert "cannot be reached" in await_line(agent.stderr, "agent_failed")["error"]


def test_a_bad_file_is_bad_input(place: Place) -> None:
    place.config.write_text("node = 3")
    agent = place.start()
    assert agent.wait(60) == 2


def test_a_spare_waits_for_its_word_with_everything_loaded(place: Place) -> None:
    spare = place.start("--spare")
    until(lambda: b"drivers.storage" in Path(f"/proc/{spare.pid}/maps").read_bytes() or spare.poll() is None)
    assert place.listener.said == []
    assert spare.stdin is not None
    spare.stdin.write("hand-over\n")
    spare.stdin.flush()
    place.listener.wait_for(Alive)
    assert await_line(spare.stderr, "agent_started")["hand_over"] is True


NOTHING_MORE = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        raise ImportError(f"{name} cannot be loaded any more")
class Input:
    def readline(self):
        line = sys.__stdin__.readline()
        sys.meta_path.insert(0, Gone())
        return line
sys.stdin = Input()
"""


def test_a_spare_works_when_nothing_can_be_loaded_any_more(place: Place) -> None:
    spare = place.start("--spare", before=NOTHING_MORE)
    assert spare.stdin is not None
    spare.stdin.write("hand-over\n")
    spare.stdin.flush()
    place.listener.wait_for(Alive, 3)  # it has tried to reach the ensemble meanwhile
    spare.send_signal(signal.SIGTERM)
    assert spare.wait(60) == DONE
    assert "cannot be loaded" not in str(lines(spare.stderr))


def test_a_spare_that_nobody_will_ask_ends(place: Place) -> None:
    spare = place.start("--spare")
    assert spare.stdin is not None
    spare.stdin.close()
    assert spare.wait(60) == DONE


@pytest.fixture
def full(place: Place) -> Iterator[Place]:
    """A node whose state folder is a file system with 16 KiB left."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    state = place.folder / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(state)], check=True)
    (state / "junk").write_bytes(b"x" * (48 << 10))
    yield place
    place.end_agents()
    subprocess.run(["umount", str(state)], check=True)


def fill(place: Place) -> None:
    """Leave no room at all."""
    more = place.folder / "state" / "more"
    with more.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_an_agent_whose_journal_is_full_steps_down_and_says_so(full: Place) -> None:
    agent = full.start()
    full.listener.wait_for(Alive)
    fill(full)
    with suppress(OSError):  # until it hangs up
        for number in range(100_000):
            full.listener.tell(StorageSeen(at_ms=0, ok=number % 2 == 0))
    assert agent.wait(60) == HAND_OVER
    down = [line for line in lines(agent.stderr) if line["kind"] == "agent_steps_down"]
    assert "no space left on device" in down[0]["why"]
    assert "steps down" in full.view()["pending"][0]


def test_an_agent_that_finds_the_disk_full_steps_down_at_once(full: Place) -> None:
    fill(full)
    agent = full.start()
    assert agent.wait(60) == HAND_OVER
    assert "steps down" in full.view()["pending"][0]


def test_a_hand_over_writes_elsewhere_while_the_disk_is_full_and_repeats_why(full: Place) -> None:
    fill(full)
    assert full.start().wait(60) == HAND_OVER
    (full.run_dir / "supervisor.sock").unlink()
    full.listener.close()
    full.listener = Listener(full.run_dir / "supervisor.sock")
    substitute = full.start("--hand-over")
    full.listener.wait_for(Alive, 2)
    assert "stepped down" in full.view()["pending"][0]
    substitute.kill()
    substitute.wait()
    path = full.run_dir / "journal" / "journal-00000001.jsonl"
    assert replay(read_journal(path), Machine, Machine.restore).difference is None
