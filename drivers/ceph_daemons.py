"""The storage's daemons of this node, kept running: as units where systemd runs, else as processes of their own.

They outlive whoever starts them: a storage must not stop because the service that makes it grow does. So a process is
known by its command line, which names this node's own folder, and is found again by the next service.
"""

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from drivers.ceph_cluster import CephBroken
from drivers.cgroups import step_out
from drivers.children import environment
from drivers.clock import now_ms
from drivers.log import event as log

UNIT = Path("/etc/systemd/system/moxie-daemon@.service")
UNIT_ROOT = Path("/var/lib/moxie/ceph")
"""The only folder that the unit knows of."""
SYSTEMD = Path("/run/systemd/system")
COMMAND_S_MAX = 30
END_S, KILL_S = 10.0, 5.0
PAUSE_MS, PAUSE_MS_MAX = 1_000, 30_000
STABLE_MS = 60_000


class Runner(Protocol):
    """How daemons run. ``start`` and ``stop`` raise CephBroken."""

    def running(self, name: str, argv: Sequence[str]) -> bool: ...

    def start(self, name: str, argv: Sequence[str]) -> None: ...

    def stop(self, name: str, argv: Sequence[str]) -> None: ...


class Keeper:
    """Starts what does not run, with longer and longer pauses while that does not help."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._started_ms: dict[str, int] = {}
        self._pause_ms: dict[str, int] = {}

    def keep(self, daemons: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        """Start those that do not run; what is wrong, a sentence each."""
        said = []
        for name, argv in daemons.items():
            if self._runner.running(name, argv):
                continue
            now, pause_ms = now_ms(), self._pause_ms.get(name, 0)
            since_ms = now - self._started_ms.get(name, now - STABLE_MS)
            if since_ms < pause_ms:
                said.append(f"{name} does not stay up; it is started again in {(pause_ms - since_ms) // 1_000 + 1} s")
                continue
            self._pause_ms[name] = PAUSE_MS if since_ms >= STABLE_MS else min(2 * pause_ms, PAUSE_MS_MAX)
            self._started_ms[name] = now
            log("storage_daemon_starts", daemon=name)
            try:
                self._runner.start(name, argv)
            except CephBroken as error:
                said.append(str(error))
        return tuple(said)

    def stop(self, name: str, argv: Sequence[str]) -> None:
        """End a daemon. Raises: CephBroken."""
        self._runner.stop(name, argv)
        self._started_ms.pop(name, None)


def runner_of(root: Path) -> Runner:
    """How daemons whose files are below ``root`` run on this machine."""
    if SYSTEMD.exists() and UNIT.exists() and root == UNIT_ROOT:
        return Units()
    return Processes(root)


class Units:
    """Daemons as instances of ``moxie-daemon@.service``. ``command``: what controls units."""

    def __init__(self, command: Sequence[str] = ("systemctl",)) -> None:
        self._command = tuple(command)

    def running(self, name: str, argv: Sequence[str]) -> bool:
        """Whether its unit is up, or on its way up or between two tries."""
        del argv
        done = self._do("show", "--property=ActiveState", "--value", _unit(name))
        return done.stdout.strip() in ("active", "activating", "reloading")

    def start(self, name: str, argv: Sequence[str]) -> None:
        """Start its unit, whatever went wrong with it before."""
        del argv
        self._do("reset-failed", _unit(name))
        self._check(self._do("--no-block", "start", _unit(name)), name)

    def stop(self, name: str, argv: Sequence[str]) -> None:
        """Stop its unit, and wait for that."""
        del argv
        self._check(self._do("stop", _unit(name)), name)

    def _do(self, *words: str) -> "subprocess.CompletedProcess[str]":
        try:
            return subprocess.run(
                (*self._command, *words), capture_output=True, text=True, timeout=COMMAND_S_MAX, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CephBroken(f"{self._command[0]}: {error}") from None

    def _check(self, done: "subprocess.CompletedProcess[str]", name: str) -> None:
        if done.returncode:
            raise CephBroken(f"{name}: {done.stderr.strip()[:300]}")


class Processes:
    """Daemons as processes, which append to ``NAME.out`` below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def running(self, name: str, argv: Sequence[str]) -> bool:
        """Whether a process has this command line."""
        self._reap()
        return find(argv) != 0

    def start(self, name: str, argv: Sequence[str]) -> None:
        """Start it in a session and a group of its own, so that nobody who ends our service ends it."""
        try:
            with (self._root / f"{name}.out").open("ab") as out:
                child = subprocess.Popen(
                    argv, env=environment({}), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
                )
        except OSError as error:
            raise CephBroken(f"{name}: {error}") from None
        step_out(child.pid)
        self._children[name] = child

    def stop(self, name: str, argv: Sequence[str]) -> None:
        """Ask it to end, then make it."""
        pid = find(argv)
        if pid:
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                try:
                    for number, seconds in ((signal.SIGTERM, END_S), (signal.SIGKILL, KILL_S)):
                        signal.pidfd_send_signal(handle, number)
                        if select.select([handle], [], [], seconds)[0]:
                            break
                finally:
                    os.close(handle)
        self._reap()
        if find(argv):
            raise CephBroken(f"{name}: process {pid} does not end")

    def _reap(self) -> None:
        self._children = {name: child for name, child in self._children.items() if child.poll() is None}


def find(argv: Sequence[str]) -> int:
    """The process with exactly this command line; 0 if there is none."""
    wanted = b"\0".join(word.encode() for word in argv) + b"\0"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended while we looked
                if (entry / "cmdline").read_bytes() == wanted:
                    return int(entry.name)
    return 0


def _unit(name: str) -> str:
    return f"moxie-daemon@{name}.service"
