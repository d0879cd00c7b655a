"""A rack with emulated machines for tests: its commands as a person types them, and what is left of it afterwards."""

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from core.ids import ServiceName
from drivers.lab.client import ClientPlan, read_history
from drivers.lab.layout import Layout, read_layout
from drivers.lab.machines_build import TIMING
from drivers.lab.services import Endpoint
from drivers.lab.shell import NETNS, argv_of, pids

ROOT = Path(__file__).parents[2]
BOOT_S_MAX = 900
LOOK_S = 3.0
"""A look is a command that takes half a second of a processor: what is looked at must not wait for whoever looks."""
COUNTER = Endpoint(service=ServiceName("counter"), address="10.98.0.200", port=8_100, keeps=False)
START_MS_MAX = 60_000
FAILOVER_MS_MAX = TIMING.session_timeout_ms + TIMING.suspect_ms + TIMING.fence_ms_max + START_MS_MAX
"""One failover as the rack's own timers and the catalog of its services bound it, however slow the processors are."""


class VirtualRack:
    """One rack by its name; ``lab`` runs a command of ``rack lab`` on it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    def lab(self, *words: str, seconds: float = BOOT_S_MAX) -> subprocess.CompletedProcess[str]:
        """Run ``rack lab`` with these words, in a process of its own: it moves into the lab's namespaces."""
        count = 2 if words[0] == "machine" else 1
        where = ("--name", self.name, "--dir", str(self.folder))
        argv = (sys.executable, "-m", "drivers.cli", "lab", *words[:count], *where, *words[count:])
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)

    def rack(self, *words: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run ``rack`` with the operator's certificate, where the rack's clients are."""
        config = ("--config", str(self.folder / "rack" / "operator" / "operator.toml"))
        argv = self.inside(sys.executable, "-m", "drivers.cli", *words, *config)
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)

    def inside(self, *argv: str, where: str = "client") -> tuple[str, ...]:
        """The command that runs where the rack's clients are, or on a native node."""
        return ("nsenter", f"--net={NETNS / f'{self.name}-{where}'}", *argv)

    def status(self) -> dict[str, Any]:
        """What ``rack status --json`` says; empty while nobody answers."""
        done = self.rack("status", "--json")
        found: dict[str, Any] = msgspec.json.decode(done.stdout) if done.returncode == 0 else {}
        return found

    def state(self, node: str) -> str:
        """The lifecycle of a node; "coming" before it is a member, "" for one that nobody knows."""
        found = self.status().get("nodes", {}).get(node, {})
        return str(found.get("state", "")) if found.get("member") or found.get("state") != "joined" else "coming"

    def holder(self) -> str:
        """The node that the counter runs on."""
        return str(self.status().get("singletons", {}).get("counter", {}).get("holder", ""))

    @contextmanager
    def clients(self, folder: Path) -> Iterator[Path]:
        """Ask the counter all the time; the history of it, which begins with an answer."""
        plan, history = folder / "clients.json", folder / "history.jsonl"
        wanted = ClientPlan(endpoints=(COUNTER,), every_ms=50, base=time.time_ns() // 1_000_000)
        plan.write_bytes(msgspec.json.encode(wanted))
        history.touch()
        argv = self.inside(sys.executable, "-m", "drivers.lab.client", str(plan), str(history))
        with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL) as running:
            try:
                self.until(lambda: answers(history), 60, "the counter answers")
                yield history
            finally:
                running.send_signal(signal.SIGTERM)

    def layout(self) -> Layout:
        """How the lab is laid out now."""
        found = read_layout(self.folder)
        assert found is not None
        return found

    def console(self, machine: str) -> str:
        """What a machine wrote on its serial port so far."""
        return self.lab("machine", "console", machine, "--past").stdout

    def until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Look until a condition holds. Raises: AssertionError if it does not in time."""
        end = time.monotonic() + seconds
        while not holds(condition):
            assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}\n{self.rack('status').stdout}"
            time.sleep(LOOK_S)  # between two looks

    def down(self) -> subprocess.CompletedProcess[str]:
        """Take it away."""
        return self.lab("down", seconds=120)

    def left(self) -> list[str]:
        """What there still is of it on this machine: namespaces, its folder, processes that name it."""
        spaces = (
            [path.name for path in NETNS.iterdir() if path.name.startswith(f"{self.name}-")] if NETNS.is_dir() else []
        )
        files = [str(self.folder)] if self.folder.exists() else []
        words = f"{self.folder}/"
        return spaces + files + [f"process {pid}" for pid in pids() if any(words in word for word in argv_of(pid))]


def holds(condition: Callable[[], object]) -> bool:
    """Whether a condition holds; a look that the busy machine did not answer in time shows nothing."""
    try:
        return bool(condition())
    except subprocess.TimeoutExpired:
        return False


def answers(history: Path) -> list[tuple[int, str]]:
    """When the counter answered clients well, and from which node."""
    return [(op.answered_ms, op.node) for op in read_history(history) if op.outcome == "ok"]


def away_ms(history: Path) -> int:
    """The longest time that the counter gave nobody a good answer."""
    times = [at_ms for at_ms, _ in answers(history)]
    return max((after - before for before, after in itertools.pairwise(times)), default=0)
