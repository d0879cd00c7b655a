"""All that a service started, as one thing: a cgroup (v2) where one may be made, else found process by process."""

import os
import signal
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from drivers.children import MARK

ROUNDS_MAX = 20
"""How often processes are listed again while they fork faster than they are stopped."""


class Cgroup:
    """One control group of our own. Freezing it also stops what is forked meanwhile, killing it takes all at once."""

    def __init__(self, path: Path) -> None:
        """Make it. Raises: OSError."""
        self._path = path
        path.mkdir(parents=True, exist_ok=True)

    @property
    def procs(self) -> Path | None:
        """The file that a process writes itself into to enter."""
        return self._path / "cgroup.procs"

    def freeze(self, frozen: bool) -> None:
        """Stop or continue every process in it."""
        self._write("cgroup.freeze", "1" if frozen else "0")

    def kill(self) -> None:
        """Kill every process in it, frozen or not."""
        self._write("cgroup.kill", "1")

    def empty(self) -> bool:
        """Whether nothing runs in it."""
        try:
            return "populated 0" in (self._path / "cgroup.events").read_text(encoding="ascii")
        except OSError:
            return True  # removed

    def remove(self) -> None:
        """Remove it if it is empty."""
        with suppress(OSError):  # somebody still dies in it: the next supervisor sweeps it away
            self._path.rmdir()

    def _write(self, name: str, value: str) -> None:
        with suppress(OSError):  # removed: nothing runs in it
            (self._path / name).write_text(value, encoding="ascii")


class Group:
    """What carries a mark in its environment, or belongs to the leader's session: where no cgroup may be made.

    A process that changes its session and its environment escapes it.
    """

    def __init__(self, mark: str) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self.leader = 0

    @property
    def procs(self) -> Path | None:
        """None: it is entered by inheritance."""
        return None

    def freeze(self, frozen: bool) -> None:
        """Stop or continue every process of it, again and again until no new one is found."""
        self._signal_all(signal.SIGSTOP if frozen else signal.SIGCONT)

    def kill(self) -> None:
        """Kill every process of it, until no new one is found."""
        self._signal_all(signal.SIGKILL)

    def empty(self) -> bool:
        """Whether nothing of it runs. ``O(processes of the machine)``."""
        return next(self._members(), 0) == 0

    def remove(self) -> None:
        """Nothing to remove."""

    def _signal_all(self, number: int) -> None:
        if self.leader:
            _send(self.leader, number, group=True)
        seen: set[int] = set()
        for _ in range(ROUNDS_MAX):
            new = [pid for pid in self._members() if pid not in seen]
            if not new:
                return
            for pid in new:
                _send(pid, number, group=False)
            seen.update(new)

    def _members(self) -> Iterator[int]:
        own = os.getpid()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != own and self._belongs(entry):
                yield int(entry.name)

    def _belongs(self, entry: Path) -> bool:
        try:
            state, _, _, session = (entry / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[:4]
            if state in "ZX":
                return False
            if self.leader and int(session) == self.leader:
                return True
            return self._mark in (entry / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return False  # it ended while we looked


def find_base(node: str, run_dir: Path) -> Path | None:
    """Find where cgroups of this supervisor can be made: below its own group; None where that is not allowed.

    The name is this supervisor's own even where many share one machine (the lab).
    """
    own = next((line[4:] for line in _lines("/proc/self/cgroup") if line.startswith("0::")), None)
    mount = next((line.split()[1] for line in _lines("/proc/self/mounts") if line.split()[2] == "cgroup2"), None)
    if own is None or mount is None:
        return None
    base = Path(mount) / own.lstrip("/") / f"moxie-{node}-{zlib.crc32(str(run_dir).encode()):08x}"
    try:
        base.mkdir(exist_ok=True)
    except OSError:
        return None
    return base if (base / "cgroup.kill").exists() and os.access(base / "cgroup.procs", os.W_OK) else None


def step_out(pid: int) -> None:
    """Move a process out of the group of the service that started it, into that of the supervisor, if it is in one.

    For what has to outlive its service. Nothing happens where services have no groups.
    """
    own = next((line[4:] for line in _lines(f"/proc/{pid}/cgroup") if line.startswith("0::")), "")
    mount = next((line.split()[1] for line in _lines("/proc/self/mounts") if line.split()[2] == "cgroup2"), None)
    path = Path(own.lstrip("/"))
    if mount is not None and path.parent.name.startswith("moxie-"):
        with suppress(OSError):  # not ours to write: then it ends with the service, and is started with the next one
            (Path(mount) / path.parent.parent / "cgroup.procs").write_text(str(pid), encoding="ascii")


def sweep(base: Path | None, mark: str) -> None:
    """Kill what an earlier supervisor left running: at our start no service of ours runs yet."""
    if base is None:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _carries(entry, f"{MARK}={mark}".encode()):
                _send(int(entry.name), signal.SIGKILL, group=False)
        return
    for path in base.glob("*/"):
        group = Cgroup(path)
        group.kill()
        group.remove()


def _carries(entry: Path, start: bytes) -> bool:
    try:
        return any(value.startswith(start) for value in (entry / "environ").read_bytes().split(b"\0"))
    except OSError:
        return False


def _send(pid: int, number: int, group: bool) -> None:
    with suppress(ProcessLookupError):  # it ended before
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
