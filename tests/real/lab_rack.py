"""A lab of real nodes for one test module, whose nodes run programs of their own that a test may change or break.

Timers are slower than a rack's, so that a busy machine is not taken for a broken one; and no steward resets a node that
is to come back by itself.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from core.ids import Epoch, NodeId, ServiceName
from core.records import NodeRecord, TermRecord, node_path
from core.specs import Timing
from drivers.ceph_cluster import ADMIN, POOL
from drivers.children import MARK
from drivers.clock import now_ms
from drivers.config import CephTable
from drivers.lab.audit import Row, out_of_order, rows
from drivers.lab.build import Blueprint, equal_nodes, lab_catalog
from drivers.lab.client import ClientPlan, read_history
from drivers.lab.lab import down, key_of, settle, up
from drivers.lab.layout import Layout
from drivers.lab.power import processes_of
from drivers.lab.rack import LabRack, is_agent
from drivers.lab.services import Endpoint, endpoints
from drivers.lab.shell import argv_of, call, state_of
from drivers.operate import Wish, next_step
from drivers.status_text import status_text
from drivers.zookeeper import Brief
from formats.catalog import load_catalog
from formats.paint import Paint
from tests.real.require import require
from trial.history import acknowledged, by_service, double_writers, linearizable, lost_writes
from trial.marks import ClientOp

ROOT = Path(__file__).parents[2]
PROGRAMS = ("ip", "nft", "nsenter", "unshare", "java", "ipmi_sim", "ceph-mon", "ceph-osd", "qemu-storage-daemon")
PACKAGES = ("core", "drivers", "formats", "trial")
TIMING = Timing(
    session_timeout_ms=8_000,
    fresh_ms=2_000,
    withdraw_ms=500,
    suspect_ms=2_000,
    commit_ms_max=5_000,
    fence_ms_max=15_000,
    recover_ms=180_000,
)
SETTLE_MS_MAX = 240_000
DB = ServiceName("mariadb")
EVERY_MS = 20
HANG_UP_MS = 50
"""What is without an answer and ends so shortly before the history does was cut off by the clients themselves."""
ANSWER_S_MAX = 60.0
LOOK_S = 0.1


class Seen:
    """What clients saw in a while: filled in at its end. ``kept``: what is in each register now."""

    def __init__(self, file: Path, base: int) -> None:
        self.file = file
        self.base = base
        self.ops: list[ClientOp] = []
        self.kept: dict[ServiceName, list[Row] | None] = {}

    def so_far(self, service: ServiceName = DB) -> list[ClientOp]:
        """The operations on a service that have ended by now."""
        return [op for op in read_history(self.file) if op.service == service]

    def failed(self, *services: ServiceName) -> list[ClientOp]:
        """The operations that were not answered well, without those under way when the clients hung up."""
        end_ms = max((op.answered_ms for op in self.ops), default=0)
        bad = [op for op in self.ops if op.outcome != "ok" and (op.service in services or not services)]
        return [op for op in bad if op.node or op.answered_ms < end_ms - HANG_UP_MS]

    def gap_ms(self, service: ServiceName = DB) -> int:
        """The longest time between two good answers."""
        times = sorted(op.answered_ms for op in self.ops if op.service == service and op.outcome == "ok")
        return max(after - before for before, after in itertools.pairwise(times))

    def epochs(self, service: ServiceName = DB) -> set[Epoch]:
        """Under which epochs clients were answered."""
        return {op.epoch for op in self.ops if op.service == service and op.outcome == "ok"}

    def unsafe(self) -> list[str]:
        """What must never happen and did."""
        found = [f"{op.node} answered under epoch {op.epoch} after a newer one" for op in double_writers(self.ops)]
        if problem := linearizable(self.ops):
            found.append(problem)
        for service, own in by_service(self.ops):
            kept = self.kept.get(service)
            if service not in self.kept:
                continue
            if kept is None:
                found.append(f"{service}: no register to audit")
                continue
            found += [f"{op.value} of {service} is lost" for op in lost_writes(own, 0, [row.value for row in kept])]
            if problem := out_of_order(kept):
                found.append(problem)
        return found if acknowledged(self.ops) else [*found, "nothing was acknowledged at all"]


class HardLab:
    """The lab that is up, and what a test does to it."""

    def __init__(self, rack: LabRack, plan: Blueprint, scratch: Path) -> None:
        self.rack = rack
        self.plan = plan
        self.scratch = scratch
        self.nodes = tuple(node.id for node in plan.layout.nodes)
        self.endpoints: tuple[Endpoint, ...] = endpoints(lab_catalog(plan))
        self._runs = 0

    # -- clients ----------------------------------------------------------------------------------------------------

    @contextmanager
    def clients(self, calm_s: float = 2.0) -> Iterator[Seen]:
        """Ask every singleton all the time; at the end all of it is judged, ``calm_s`` after the last good word."""
        self._runs += 1
        base = time.time_ns() // 1_000_000
        seen = Seen(self.scratch / f"history-{self._runs}.jsonl", base)
        seen.file.touch()
        plan = self.scratch / f"clients-{self._runs}.json"
        plan.write_bytes(msgspec.json.encode(ClientPlan(endpoints=self.endpoints, every_ms=EVERY_MS, base=base)))
        argv = (sys.executable, "-m", "drivers.lab.client", str(plan), str(seen.file))
        with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL) as clients:
            try:
                self.until(lambda: self._all_answer(seen, base), ANSWER_S_MAX, "clients are answered")
                yield seen
                time.sleep(calm_s)  # the load goes on for a while: nothing to wait for
            finally:
                clients.send_signal(signal.SIGTERM)
        seen.ops = read_history(seen.file)
        for endpoint in self.endpoints:
            if endpoint.keeps:
                seen.kept[endpoint.service] = rows(endpoint, base, 30_000)

    def _all_answer(self, seen: Seen, base: int) -> bool:
        good = {op.service for op in read_history(seen.file) if op.outcome == "ok" and op.op > base}
        return good >= {endpoint.service for endpoint in self.endpoints}

    def await_answers(self, seen: Seen, seconds: float = ANSWER_S_MAX, service: ServiceName = DB) -> None:
        """Wait until an operation that is asked for from now on is answered well."""
        from_ms = now_ms()
        self.until(
            lambda: any(op.invoked_ms >= from_ms and op.outcome == "ok" for op in seen.so_far(service)),
            seconds,
            f"{service} answers again",
        )

    # -- what is known ----------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Look until a condition holds. Raises: AssertionError if it does not in time."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}\n{self.status()}"
            self.rack.timeline.run_until(now_ms() + int(LOOK_S * 1_000))

    def settled(self) -> None:
        """Wait until the whole rack is as it should be."""
        settle(self.rack, SETTLE_MS_MAX, _quiet)

    def term(self, service: ServiceName = DB) -> TermRecord:
        found = self.rack.observer.term(service)
        assert found is not None
        return found

    def holder(self, service: ServiceName = DB) -> NodeId:
        return self.term(service).holder

    def session(self, node: NodeId) -> int:
        """The session under which a node is a member; 0 if it is none."""
        member = self.rack.observer.state().members.get(node)
        return member.session if member is not None else 0

    def members(self) -> tuple[NodeId, ...]:
        return self.rack.observer.members()

    def agent(self, node: NodeId) -> int:
        """The process of a node's agent; 0 while there is none."""
        return self._process(node, is_agent)

    def spare(self, node: NodeId) -> int:
        """The process of the agent's substitute; 0 while there is none."""
        return self._process(node, lambda argv: "--spare" in argv)

    def supervisor(self, node: NodeId) -> int:
        return self._process(node, lambda argv: "supervisor" in argv)

    def server(self, node: NodeId) -> int:
        """The process of a node's ZooKeeper server."""
        return self._process(node, lambda argv: any(word.endswith("QuorumPeerMain") for word in argv))

    def _process(self, node: NodeId, wanted: Callable[[list[str]], bool]) -> int:
        pids = processes_of(self.plan.layout, node)
        return next((pid for pid in pids if wanted(argv_of(pid)) and state_of(pid) not in ("", "Z")), 0)

    def running(self, node: NodeId) -> set[str]:
        """The services of which processes run on a node."""
        mark = f"{MARK}={self.home(node) / 'run'}:".encode()
        found = [word for pid in processes_of(self.plan.layout, node) for word in _environment(pid)]
        return {word.removeprefix(mark).decode() for word in found if word.startswith(mark)}

    def status(self) -> str:
        """What ``rack status`` says."""
        return status_text(self.rack.observer.state(), Paint(False))

    def said(self, node: NodeId, kind: str, since_ms: int = 0) -> list[dict[str, Any]]:
        """The log lines of one kind of a node's supervisor and agents."""
        lines = (self.home(node) / "log" / "supervisor.log").read_bytes().splitlines()
        found = [msgspec.json.decode(line) for line in lines if line.startswith(b"{")]
        return [line for line in found if line["kind"] == kind and line["at_ms"] >= since_ms]

    def home(self, node: NodeId) -> Path:
        return self.plan.layout.home(node)

    def folder(self, node: NodeId) -> Path:
        """Where a node's configuration is."""
        return self.plan.layout.folder / "rack" / "nodes" / node

    def programs(self, node: NodeId) -> Path:
        """Where a node's own programs are."""
        return self.scratch / "programs" / node

    def raw(self, path: str) -> dict[str, Any]:
        """A record as it is kept, with the fields that only another version knows."""
        access = self.rack.observer.access
        with Brief(list(access.servers().values()), access.config.tables.tls, 5_000) as brief:
            _, seen = brief.get(path)
        found: dict[str, Any] = msgspec.json.decode(seen.data) if seen is not None and seen.data else {}
        return found

    def ceph_table(self) -> CephTable:
        """How the storage's administrator reaches it."""
        ceph = self.plan.ceph
        return CephTable(conf=ceph.conf, keyring=ceph.keyring(ADMIN), pool=POOL)

    # -- what is done -----------------------------------------------------------------------------------------------

    def restart_agent(self, node: NodeId, number: int = signal.SIGTERM) -> None:
        """End a node's agent and wait until another one is a member and has had the time to say so."""
        before = self.agent(node)
        assert before, f"{node} has no agent"
        since_ms = now_ms()
        os.kill(before, number)
        self.until(lambda: self.said(node, "agent", since_ms), 60, f"another agent on {node}")
        self.until(lambda: self.view_is_fresh(node, before), 60, f"the new agent of {node} is a member")

    def view_is_fresh(self, node: NodeId, before: int) -> bool:
        """Whether what a node shows comes from another process than ``before``, and it has joined."""
        view = self.rack.observer.views().get(node)
        new = self.agent(node)
        return view is not None and view.joined and new not in (0, before) and self._writer(node) != before

    def _writer(self, node: NodeId) -> int:
        shown = msgspec.json.decode((self.home(node) / "run" / "view.json").read_bytes())
        return next((pid for pid in processes_of(self.plan.layout, node) if _inner(pid) == shown["agent"]["pid"]), 0)

    def reload(self, node: NodeId) -> None:
        """Tell a node's supervisor that its configuration changed."""
        os.kill(self.supervisor(node), signal.SIGHUP)

    def drain(self, node: NodeId) -> None:
        """Have a node give away what it holds, and wait until it is in maintenance."""
        self._wish(Wish.DRAIN, node)

    def undrain(self, node: NodeId) -> None:
        """Take a node back into service."""
        self._wish(Wish.UNDRAIN, node)

    def _wish(self, wish: Wish, node: NodeId) -> None:
        def step() -> bool:
            change = self.rack.observer.read(node_path(node))
            if change is None or not isinstance(change.data, NodeRecord):
                return False
            found = next_step(wish, change.data)
            if found.record is not None:
                self.rack.observer.put(change.path, found.record, change.version)
            return found.over

        self.until(step, 60, f"{wish} {node}")

    def on(self, node: NodeId, *argv: str) -> str:
        """Run a command among a node's mounts, as the node's operating system sees them."""
        return call(("nsenter", f"--target={self.supervisor(node)}", "--mount", "--pid", *argv))


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _inner(pid: int) -> int:
    """A process's number within its own pid namespace; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[-1]) for line in lines if line.startswith("NSpid:")), 0)


@contextmanager
def hard_lab(name: str, folder: Path, scratch: Path, nodes: int = 3) -> Iterator[HardLab]:
    """Bring a lab up, whose nodes run copies of the programs; take it away whatever happens."""
    require(*PROGRAMS)
    for node in equal_nodes(nodes):
        for package in PACKAGES:
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, scratch / "programs" / node.id / package, ignore=ignore)
    catalog = load_catalog(ROOT / "catalog" / "lab.toml")
    layout = Layout(
        name=name,
        folder=folder,
        nodes=equal_nodes(nodes),
        vips=tuple(spec.address for spec in catalog.specs if spec.address),
        boot_ms=500,
        programs=str(scratch / "programs" / "{node}"),
    )
    plan = Blueprint(layout=layout, catalog=catalog, timing=TIMING)
    plan = msgspec.structs.replace(plan, layout=msgspec.structs.replace(layout, key=key_of(plan)))
    with outside_again():
        down(name, folder, _quiet)
        try:
            rack = up(plan, _quiet)
            try:
                yield HardLab(rack, plan, scratch)
            finally:
                rack.observer.close()
        finally:
            down(name, folder, _quiet)


@contextmanager
def outside_again() -> Iterator[None]:
    """Bring this thread back to the network namespace that it is in now, wherever it goes in between."""
    import ctypes

    handle = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        libc = ctypes.CDLL(None, use_errno=True)
        problem = libc.setns(handle, 0x40000000)
        os.close(handle)
        assert problem == 0, os.strerror(ctypes.get_errno())


def _quiet(text: str) -> None:
    print(text)
