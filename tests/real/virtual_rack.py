"""A rack with emulated machines for tests: its commands as a person types them, and what is left of it afterwards."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from drivers.lab.layout import Layout, read_layout
from drivers.lab.shell import NETNS, argv_of, pids

ROOT = Path(__file__).parents[2]
BOOT_S_MAX = 900
LOOK_S = 0.5


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
        inside = ("nsenter", f"--net={NETNS / f'{self.name}-client'}")
        argv = (*inside, sys.executable, "-m", "drivers.cli", *words, *config)
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)

    def status(self) -> dict[str, Any]:
        """What ``rack status --json`` says; empty while nobody answers."""
        done = self.rack("status", "--json")
        found: dict[str, Any] = msgspec.json.decode(done.stdout) if done.returncode == 0 else {}
        return found

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
        while not condition():
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
