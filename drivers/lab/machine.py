"""One machine of the lab, as a process: it boots, and what runs in it runs in namespaces of its own.

    python -m drivers.lab.machine boot NODEDIR     firmware: wait, plug the cables in, become the operating system
    python -m drivers.lab.machine init NODEDIR     the operating system: process 1 of its own pid namespace

Killing process 1 is a power loss: the kernel kills everything in its namespace and no process can say goodbye. The
operating system starts the node's storage daemons and its supervisor and starts them again when they die, unless a
file in ``hold/`` says that they are to stay dead.
"""

import os
import signal
import sys
import time
import uuid
from pathlib import Path

import msgspec

from core.ids import NodeId
from drivers.lab.layout import Layout, read_layout, to_json
from drivers.lab.network import plug
from drivers.lab.shell import NETNS

LOOK_S = 0.1
RESTART_S = 0.3
"""A process that dies is started again this much later, so that one that cannot start does not eat the processor."""


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """Something the operating system of a node keeps running; ``name`` is that of its log and of its hold file."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = {}


class Software(msgspec.Struct, frozen=True, kw_only=True):
    """What is installed on a node: ``machine.json`` in its folder. ``run_dir`` is emptied at boot.

    ``first``: what runs before the daemons, once at each boot; a machine where it fails stands still.
    """

    node: NodeId
    lab: Path
    run_dir: Path
    boot_id: Path
    daemons: tuple[Daemon, ...]
    first: Daemon | None = None


SOFTWARE_FILE = "machine.json"


def write_software(home: Path, software: Software) -> None:
    """Install a node."""
    (home / SOFTWARE_FILE).write_bytes(to_json(software))


def read_software(home: Path) -> Software:
    """What is installed on the node of this folder."""
    return msgspec.json.decode(
        (home / SOFTWARE_FILE).read_bytes(), type=Software, dec_hook=lambda kind, value: kind(value)
    )


def boot(home: Path) -> None:
    """Take as long as firmware does, plug the node in, and become its process 1. Does not return."""
    begun = time.monotonic()
    (home / "boot.pid").write_text(f"{os.getpid()}\n", encoding="utf-8")
    software = read_software(home)
    layout = read_layout(software.lab)
    if layout is None:
        sys.exit(f"{software.lab}: no lab")
    time.sleep(max(0.0, layout.boot_ms / 1_000 - (time.monotonic() - begun)))
    plug(layout, layout.get(software.node))
    argv = _into(layout, software.node, home)
    os.execvp(argv[0], argv)  # the same process goes on, so that boot.pid stays right


def _into(layout: Layout, node: NodeId, home: Path) -> tuple[str, ...]:
    """The command that becomes a node's process 1."""
    apart = ("unshare", "--fork", "--pid", "--mount-proc", "--kill-child", "--mount", "--propagation", "private")
    python = (layout.python or sys.executable, "-m", "drivers.lab.machine", "init", str(home))
    return ("nsenter", f"--net={NETNS / layout.netns(node)}", *apart, *python)


class System:
    """Process 1 of a node: it starts what is installed, reaps what dies, and never ends by itself."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._software = read_software(home)
        self._running: dict[int, Daemon] = {}
        self._first = self._software.first
        self._due: dict[str, float] = {}

    def come_up(self) -> None:
        """Forget the last boot, and say that this is another one."""
        software = self._software
        for path in sorted(software.run_dir.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
        software.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        software.boot_id.write_text(f"{uuid.uuid4()}\n", encoding="utf-8")
        (self._home / "log").mkdir(exist_ok=True)
        (self._home / "hold").mkdir(exist_ok=True)

    def run(self) -> None:
        """Start and reap for ever."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        if self._first is not None:
            self._start(self._first)
        else:
            self._go_on()
        while True:
            self._start_due()
            signal.sigtimedwait({signal.SIGCHLD}, LOOK_S)
            self._reap()

    def _go_on(self) -> None:
        """Nothing has to be done before the daemons any more."""
        self._due = {daemon.name: 0.0 for daemon in self._software.daemons}

    def _start_due(self) -> None:
        now = time.monotonic()
        for daemon in self._software.daemons:
            due = self._due.get(daemon.name)
            if due is not None and due <= now and not (self._home / "hold" / daemon.name).exists():
                self._start(daemon)

    def _start(self, daemon: Daemon) -> None:
        log = self._home / "log" / f"{daemon.name}.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = (
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        )
        environment = {**os.environ, **daemon.env}
        pid = os.posix_spawnp(
            daemon.argv[0], daemon.argv, environment, file_actions=actions, setsid=True, setsigmask=()
        )
        self._running[pid] = daemon
        self._due.pop(daemon.name, None)

    def _reap(self) -> None:
        """Bury every dead child, also those whose parents died before them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            daemon = self._running.pop(pid, None)
            if daemon is not None and daemon is self._first:
                if status == 0:
                    self._go_on()
            elif daemon is not None:
                self._due[daemon.name] = time.monotonic() + RESTART_S


def main(argv: list[str]) -> None:
    """Boot a node or be its operating system."""
    what, home = argv[1], Path(argv[2])
    if what == "boot":
        boot(home)
    else:
        system = System(home)
        system.come_up()
        system.run()


if __name__ == "__main__":
    main(sys.argv)
