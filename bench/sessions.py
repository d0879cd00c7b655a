"""So many agents' worth of sessions against an ensemble of three on this machine: no session may end that should not.

Each agent's worth is the drivers' own client with the mirrors that an agent has, over mutual TLS as on a rack; a tenth
of them hold a singleton and ask coordination beats four times a second. Once a second a member record changes, which
all of them are told.
"""

import multiprocessing
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from bench.running import cpu_of
from bench.table import Row
from core import effects as fx
from core.errors import InputError
from core.events import AnyEvent, BeatAnswered, Committed, OpFailed, OpSucceeded, SessionEnded, SessionOpened
from core.ids import NO_SESSION, BootId, Epoch, NodeId, OpId, ServiceName, SessionId
from core.ports import Emit
from core.records import (
    CLUSTER,
    ENSEMBLE,
    LEASES,
    MEMBERS,
    NODES,
    TERMS,
    LeaseRecord,
    MemberRecord,
    TermRecord,
    lease_path,
    member_path,
    node_path,
    term_path,
)
from drivers import zookeeper_server as server
from drivers.access import load_access
from drivers.beats import CoordinationBeats
from drivers.config import Config, load_config
from drivers.init import Plan, node_folder, operator_file, prepare
from drivers.seed import seed_rack
from drivers.zookeeper_port import ZooKeeper

MINUTES = 10.0
AGENTS, HOLDER_EVERY, PROCESSES, SERVERS = 200, 10, 4, 3
JOINS_A_SECOND = 3
PORT = 24_281
SUBNET = "127.91.0"
BEATS_A_SECOND = 4
AGAIN_MS = 1_000
START_S_MAX, JOIN_S_MAX = 60.0, 600.0
CATALOG = 'name = "sessions"\n[[service]]\nname = "ntp"\nrun = "everywhere"\n'


class Counts(msgspec.Struct, kw_only=True):
    """What became of one process's sessions. ``waits_ms``: how many beats were answered after so many ms."""

    joined: int = 0
    ended: int = 0
    reconnects: int = 0
    ok: int = 0
    unanswered: int = 0
    refused: int = 0
    told: int = 0
    waits_ms: dict[int, int] = {}
    cpu_s: float = 0.0
    threads: int = 0

    def add(self, other: "Counts") -> None:
        """Add another process's counts."""
        for name in self.__struct_fields__:
            if name != "waits_ms":
                setattr(self, name, getattr(self, name) + getattr(other, name))
        for wait_ms, count in other.waits_ms.items():
            self.waits_ms[wait_ms] = self.waits_ms.get(wait_ms, 0) + count


def rows(minutes: float = MINUTES) -> Iterator[Row]:
    """Measure for so many minutes after everybody has joined."""
    missing = [name for name in ("java", "sh") if shutil.which(name) is None]
    if missing or not Path("/usr/share/java/zookeeper.jar").exists():
        yield Row(what="not measured", measured="no ZooKeeper here; remedy: make packages")
        return
    with tempfile.TemporaryDirectory() as folder:
        rack = Rack(Path(folder))
        try:
            yield from _measured(rack, minutes)
        finally:
            rack.stop()


def _measured(rack: "Rack", minutes: float) -> Iterator[Row]:
    rack.start()
    crew = Workers(rack)
    try:
        begun = time.monotonic()
        crew.wait_joined()
        joined_s = time.monotonic() - begun
        before, servers_s = crew.counts(), rack.cpu_s()
        time.sleep(minutes * 60)
        after, servers_after_s = crew.counts(), rack.cpu_s()
    finally:
        crew.stop()
    seconds = minutes * 60
    load = os.getloadavg()[1]
    waits = {ms: count - before.waits_ms.get(ms, 0) for ms, count in after.waits_ms.items()}
    lost = after.ended - before.ended
    unanswered, asked = after.unanswered - before.unanswered, after.ok - before.ok
    yield Row(what="sessions", measured=f"{after.joined}", target=f"{AGENTS}", ok=after.joined == AGENTS)
    yield Row(what="minutes", measured=f"{minutes:g}", target=f">= {MINUTES:g}", ok=minutes >= MINUTES)
    yield Row(what="false expiries", measured=f"{lost}", target="0", ok=lost == 0)
    yield Row(what="expiries while joining", measured=f"{before.ended}")
    yield Row(what="reconnects", measured=f"{after.reconnects - before.reconnects}")
    yield Row(what="beats answered", measured=f"{asked:,}")
    yield Row(what="beats unanswered", measured=f"{unanswered}")
    yield Row(
        what="beats refused",
        measured=f"{after.refused - before.refused}",
        target="0",
        ok=after.refused == before.refused,
    )
    for share in (50, 99, 99.9):
        yield Row(what=f"a beat's answer, p{share:g}", measured=f"{_quantile(waits, share)} ms")
    yield Row(what="records told", measured=f"{(after.told - before.told) / seconds:.0f} a second")
    yield Row(what="CPU of a session", measured=f"{(after.cpu_s - before.cpu_s) / seconds / AGENTS:.2%} of a core")
    yield Row(what="CPU of the three servers", measured=f"{(servers_after_s - servers_s) / seconds:.0%} of a core")
    yield Row(what="until all had joined", measured=f"{joined_s:.0f} s")
    yield Row(what="the machine's load meanwhile", measured=f"{load:.1f} on {os.cpu_count()} cores")


def _quantile(counts: dict[int, int], percent: float) -> int:
    """The smallest key that so many of what is counted do not exceed; 0 if there is nothing."""
    left = sum(counts.values()) * percent / 100
    for key in sorted(counts):
        left -= counts[key]
        if left <= 0:
            return key
    return max(counts, default=0)


# -- the rack ----------------------------------------------------------------------------------------------------------


class Rack:
    """The files of a rack in ``folder``, and its servers."""

    def __init__(self, folder: Path) -> None:
        self.nodes = tuple(NodeId(f"n{number}") for number in range(1, AGENTS + 1))
        self.folder = folder
        self._servers: list[subprocess.Popen[bytes]] = []
        tables = [
            f'[[node]]\nid = "{node}"\nnumber = {number}\naddress = "{SUBNET}.{number}"\n'
            for number, node in enumerate(self.nodes, 1)
        ]
        (folder / "inventory.toml").write_text("\n".join(tables), encoding="utf-8")
        (folder / "catalog.toml").write_text(CATALOG, encoding="utf-8")
        ports = {"client_port": PORT, "quorum_port": PORT + 1, "election_port": PORT + 2}
        prepare(
            Plan(
                inventory=folder / "inventory.toml",
                catalog=folder / "catalog.toml",
                out=folder / "rack",
                state_dir=folder / "{node}" / "state",
                run_dir=folder / "{node}" / "run",
                settings={"zookeeper": ports},
            )
        )

    def file(self, node: NodeId) -> Path:
        """A node's file."""
        return node_folder(self.folder / "rack", node) / "node.toml"

    def start(self) -> None:
        """Run the servers, and write the first records. Raises: TimeoutError."""
        configs = [load_config(self.file(node)) for node in self.nodes[:SERVERS]]
        for config in configs:
            server.prepare(config, self.nodes[:SERVERS], begin=True)
            with server.log_file(config).open("ab") as out:
                command = server.command(config)
                self._servers.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out))
        _await(lambda: all(server.own_status(config).serves for config in configs), START_S_MAX, "the servers serve")
        _await(self._seeded, START_S_MAX, "the first records are written")

    def _seeded(self) -> bool:
        try:
            seed_rack(load_access(operator_file(self.folder / "rack")))
        except InputError:
            return False
        return True

    def cpu_s(self) -> float:
        """What the servers have used so far."""
        return sum(cpu_of(process.pid) for process in self._servers)

    def stop(self) -> None:
        """End the servers."""
        for process in self._servers:
            process.kill()
            process.wait()


class Workers:
    """The processes in which the sessions live."""

    def __init__(self, rack: Rack) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._lines: list[Connection] = []
        self._processes = []
        for number in range(PROCESSES):
            ours, theirs = spawn.Pipe()
            files = [(index, rack.file(rack.nodes[index])) for index in range(number, AGENTS, PROCESSES)]
            process = spawn.Process(target=work, args=(files, theirs), daemon=True)
            process.start()
            self._lines.append(ours)
            self._processes.append(process)

    def counts(self) -> Counts:
        """Ask all of them."""
        total = Counts()
        for line in self._lines:
            line.send_bytes(b"?")
        for line in self._lines:
            total.add(msgspec.json.decode(line.recv_bytes(), type=Counts))
        return total

    def wait_joined(self) -> None:
        """Wait until everybody has joined. Raises: TimeoutError."""
        _await(lambda: self.counts().joined >= AGENTS, JOIN_S_MAX, "all have joined")

    def stop(self) -> None:
        """End them."""
        for process in self._processes:
            process.kill()
            process.join()


# -- inside a process --------------------------------------------------------------------------------------------------


def work(files: list[tuple[int, Path]], line: Connection) -> None:
    """Open a session for each of these nodes, then tell the counts whenever asked, until killed."""
    counts = Counts()
    agents: list[Agent] = []
    threading.Thread(target=_tell, args=(counts, line), daemon=True).start()
    for index, file in files:
        agents.append(Agent(load_config(file), index % HOLDER_EVERY == 0, counts))
        time.sleep(PROCESSES / JOINS_A_SECOND)
    while True:
        for agent in agents:
            time.sleep(PROCESSES)
            agent.change()


def _tell(counts: Counts, line: Connection) -> None:
    while line.recv_bytes():
        counts.cpu_s, counts.threads = time.process_time(), threading.active_count()
        line.send_bytes(msgspec.json.encode(msgspec.structs.replace(counts, waits_ms=dict(counts.waits_ms))))


class Agent:
    """What one agent does with ZooKeeper, without its machine; everything but ``change`` in its client's thread."""

    def __init__(self, config: Config, holds: bool, counts: Counts) -> None:
        self._config = config
        self._counts = counts
        self._service = ServiceName(f"s-{config.node}") if holds else ServiceName("")
        self._zookeeper = ZooKeeper(config, NoServices(), on_bug=lambda: os._exit(1))
        self._beats = CoordinationBeats(self._zookeeper)
        self._session = NO_SESSION
        self._op = 0
        self._version = -1
        self._seen = self._joined = False
        self._send(fx.OpenSession(resume=NO_SESSION))

    def change(self) -> None:
        """Write the member record anew, which all others are told; not before it is there."""
        if self._version < 0:
            return
        path = member_path(self._config.me.spec.rack, self._config.node)
        self._commit(fx.Put(path=path, data=self._member(), version=self._version))

    def _take(self, event: AnyEvent) -> None:
        counts = self._counts
        match event:
            case SessionOpened(resumed=True):
                counts.reconnects += 1
            case SessionOpened(session=session):
                counts.ended += self._seen
                self._seen, self._session = True, session
                self._join()
            case SessionEnded():
                self._send(fx.OpenSession(resume=NO_SESSION))
            case BeatAnswered(outcome="ok"):
                counts.ok += 1
                wait_ms = event.at_ms - event.asked_ms
                counts.waits_ms[wait_ms] = counts.waits_ms.get(wait_ms, 0) + 1
            case BeatAnswered(outcome="unanswered"):
                counts.unanswered += 1
            case BeatAnswered():
                counts.refused += 1
            case OpSucceeded(result=Committed(versions=versions)):
                self._committed(versions[0])
            case OpFailed() if self._version < 0:  # what an ended session had may still be there
                self._zookeeper.loop.after(AGAIN_MS, self._register)
            case _:
                counts.told += len(getattr(event, "changes", ()))

    def _join(self) -> None:
        self._version = -1
        self._register()
        for path in (MEMBERS, TERMS, LEASES):
            self._send(fx.Mirror(path=path, depth="tree"))
        for path in (CLUSTER, ENSEMBLE, node_path(self._config.node)):
            self._send(fx.Mirror(path=path, depth="one"))
        self._send(fx.Mirror(path=NODES, depth="names"))

    def _register(self) -> None:
        node, path = self._config.node, member_path(self._config.me.spec.rack, self._config.node)
        writes: list[fx.Write] = [fx.Create(path=path, data=self._member(), ephemeral=True)]
        if self._service:
            lease = LeaseRecord(node=node, session=self._session, epoch=Epoch(1))
            writes.append(fx.Create(path=lease_path(self._service), data=lease, ephemeral=True))
            if not self._joined:
                writes.append(fx.Create(path=term_path(self._service), data=TermRecord(epoch=Epoch(1), holder=node)))
        self._commit(*writes)

    def _beat(self) -> None:
        paths = lease_path(self._service), term_path(self._service)
        beat = fx.StartBeat(
            service=self._service,
            epoch=Epoch(1),
            kind="coordination",
            every_ms=1_000 // BEATS_A_SECOND,
            fresh_ms=self._config.timing.fresh_ms,
            session=self._session,
            checks=tuple(fx.Check(path=path, version=0) for path in paths),
        )
        self._beats.submit(beat, self._take)

    def _committed(self, version: int) -> None:
        self._counts.joined += not self._joined
        self._joined, self._version = True, version
        if self._service and version == 0:
            self._beat()

    def _member(self) -> MemberRecord:
        spec = self._config.me.spec
        return MemberRecord(
            node=spec.id,
            session=SessionId(self._session),
            boot_id=BootId("boot"),
            rack=spec.rack,
            power_domain=spec.power_domain,
            weight=spec.weight,
            cores=spec.cores,
            memory_bytes=spec.memory_bytes,
        )

    def _commit(self, *writes: fx.Write) -> None:
        self._op += 1
        ms_max = self._config.timing.commit_ms_max
        self._send(fx.Commit(op=OpId(self._op), session=self._session, writes=writes, ms_max=ms_max))

    def _send(self, effect: fx.OpenSession | fx.Mirror | fx.Commit) -> None:
        self._zookeeper.submit(effect, self._take)


class NoServices:
    """No node has a server or ears of its own here (``drivers.zookeeper_errands.NodeServices``)."""

    def run_server(self, argv: tuple[str, ...], log: str) -> None:
        """Nobody asks for it."""

    def end_server(self, op: OpId, done: Callable[[], None]) -> None:
        """Nobody asks for it."""

    def listen(self, nodes: tuple[NodeId, ...], emit: Emit) -> None:
        """Nobody speaks."""


def _await(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.5)
