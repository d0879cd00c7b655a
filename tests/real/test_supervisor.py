"""A whole supervisor in a network namespace of its own: real services, a real address, a real guard in the kernel."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core import effects as fx
from core.events import AnyEvent, OpSucceeded, RightExpired, ServiceExited
from core.ids import Epoch, OpId, ServiceName
from drivers.clock import now_ms
from drivers.wire import Alive, EndServer, FromAgent, Hello, Order, RunServer, ServerEnded, Told, Welcome, encode
from drivers.wire import decode_from_supervisor as decode
from tests.real.require import require

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("supervisor")]

ROOT = Path(__file__).parents[2]
REGISTER, CRON = ServiceName("register"), ServiceName("cron")
EPOCH = Epoch(3)
ADDRESS = "10.77.0.100"
RSS_KB_MAX = 40_000

NODE = """
node = "n1"
inventory = "inventory.toml"
catalog = "catalog.toml"
state_dir = "state"
run_dir = "run"
metrics = ""
[address]
interface = "eth0"
"""
INVENTORY = """
[[node]]
id = "n1"
number = 1
address = "10.77.0.1"
"""
CATALOG = """
name = "test"
[[service]]
name = "register"
run = "singleton"
address = "10.77.0.100"
health = { kind = "tcp", port = 24017, every_ms = 200 }
process = { command = ["python3", "-m", "http.server", "--bind", "0.0.0.0", "24017"] }
[[service]]
name = "cron"
run = "singleton"
process = { command = ["sleep", "600"] }
"""
STARTER = """
import msgspec, sys
from pathlib import Path
from drivers import supervisor
from drivers.config import load_config
from core.errors import InputError
try:
    config = load_config(Path(sys.argv[1]))
    parts = supervisor.parts_of(config)
    idle = ("sleep", "600")
    replace = msgspec.structs.replace
    parts.life = replace(parts.life, agent=idle, spare=("cat",), hand_over=("true",), give_up_ms=600_000)
    sys.exit(supervisor.main(config, parts))
except InputError as error:
    print(*error.problems, file=sys.stderr)
    sys.exit(2)
"""
INSIDE = """
ip link set lo up
ip link add eth0 type veth peer name eth1
ip link set eth1 up
ip addr add 10.77.0.1/24 dev eth0
ip link set eth0 up
exec "$@"
"""


class Agent:
    """A connection to the supervisor, driven by the test."""

    def __init__(self, path: Path) -> None:
        self._link = socket.socket(socket.AF_UNIX)
        self._link.connect(str(path))
        self._link.settimeout(10)
        self._lines = self._link.makefile("rb")
        self.say(Hello(pid=os.getpid(), version="test"))
        welcome = decode(self._lines.readline())
        assert isinstance(welcome, Welcome)
        self.welcome = welcome
        self.ops = 0

    def say(self, record: FromAgent) -> None:
        self._link.sendall(encode(record))

    def order(self, effect: object) -> None:
        self.say(Order(effect=effect))  # type: ignore[arg-type]  # the tests order what this record takes

    def hear(self, kind: type[AnyEvent]) -> AnyEvent:
        """The next event of a kind; others are left out."""
        while True:
            said = decode(self._lines.readline())
            if isinstance(said, Told) and isinstance(said.event, kind):
                return said.event

    def hear_server_end(self) -> ServerEnded:
        while not isinstance(said := decode(self._lines.readline()), ServerEnded):
            pass
        return said

    def start(self, service: ServiceName) -> None:
        self.ops += 1
        op = OpId(self.ops)
        self.order(fx.StartService(op=op, service=service, epoch=EPOCH, instance=None, ms_max=10_000))
        assert isinstance(self.hear(OpSucceeded), OpSucceeded)  # type: ignore[arg-type]  # a member of the union

    def arm(self, service: ServiceName, ms: int) -> None:
        self.order(fx.ArmRight(service=service, epoch=EPOCH, until_ms=now_ms() + ms))

    def close(self) -> None:
        self._lines.close()
        self._link.close()


class House:
    """One supervisor process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in (("node", NODE), ("inventory", INVENTORY), ("catalog", CATALOG)):
            (folder / f"{name}.toml").write_text(text, encoding="ascii")
        (folder / "starter.py").write_text(STARTER, encoding="ascii")
        self.socket = folder / "run/supervisor.sock"
        self.agents: list[Agent] = []
        self.log = (folder / "supervisor.log").open("ab")
        self.process = self.begin()

    def begin(self) -> "subprocess.Popen[bytes]":
        argv = ("unshare", "--net", "sh", "-c", INSIDE, "sh", sys.executable, str(self.folder / "starter.py"))
        return subprocess.Popen(
            (*argv, str(self.folder / "node.toml")),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=self.log,
        )

    def agent(self) -> Agent:
        wait(self.socket.exists)
        self.agents.append(Agent(self.socket))
        return self.agents[-1]

    def inside(self, *argv: str) -> str:
        done = subprocess.run(("nsenter", "-t", str(self.process.pid), "-n", *argv), capture_output=True, text=True)
        return done.stdout + done.stderr

    def services(self, name: str) -> list[int]:
        mark = f"MOXIE_UNIT={self.folder}/run:{name}".encode()
        return [pid for pid in pids() if mark in environment(pid)]

    def close(self) -> None:
        for agent in self.agents:
            agent.close()
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(90)
        self.log.close()


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def wait(condition: Callable[[], bool], seconds: float = 15) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "in vain"
        time.sleep(0.02)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    require("nft", "ip", "unshare", "nsenter", "ss")
    made = House(tmp_path)
    yield made
    made.close()


def answers(house: House) -> bool:
    """Whether the register answers under its address."""
    code = f"import socket; socket.create_connection(('{ADDRESS}', 24017), 0.5)"
    return "rror" not in house.inside("python3", "-c", code)


def test_a_service_serves_as_long_as_its_right_lasts_and_is_frozen_after_it(house: House) -> None:
    agent = house.agent()
    agent.start(REGISTER)
    agent.order(fx.AnnounceAddress(service=REGISTER, epoch=EPOCH))
    agent.arm(REGISTER, 8_000)
    wait(lambda: ADDRESS in house.inside("ip", "addr"), 3)
    wait(lambda: answers(house), 3)
    link = f"import socket; s = socket.create_connection(('{ADDRESS}', 24017), 1); s.settimeout(20); s.recv(1)"
    with subprocess.Popen(
        ("nsenter", "-t", str(house.process.pid), "-n", "python3", "-c", link), stderr=subprocess.PIPE, text=True
    ) as client:
        agent.hear(RightExpired)  # type: ignore[arg-type]  # a member of the union
        assert ADDRESS not in house.inside("ip", "addr")
        said = client.communicate(timeout=30)[1]
        assert "ConnectionResetError" in said or "ConnectionAbortedError" in said, "its connections are cut"
    assert not answers(house)
    agent.arm(REGISTER, 60_000)
    agent.order(fx.ResumeService(service=REGISTER, epoch=EPOCH))
    agent.order(fx.AnnounceAddress(service=REGISTER, epoch=EPOCH))
    wait(lambda: answers(house))


def test_services_outlive_the_agent_and_the_next_one_is_told_of_them(house: House) -> None:
    agent = house.agent()
    agent.start(REGISTER)
    agent.start(CRON)
    agent.arm(REGISTER, 60_000)
    agent.order(fx.AnnounceAddress(service=REGISTER, epoch=EPOCH))
    wait(lambda: answers(house))
    agent.close()
    (pid,) = house.services("cron")
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not house.services("cron"))
    again = house.agent()
    assert again.welcome.incarnation == agent.welcome.incarnation + 1
    assert [(r.service, r.epoch, r.announced) for r in again.welcome.running] == [
        (CRON, EPOCH, False),
        (REGISTER, EPOCH, True),
    ]
    exited = again.hear(ServiceExited)  # type: ignore[arg-type]  # a member of the union
    assert isinstance(exited, ServiceExited)
    assert exited.service == CRON
    assert answers(house)


def test_a_killed_supervisor_takes_everything_along_and_the_next_one_starts_clean(house: House) -> None:
    agent = house.agent()
    agent.start(REGISTER)
    house.process.kill()
    house.process.wait()
    wait(lambda: not house.services("register"))
    house.socket.unlink()
    house.process = house.begin()
    again = house.agent()
    assert again.welcome.running == ()
    assert again.welcome.incarnation == agent.welcome.incarnation + 1, "a journal never sees a number twice"


def test_an_orderly_end_stops_services_and_leaves_nothing(house: House) -> None:
    agent = house.agent()
    agent.start(REGISTER)
    house.process.terminate()
    assert house.process.wait(60) == 0
    assert house.services("register") == []
    assert not house.socket.exists()


def test_a_second_supervisor_of_a_node_is_refused_with_a_sentence(house: House) -> None:
    house.agent()
    second = house.begin()
    assert second.wait(30) == 2
    text = (house.folder / "supervisor.log").read_text(encoding="utf-8")
    assert f"another supervisor of this node runs, process {house.process.pid}" in text


def test_the_zookeeper_server_is_kept_running_over_agents_and_supervisors(house: House) -> None:
    agent = house.agent()
    assert not agent.welcome.server
    out = house.folder / "server.out"
    argv = ("sh", "-c", "echo began; exec sleep 600")
    agent.say(RunServer(argv=argv, log=str(out)))
    agent.say(RunServer(argv=argv, log=str(out)))
    wait(lambda: out.exists() and out.read_text(encoding="ascii") == "began\n")
    mine = [pid for pid in pids() if cmdline(pid) == b"sleep\x00600\x00" and parent(pid) == house.process.pid]
    assert len(mine) == 2, "the server and the idle agent"
    agent.close()
    house.process.kill()
    house.process.wait()
    house.socket.unlink()
    house.process = house.begin()
    again = house.agent()
    assert again.welcome.server
    wait(lambda: out.read_text(encoding="ascii").count("began") >= 2)
    assert [pid for pid in mine if cmdline(pid)] == []
    again.say(EndServer(op=OpId(5)))
    assert again.hear_server_end().op == 5


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_its_mounts_are_its_own_and_it_stays_small(house: House) -> None:
    agent = house.agent()
    agent.start(CRON)
    agent.say(Alive())
    own = Path("/proc/self/ns/mnt").readlink()
    assert Path(f"/proc/{house.process.pid}/ns/mnt").readlink() != own
    status = Path(f"/proc/{house.process.pid}/status").read_text(encoding="ascii")
    rss_kb = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert rss_kb < RSS_KB_MAX
    before, began = ticks(house.process.pid), time.monotonic()
    wait(lambda: time.monotonic() - began > 3)
    share = (ticks(house.process.pid) - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)
    assert share < 0.02, f"{share:.2%} of a core, {rss_kb} kB, page size {resource.getpagesize()}"


def ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
